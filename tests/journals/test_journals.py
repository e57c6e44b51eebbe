"""Journals of whole calls, kept in the repository, give the same orders on every change."""

import json

import pytest

from app.core.effects import AnyEffect
from app.core.state import Phase
from tests.journals import golden
from tests.journals.stories import STORIES


@pytest.mark.parametrize("name", list(STORIES))
def test_a_kept_journal_replays(name: str) -> None:
    *_, core = golden.replay(golden.path(name).read_text())
    assert core.state.phase is Phase.ended


def test_every_kept_journal_has_its_story() -> None:
    assert {file.stem for file in golden.FOLDER.glob("*.jsonl")} == set(STORIES)


def test_a_divergence_names_its_line() -> None:
    lines = golden.path("ordered").read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if '"HoldPlayout"' in line)
    kept = json.loads(lines[at])
    lines[at] = json.dumps({**kept, "effects": kept["effects"][1:]})
    with pytest.raises(golden.Diverged, match=rf"line {at + 1} \(SpeechStarted"):
        list(golden.replay("\n".join(lines)))


def test_together_they_show_nearly_every_fact_and_order() -> None:
    facts, orders = set(), set()
    for name in STORIES:
        for line in golden.path(name).read_text().splitlines()[1:]:
            kept = json.loads(line)
            facts.add(kept["event"]["type"])
            orders |= {effect["type"] for effect in kept["effects"]}
    every = {kind.__name__ for kind in AnyEffect.__args__}
    assert every - orders == {"CancelTool"}
    assert len(facts) >= 25
