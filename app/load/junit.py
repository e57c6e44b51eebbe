"""A run as JUnit XML, for what shows the results of tests."""

import re
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from app.load import figures
from app.load.limits import number
from app.load.record import Record
from app.load.tell import capacity_words, slow_tester, tester

SUITE: Final = "voicegate load"
UNWRITABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold (section 2.2)."""


def xml(record: Record) -> bytes:
    """One test for the run itself, and one for each condition."""
    made = figures.summary(record.calls)
    suite = Element("testsuite", name=SUITE, timestamp=record.began, time=f"{record.seconds:g}")
    properties = SubElement(suite, "properties")
    for name, value in {"address": record.address, **record.options}.items():
        SubElement(properties, "property", name=_clean(name), value=_clean(value))
    whole = _case(suite, "the run is whole", record.seconds)
    if record.troubles:
        SubElement(whole, "error", message=_clean(record.troubles[0])).text = _clean("\n".join(record.troubles))
    up = _case(suite, "calls came up")
    if not made.up:
        kinds = ", ".join(f"{kind} {count}" for kind, count in made.errors.items())
        SubElement(up, "failure", message=_clean(f"none of {made.calls} was up: {kinds}"))
    for one in record.judged:
        case = _case(suite, f"not {one.condition}")
        if one.value is None:
            SubElement(case, "failure", message="not measured")
        elif one.broken:
            found = number(one.value, one.condition.partition(" ")[0])
            SubElement(case, "failure", message=_clean(f"{one.condition}: {found}"))
    if record.capacity is not None:
        bears = _case(suite, "a number of calls holds all limits")
        if not record.capacity.most:
            SubElement(bears, "failure", message=_clean(record.capacity.why))
    SubElement(suite, "system-out").text = _clean("\n".join(_told(record)))
    cases = suite.findall("testcase")
    for name, kind in (("failures", "failure"), ("errors", "error")):
        suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("tests", str(len(cases)))
    indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suite, encoding="unicode")}\n'.encode()


def _case(suite: Element, name: str, seconds: float = 0.0) -> Element:
    return SubElement(suite, "testcase", classname="voicegate.load", name=_clean(name), time=f"{seconds:g}")


def _told(record: Record) -> list[str]:
    made = figures.summary(record.calls)
    lines = [f"{made.up} of {made.calls} calls were up, {record.peak_calls} at once"]
    lines += [
        f"{what}: n {one.count}, p50 {one.p50:g}, p95 {one.p95:g}, p99 {one.p99:g} ms"
        for what, one in made.figures.items()
    ]
    lines += [f"{name}: {share.part} of {share.of}" for name, share in made.shares.items()]
    if record.capacity is not None:
        lines.append(f"{capacity_words(record.capacity)} {record.capacity.why}")
    lines += [tester(record, made), *([slow_tester(made)] if slow_tester(made) else [])]
    return lines


def _clean(text: str) -> str:
    return UNWRITABLE.sub("\ufffd", text)
