"""Where calls may go, how many and for how much: tables, and spellings that nobody thought of."""

import re
import string
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.dialler.address import MAX_TEXT_CHARS, Address, Numbering
from app.dialler.rules import BadRule, Destinations, Limits, Quote, Refusal, Rule, Rules, Used, cost_micros

GERMAN = Numbering("49")
EVERYTHING = Destinations(["*", "+", "@pbx.example", "@10.0.0.1"], ["+1900", "+49900"], homes=["trunk.example"])


def dialled(rules: Destinations, text: str) -> str:
    judged = rules.judge(text)
    return judged.dial if isinstance(judged, Address) else judged.rule


def test_nothing_is_allowed_by_default() -> None:
    for text in ("+4930123456", "110", "sip:bob@example.com", "sip:a@127.0.0.1"):
        assert dialled(Destinations(), text) == Rule.not_allowed
    everywhere = Rules.of(Destinations(["*"]), Limits(), {"*": 0})
    to = everywhere.destinations.judge("+4930123456")
    assert isinstance(to, Address)
    quote = everywhere.quote(to)
    assert isinstance(quote, Quote)
    refusal = everywhere.admit(quote, Used(), 0.0)
    assert refusal is not None
    assert refusal.rule is Rule.calls_per_day
    unpriced = Rules(Destinations(["*"]), Limits(calls_per_day=1)).quote(to)
    assert isinstance(unpriced, Refusal)
    assert unpriced.rule is Rule.no_rate


