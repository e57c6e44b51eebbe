"""The server that is measured: `serve --speech scripted`, with any flow and with none."""

from pathlib import Path

from tests.e2e.clients import dial
from tests.e2e.server import running

MODELLED = """
flow: shop
version: 1
models:
  fast: {use: openai, model: small}
  strong: {use: openai, model: large}
start: sell
steps:
  sell:
    prompt: Sell something.
    next: [{when: "visits >= 9", to: other}]
  other: {prompt: Ask., model: strong, next: [{when: "visits >= 9", to: bye}, {else: sell}]}
  bye: {say: Goodbye., end: done}
"""


async def test_without_a_flow_an_agent_talks(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[], speech="scripted", llm_tokens=21) as server:
        assert list(server.gate.flows) == ["talk"]
        async with dial(server.ws("/ws/audio"), captions=True) as caller:
            await caller.until(lambda: caller.frames and len(caller.captions) == 2)
            assert caller.captions == ["word " * 7 + "word.", "word word word word"]


async def test_the_scripted_model_stands_in_for_each_that_the_flow_names(tmp_path: Path) -> None:
    flow = tmp_path / "shop.yaml"
    flow.write_text(MODELLED)
    async with (
        running(tmp_path, flows=[flow], speech="scripted", llm_tokens=6) as server,
        dial(server.ws("/ws/audio/shop"), captions=True) as caller,
    ):
        await caller.until(lambda: caller.frames)
        assert caller.captions == ["word word word"]
