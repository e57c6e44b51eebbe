"""The door for outbound calls, with the real file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.dialler.guard import WAIT_S, Guard, Permit, Refused
from app.dialler.outcome import Outcome, Placed, of_status
from app.dialler.rules import Destinations, Limits, Rule, Rules
from app.ports import StoreError
from app.store.dials import FILE_NAME, DialStore

ZONE = ZoneInfo("Europe/Berlin")
NOW_S = datetime(2030, 1, 31, 23, 30, tzinfo=ZONE).timestamp()
MIDNIGHT_S = datetime(2030, 2, 1, tzinfo=ZONE).timestamp()
TO = "+49 30 123456"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DialStore]:
    with DialStore(tmp_path / FILE_NAME) as store:
        yield store


def guard(store: DialStore, **limits: int) -> Guard:
    settings = {"calls_per_day": 100, "concurrent": 100, "spend_per_day_micros": 1000, "call_s": 120} | limits
    rules = Rules.of(Destinations(["+49"], ["+49900"]), Limits(calls_per_second=1000.0, **settings), {"+49": 100})
    return Guard(rules, store, ZONE)


def refused(answer: Permit | Refused) -> tuple[Rule, float | None]:
    assert isinstance(answer, Refused)
    return answer.refusal.rule, answer.until_s


def permit(answer: Permit | Refused) -> Permit:
    assert isinstance(answer, Permit)
    return answer


def test_without_rules_there_is_no_call(store: DialStore) -> None:
    assert refused(Guard(Rules(), store, ZONE).admit(TO, NOW_S)) == (Rule.not_allowed, None)
    assert store.used("2030-01-31").calls == 0


def test_a_permit_says_what_to_dial_and_for_how_long(store: DialStore) -> None:
    given = permit(guard(store).admit(TO, NOW_S))
    assert given.to.dial == "+4930123456"
    assert given.quote.call_s == 120
    assert store.used("2030-01-31", "+4930123456").spent_micros == 200
    guard(store).settle(given, 61.0)
    assert store.used("2030-01-31").spent_micros == 200
    guard(store).settle(permit(guard(store).admit(TO, NOW_S + 1)), 0.0)
    assert store.used("2030-01-31").spent_micros == 200
    guard(store).settle(permit(guard(store).admit(TO, NOW_S + 2)), None)
    assert store.used("2030-01-31").spent_micros == 400
    assert store.used("2030-01-31").live == 0


def test_refusals_that_last_and_those_that_pass(store: DialStore) -> None:
    assert refused(guard(store).admit("+49900123456", NOW_S)) == (Rule.denied, None)
    assert refused(guard(store).admit("nobody", NOW_S)) == (Rule.malformed, None)
    assert refused(guard(store, spend_per_call_micros=150).admit(TO, NOW_S)) == (Rule.spend_per_call, None)
    permit(guard(store).admit(TO, NOW_S))
    assert refused(guard(store, concurrent=1).admit(TO, NOW_S + 1)) == (Rule.concurrent, NOW_S + 1 + WAIT_S)
    assert refused(guard(store).admit(TO, NOW_S)) == (Rule.calls_per_second, NOW_S + WAIT_S)
    assert refused(guard(store, calls_per_day=1).admit(TO, NOW_S + 1)) == (Rule.calls_per_day, MIDNIGHT_S)
    few = guard(store, calls_per_destination=1)
    assert refused(few.admit("tel:+49-30-123456", NOW_S + 1)) == (Rule.calls_per_destination, MIDNIGHT_S)
    permit(few.admit("+4930123457", NOW_S + 1))
    assert refused(guard(store, spend_per_day_micros=599).admit(TO, NOW_S + 2)) == (Rule.spend_per_day, MIDNIGHT_S)
    permit(guard(store, calls_per_day=1).admit(TO, MIDNIGHT_S))


def test_a_list_is_told_what_passes_and_what_does_not(store: DialStore) -> None:
    for_good, for_today = guard(store).admit("nobody", NOW_S), guard(store, calls_per_day=0).admit(TO, NOW_S)
    assert isinstance(for_good, Refused)
    assert isinstance(for_today, Refused)
    assert for_good.placed == Placed(Outcome.refused)
    assert for_today.placed == Placed(Outcome.refused, hold_until_s=MIDNIGHT_S)


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (Outcome.answered, (200, 202)),
        (Outcome.busy, (486, 600, 603)),
        (Outcome.no_answer, (408, 480, 487)),
        (Outcome.invalid, (404, 410, 484, 604, 607)),
        (Outcome.failed, (0, 302, 400, 401, 403, 407, 488, 500, 503, 606, 699)),
    ],
)
def test_what_a_status_says(outcome: Outcome, statuses: tuple[int, ...]) -> None:
    assert {of_status(status) for status in statuses} == {outcome}


def test_whom_we_called_is_forgotten(store: DialStore) -> None:
    door = guard(store)
    door.settle(permit(door.admit(TO, NOW_S)), 1.0)
    door.settle(permit(door.admit(TO, NOW_S + 86_400)), 1.0)
    assert store.used("2030-01-31").calls == 1
    door.settle(permit(door.admit(TO, NOW_S + 3 * 86_400)), 1.0)
    assert store.used("2030-01-31").calls == 0
    assert store.used("2030-02-01").calls == 1


def test_a_call_that_could_not_be_settled_is_settled_before_the_next(store: DialStore, tmp_path: Path) -> None:
    door = guard(store, concurrent=1)
    given = permit(door.admit(TO, NOW_S))
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER refuse BEFORE UPDATE ON calls BEGIN SELECT RAISE (FAIL, 'full'); END")
        with pytest.raises(StoreError, match="full"):
            door.settle(given, 0.0)
        with pytest.raises(StoreError, match="full"):
            door.admit(TO, NOW_S + 1)
        other.execute("DROP TRIGGER refuse")
    permit(door.admit(TO, NOW_S + 1))
    used = store.used("2030-01-31")
    assert (used.live, used.spent_micros) == (1, 200)


def test_nothing_is_placed_that_cannot_be_counted(store: DialStore) -> None:
    store.close()
    with pytest.raises(StoreError):
        guard(store).admit(TO, NOW_S)
