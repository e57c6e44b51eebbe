"""A run as JUnit XML."""

from xml.etree import ElementTree

from app.load import junit
from app.load.record import Capacity
from app.load.results import CallResult
from tests.load.made import MARKUP, call, record, whole


def read(made: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(made)


def cases(suite: ElementTree.Element) -> dict[str, str]:
    """How each ended."""
    return {
        case.attrib["name"]: next((child.tag for child in case), "passed")
        for case in suite.findall("testcase")
        if case.attrib["classname"] == "voicegate.load"
    }


def test_each_condition_is_a_test() -> None:
    suite = read(junit.xml(whole()))
    assert cases(suite) == {
        "the run is whole": "passed",
        "calls came up": "passed",
        "not barge_in_p99_ms > 300": "passed",
        "not late_share > 0.1%": "failure",
        "not key_barge_in_p99_ms > 300": "failure",
        "a number of calls holds all limits": "passed",
    }
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("6", "2", "0")
    messages = [failure.attrib["message"] for failure in suite.iter("failure")]
    assert messages == ["late_share > 0.1%: 0.20%", "not measured"]
    assert "barge_in: n 64" in suite.findtext("system-out", "")
    assert "10 calls held all limits" in suite.findtext("system-out", "")


def test_a_server_that_bears_nobody_is_a_failure() -> None:
    suite = read(junit.xml(record(call(0), capacity=Capacity(0, "with 1 a limit broke", []))))
    (failure,) = suite.iter("failure")
    assert failure.attrib["message"] == "with 1 a limit broke"


def test_a_run_that_is_not_whole_is_an_error_and_no_failure() -> None:
    suite = read(junit.xml(record(call(0), troubles=["process 1 of 2 died"])))
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "1")
    assert cases(suite)["the run is whole"] == "error"


def test_no_call_that_was_up_is_a_failure_with_its_reasons() -> None:
    suite = read(junit.xml(record(CallResult(0, "talk", 0.0, refused="busy"))))
    (failure,) = suite.iter("failure")
    assert failure.attrib["message"] == "none of 1 was up: refused busy 1"


def test_what_servers_say_leaves_the_xml_whole() -> None:
    suite = read(junit.xml(record(CallResult(0, "talk", 0.0, error=MARKUP), address=MARKUP, troubles=[MARKUP])))
    assert suite.attrib["errors"] == "1"