@pytest.mark.parametrize(
    ("allow", "text", "expected"),
    [
        ("+49", "+49 30 123-456", "+4930123456"),
        ("+49", "0049 (30) 123/456", "+4930123456"),
        ("+49", "tel:+49-30-123.456", "+4930123456"),
        ("+49", "TEL:+4930123456", "+4930123456"),
        ("+49", "+49 (0)30 123456", "+4930123456"),
        ("+49", " +4930123456 ", "+4930123456"),
        ("+49", "sip:+4930123456@trunk.example", "+4930123456"),
        ("+49", "SIP:+4930123456@TRUNK.example.:5060;user=phone", "+4930123456"),
        ("0049", "+4930123456", "+4930123456"),
        ("+49", "+4330123456", Rule.not_allowed),
        ("+49", "4930123456", Rule.not_allowed),
        ("+49", "030123456", Rule.not_allowed),
        ("+49", "sip:+4930123456@evil.example", Rule.not_allowed),
        ("+49", "sip:+4930123456@trunk.example.evil.example", Rule.not_allowed),
        ("+", "+15550001111", "+15550001111"),
        ("110", "110", Rule.unnamed),
        ("tel:110", "110", "110"),
        ("*", "112", Rule.unnamed),
        ("*", "0112", Rule.unnamed),
        ("*", "9911", Rule.unnamed),
        ("*", "sip:911@pbx.example", Rule.unnamed),
        ("*", "*67123456", Rule.unnamed),
        ("*", "#31#30123456", Rule.unnamed),
        ("sip:*97@pbx.example", "sip:*97@pbx.example", "sip:*97@pbx.example"),
        ("tel:+4930123456", "+49 30 123456", "+4930123456"),
        ("tel:+4930123456", "+49 30 1234567", Rule.not_allowed),
        ("@example.com", "sip:Bob@EXAMPLE.com", "sip:Bob@example.com"),
        ("@EXAMPLE.com", "bob@example.com", "sip:bob@example.com"),
        ("@example.com", "sips:bob@example.com:5061", "sips:bob@example.com:5061"),
        ("@example.com", "sip:bob@example.com;transport=TLS", "sip:bob@example.com;transport=tls"),
        ("@example.com", "sip:bob@example.com:22", Rule.not_allowed),
        ("@example.com:5070", "sip:bob@example.com:5070", "sip:bob@example.com:5070"),
        ("@example.com:5070", "sip:bob@example.com", Rule.not_allowed),
        ("@example.com", "sip:bob@sub.example.com", Rule.not_allowed),
        ("@example.com", "sip:bob@notexample.com", Rule.not_allowed),
        ("@pbx", "sip:100@pbx", "sip:100@pbx"),
        ("@[2001:DB8:0::1]", "sip:a@[2001:db8::1]:5060", "sip:a@[2001:db8::1]:5060"),
        ("@10.0.0.1", "sip:a@10.0.0.1", "sip:a@10.0.0.1"),
        ("bob@example.com", "sip:BOB@example.com", "sip:BOB@example.com"),
        ("bob@example.com", "sip:alice@example.com", Rule.not_allowed),
    ],
)
def test_allow_list(allow: str, text: str, expected: str) -> None:
    assert dialled(Destinations([allow], homes=["trunk.example"]), text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "++49301234567",
        "+49+30",
        "+0049301234",
        "000049301234",
        "+1234",
        "+49 30 (0) 123456",
        "+49 (0)(0)30 123456",
        "+1234567890123456",
        "1" * 21,
        "+49 30 1234٥",
        "+4930123\uff14\uff15\uff16",
        "\uff0b4930123456",
        "+49\u00a030123456",
        "+49\u200b30123456",
        "+4930123456\r\nVia: x",
        "+4930123456\n",
        "+49\t30123456",
        "+4930123\x00456",
        "+4930123456;phone-context=+1900",
        "tel:+4930123456;ext=1",
        "tel:+4930123456?to=x",
        "+4930123456,,,1900",
        "+4930123456w1900",
        "+4930123456&+1900",
        "bob",
        "http://example.com",
        "sip:",
        "sip:@example.com",
        "sip:bob",
        "sip:bob@",
        "sip:bob@@example.com",
        "sip:bob@evil.example@example.com",
        "sip:bob:secret@example.com",
        "sip:b%6fb@example.com",
        "sip:%2B1900@example.com",
        "sip:bob;maddr=1.2.3.4@example.com",
        "sip:bob@example.com;maddr=1.2.3.4",
        "sip:bob@example.com;transport=tcp;transport=udp",
        "sip:bob@example.com;transport=tcp;lr",
        "sip:bob@example.com;",
        "sip:bob@example.com?Replaces=x",
        "sip:bob@example.com:0",
        "sip:bob@example.com:65536",
        "sip:bob@example.com:",
        "sip:bob@example.com:5060:5060",
        "sip:bob@127.1",
        "sip:bob@0x7f.0.0.1",
        "sip:bob@2130706433",
        "sip:bob@127.0.0.01",
        "sip:bob@256.0.0.1",
        "sip:bob@-a.example",
        "sip:bob@a..example",
        "sip:bob@[::1",
        "sip:bob@[::1%25eth0]",
        "sip:bob@example.com>",
        "<sip:bob@example.com>",
        "sip:bob @example.com",
        "sip:bo,b@example.com",
        "sip:bo/b@example.com",
        "sip:\u0431ob@example.com",
        f"sip:{'a' * 65}@example.com",
        "sip:bob@" + "a." * 130 + "example",
        "+49" + " " * MAX_TEXT_CHARS + "30123456",
        "sip:sip:bob@example.com",
        "tel:sip:bob@example.com",
    ],
)
def test_what_is_not_clear_is_refused(text: str) -> None:
    refusal = EVERYTHING.judge(text)
    assert isinstance(refusal, Refusal)
    assert refusal.rule is Rule.malformed
    assert "\n" not in refusal.line


@pytest.mark.parametrize(
    "text",
    [
        "+1900 555 1234",
        "+1 (900) 555-1234",
        "001-900-5551234",
        "011 1 900 555 1234",
        "1-900-555-1234",
        "01900 5551234",
        "sip:+19005551234@trunk.example",
        "sip:19005551234@10.0.0.1",
        "sip:1.900.555.1234@pbx.example",
        "sip:0019005551234@pbx.example",
        "sip:0111900555123@pbx.example",
        "sip:1_900_555_1234@pbx.example",
        "sip:19005551234abc@pbx.example",
        "+49 (0) 900 123456",
        "+49 0900 123456",
        "0049-0900-123456",
        "4909001234567",
    ],
)
def test_denied_numbers_in_other_clothes(text: str) -> None:
    assert dialled(EVERYTHING, text) == Rule.denied


