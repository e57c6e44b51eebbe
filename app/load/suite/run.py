"""The suite as one function: a server of its own or one that serves the suite's flows, and all moments played to it."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from app.load.line import Line
from app.load.lines import TWILIO, websocket_lines
from app.load.suite.moment import Half, Scene, Wire
from app.load.suite.moments import moments
from app.load.suite.play import CALLS, LineMaker, Outcome, play
from app.load.suite.render import Renderer
from app.load.suite.serving import serving
from app.load.suite.tell import Figures, figures
from app.providers.espeak import EspeakTts

RATES_HZ: Final = {Wire.plain_8k: 8000, Wire.plain_16k: 16_000}


async def run_suite(
    address: str = "",
    *,
    half: Half | None = None,
    calls: int = CALLS,
    token: str = "",
    folder: Path | None = None,
    told: Callable[[Outcome, int], None] = lambda outcome, of: None,
) -> list[Outcome]:
    """Each moment's outcome. `told` hears of each as it ends, and how many there are.

    `address` is such as ws://host:8080, of a server that serves the flows beside this file; by default one is started,
    with its journal in `folder`. Raises `NotServing`, `ProviderError` and `line.BadAddress`.
    """
    halves = tuple(Half) if half is None else (half,)
    played = [moment for one in halves for moment in moments(one)]
    played = [moment for start in range(STRIDE) for moment in played[start::STRIDE]]
    async with AsyncExitStack() as stack:
        renderers = {one: await _rendered(one) for one in halves}
        base = address.rstrip("/") or await stack.enter_async_context(serving(folder))
        return await play(
            played,
            renderers,
            lines(base, token),
            calls=calls,
            told=lambda outcome: told(outcome, len(played)),
        )


async def _rendered(half: Half) -> Renderer:
    """All of it made, in speech of its own."""
    tts = EspeakTts()
    try:
        await tts.start()
        renderer = Renderer(tts)
        await renderer.all(moments(half))
    finally:
        await tts.stop()
    return renderer


STRIDE: Final = 17
"""Moments that are alike are not played at once: a second of everybody talking is no second of a telephone line."""


def lines(base: str, token: str = "") -> LineMaker:
    """Raises `line.BadAddress` when a line is made."""

    def line(scene: Scene, wire: Wire) -> Line:
        if wire is Wire.twilio:
            return websocket_lines(f"{base}/ws/{TWILIO}/{scene}", protocol=TWILIO, token=token)(0)
        return websocket_lines(f"{base}/ws/audio/{scene}", rate_hz=RATES_HZ[wire], token=token)(0)

    return line


def to_json(outcomes: list[Outcome]) -> bytes:
    """The figures of each half and of both, and every moment with what was found."""
    by_half: dict[str, Figures] = {
        half: figures(outcome for outcome in outcomes if outcome.moment.half is half) for half in Half
    }
    whole = {"figures": {**by_half, "both": figures(outcomes)}, "moments": outcomes}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)
