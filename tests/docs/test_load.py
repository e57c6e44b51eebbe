"""docs/load.md against the load tester."""

import re

import pytest

from app.load import capacity, dial, ear, limits, recording, scenario, steps, tape, tell
from app.load.figures import _SHARES, condition
from app.load.line import Trouble
from app.load.results import What
from app.load.scenario import StepSpec, WaitSpec, loads
from tests.docs.test_docs import DOCS, blocks, codes, section, tables, text_of

LOAD = DOCS / "load.md"
SCENARIOS = [content for info, content in blocks(LOAD) if info == "yml"]


def first_column(heading: str, table: int = 0) -> list[str]:
    return [code for row in tables(section(LOAD, heading))[table] for code in codes(row[0])]


@pytest.mark.parametrize("text", SCENARIOS)
def test_scenarios_that_are_shown_can_be_played(text: str) -> None:
    loads(text, "shown", DOCS)


def test_every_measurement_is_told() -> None:
    assert first_column("What is measured") == list(What)
    assert first_column("What is measured", 1) == list(_SHARES)
    assert f"lasts {ear.LASTS_S * 1000:.0f} ms" in section(LOAD, "What is measured")


def test_every_shipped_scenario_is_told() -> None:
    assert sorted(first_column("Scenarios")) == sorted(scenario.library())


def test_every_step_is_told() -> None:
    rows = tables(section(LOAD, "Writing one"))[0]
    assert [codes(row[0])[0] for row in rows] == list(StepSpec.model_fields)
    waits = next(row[1] for row in rows if row[0] == "`wait`")
    assert set(WaitSpec.model_fields) <= set(re.findall(r"\w+", waits))
    assert f"`patience_ms` ({steps.DEFAULT_PATIENCE_MS:,})" in section(LOAD, "Writing one")


def test_every_kind_of_error_is_told() -> None:
    assert set(first_column("Errors by kind")) == set(Trouble)


def test_conditions_that_are_shown_are_conditions() -> None:
    shown = re.findall(r'--fail-if "([^"]+)"', text_of(LOAD))
    assert len(shown) >= 3
    for one in shown:
        condition(one)


def test_names_that_conditions_may_have_are_names() -> None:
    told = section(LOAD, "In CI")
    for name in codes(told):
        if re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name) and name not in ("voicegate",):
            condition(f"{name} > 1")
    served = set(re.findall(r"server_(\w+)", told))
    assert served == set(tell.SERVER) - {"refused"}


def test_the_limits_of_the_capacity_are_those_of_the_code() -> None:
    assert first_column("How many calls a server bears") == list(limits.DEFAULT)
    told = section(LOAD, "How many calls a server bears")
    assert f"after {capacity.MAX_PROBES} runs" in told
    assert f"to {capacity.FINE * 100:.0f} %" in told
    assert capacity.TRIES == 2
    assert "twice in a row" in told


def test_bounds_are_those_of_the_code() -> None:
    assert f"({tape.MAX_BYTES >> 20} MB for each process)" in text_of(LOAD)
    assert recording.MAX_S == 600
    assert tell.OWN_SHARE == 1 / 20


def test_every_codec_is_told() -> None:
    told = " ".join(row[1] for row in tables(section(LOAD, "The first run, in a minute"))[0])
    for name in (*dial.SIP_CODECS, *dial.WEBRTC_CODECS, "l16/8000"):
        assert name in told