def test_deny_wins_and_local_numbers_have_a_country() -> None:
    rules = Destinations(["+49", "@pbx.example"], ["0900", "+49137"], numbering=GERMAN)
    assert dialled(rules, "030 123456") == "+4930123456"
    assert dialled(rules, "0900 123456") == Rule.denied
    assert dialled(rules, "+49900123456") == Rule.denied
    assert dialled(rules, "0137 123456") == Rule.denied
    assert dialled(rules, "sip:0900123456@pbx.example") == Rule.denied
    assert dialled(rules, "sip:030123456@pbx.example") == Rule.ambiguous
    assert dialled(rules, "sip:030123@pbx.example") == "sip:030123@pbx.example"
    american = Destinations(["+1"], ["+1900"], numbering=Numbering("1", "1", "011"))
    assert dialled(american, "1 555 000 1111") == "+15550001111"
    assert dialled(american, "011 1 900 000 1111") == Rule.denied
    assert dialled(american, "900 000 1111") == Rule.denied
    assert dialled(american, "011 49 30 123456") == Rule.not_allowed


def test_deny_of_hosts_and_short_codes() -> None:
    rules = Destinations(["*"], ["@bad.example", "sip:bob@example.com", "118", "tel:0815"])
    assert dialled(rules, "sip:x@BAD.example.:9999") == Rule.denied
    assert dialled(rules, "sip:x@sub.bad.example") == "sip:x@sub.bad.example"
    assert dialled(rules, "sips:Bob@example.com:7000") == Rule.denied
    assert dialled(rules, "11833") == Rule.denied
    assert dialled(rules, "sip:11833@pbx.example") == Rule.denied
    assert dialled(rules, "0815") == Rule.denied
    assert dialled(rules, "08151") == "08151"
    assert dialled(Destinations(["+49"], ["*"]), "+4930123456") == Rule.denied


@pytest.mark.parametrize(
    "text",
    ["", "+0", "@", "@a b", "+49x", "**", "%", "sip:", "tel:x", "http://x", "+" + "1" * 20, "@host:99999", "４９"],
)
def test_patterns_that_mean_nothing_stop_the_start(text: str) -> None:
    with pytest.raises(BadRule):
        Destinations(deny=[text])


SEPARATOR = st.text(" -.()/", max_size=2).filter(lambda text: "(0)" not in text)
HOSTS = ("pbx.example", "10.0.0.1", "trunk.example", "PBX.Example.", "pbx.example:5060", "pbx.example;transport=tcp")


@st.composite
def spelling(draw: st.DrawFn) -> str:
    """One of the ways to write a number that the deny-list has."""
    country, rest = draw(st.sampled_from([("1", "900"), ("49", "900")]))
    rest += draw(st.text(string.digits, min_size=4, max_size=8))
    prefix = draw(st.sampled_from(["+", "00", "011", "0", "", "0011", "000", "tel:+", "TEL:00"]))
    zero = draw(st.sampled_from(["", "0", "(0)", " (0) "]))
    if draw(st.booleans()):
        host = draw(st.sampled_from(HOSTS))
        between = st.text("-.()", max_size=1)
        digits = "".join(digit + draw(between) for digit in country + zero.strip() + rest)
        return f"{draw(st.sampled_from(['sip:', 'SIPS:', '']))}{prefix.split(':')[-1]}{digits}@{host}"
    return prefix + "".join(digit + draw(SEPARATOR) for digit in [*country, zero, *rest])


@given(spelling())
@example("sip:+190(0)1000@pbx.example")
@settings(max_examples=400, deadline=None)
def test_no_spelling_of_a_denied_number_gets_through(text: str) -> None:
    for numbering in (Numbering(), GERMAN, Numbering("1", "1", "011"), Numbering("39", "")):
        rules = Destinations(
            ["*", "+", "@pbx.example"], ["+1900", "+49900"], numbering=numbering, homes=["trunk.example"]
        )
        judged = rules.judge(text)
        if isinstance(judged, Address):
            # With a country of its own, or without what "(0)" leaves out, it is another number, and says so to all.
            user = re.sub(r"^sips?:|@.*$", "", judged.dial)
            assert re.fullmatch(r"\+(?!10*900|490*900)[1-9][0-9]+", user), judged


@given(st.text(max_size=40) | st.text("+0123456789sip:tel@.;%()*# -/x\r\n", max_size=40))
@settings(max_examples=400, deadline=None)
def test_what_gets_through_is_what_was_judged(text: str) -> None:
    first = EVERYTHING.judge(text)
    if isinstance(first, Refusal):
        return
    again = EVERYTHING.judge(first.dial)
    assert isinstance(again, Address)
    assert (again.dial, again.key) == (first.dial, first.key)
    assert set(first.dial) <= set(string.ascii_letters + string.digits + "+@:;=[].-_~")


def test_the_longest_prefix_sets_the_rate() -> None:
    limits = Limits(calls_per_day=9, spend_per_day_micros=10_000_000, call_s=90)
    rates = {"*": 900_000, "+49": 20_000, "+4915": 100_000, "tel:+4915112345678": 0, "@pbx.example": 0}
    rules = Rules.of(Destinations(["*"]), limits, rates)

    def reserve(text: str) -> int | Rule:
        to = rules.destinations.judge(text)
        assert isinstance(to, Address)
        quote = rules.quote(to)
        return quote.reserve_micros if isinstance(quote, Quote) else quote.rule

    assert reserve("+4930123456") == 40_000
    assert reserve("+4915012345678") == 200_000
    assert reserve("+4915112345678") == 0
    assert reserve("+12025550100") == 1_800_000
    assert reserve("sip:100@pbx.example") == 0
    assert reserve("sip:+4930123456@other.example") == 1_800_000
    dear = replace(limits, spend_per_call_micros=1_000_000)
    rules = Rules.of(Destinations(["*"]), dear, rates)
    assert reserve("+12025550100") == Rule.spend_per_call
    rules = Rules.of(Destinations(["*"]), replace(limits, spend_per_day_micros=None), {})
    assert reserve("+12025550100") == 0


@pytest.mark.parametrize(
    ("used", "rule"),
    [
        (Used(), None),
        (Used(calls=9), None),
        (Used(calls=10), Rule.calls_per_day),
        (Used(calls_there=2), Rule.calls_per_destination),
        (Used(spent_micros=900), None),
        (Used(spent_micros=901), Rule.spend_per_day),
        (Used(live=2), Rule.concurrent),
        (Used(last_start_s=99.9), Rule.calls_per_second),
        (Used(last_start_s=99.5), None),
        (Used(last_start_s=5000.0), None),
    ],
)
def test_limits(used: Used, rule: Rule | None) -> None:
    limits = Limits(10, 2, spend_per_day_micros=1000, concurrent=2, calls_per_second=2.0, call_s=60)
    refusal = Rules(limits=limits).admit(Quote(100, 100, 60), used, 100.0)
    assert (refusal.rule if refusal else None) is rule


@pytest.mark.parametrize(("seconds", "cost"), [(0, 0), (-5, 0), (0.02, 7), (60, 7), (60.01, 14), (3600, 420)])
def test_each_minute_begun_is_paid(seconds: float, cost: int) -> None:
    assert cost_micros(7, seconds) == cost


def test_limits_that_mean_nothing() -> None:
    for wrong in ({"calls_per_day": -1}, {"call_s": 0}, {"spend_per_day_micros": -1}, {"concurrent": -1}):
        with pytest.raises(BadRule):
            Limits(**wrong)
    for rate in (0.0, float("nan"), float("inf")):
        with pytest.raises(BadRule):
            Limits(calls_per_second=rate)
    with pytest.raises(BadRule):
        Rules.of(Destinations(), Limits(), {"*": -1})
