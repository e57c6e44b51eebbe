"""Counts, spending and lists in their file: races, crashes, files that are not ours."""

import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from app.dialler.outcome import Outcome, Progress
from app.dialler.rules import Limits, Quote, Refusal, Rule, Rules, Used
from app.ports import StoreError
from app.store.dials import FILE_NAME, MAX_NAME_CHARS, DialStore

DAY = "2030-01-31"
LIMITS = Limits(10, 3, spend_per_day_micros=1000, concurrent=10, calls_per_second=1000.0, call_s=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / FILE_NAME


def within(limits: Limits, micros: int = 100, now_s: float = 100.0) -> Callable[[Used], Refusal | None]:
    return partial(_admit, Rules(limits=limits), Quote(micros, micros, 60), now_s)


def _admit(rules: Rules, quote: Quote, now_s: float, used: Used) -> Refusal | None:
    return rules.admit(quote, used, now_s)


def reserve(store: DialStore, to: str = "+491", micros: int = 100, day: str = DAY, at_s: float = 1.0) -> int:
    call = store.reserve(day, to, micros, at_s, lambda _: None)
    assert isinstance(call, int)
    return call


def test_folder_and_file_are_for_the_owner_only(path: Path) -> None:
    with DialStore(path) as store:
        reserve(store)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_calls_reserve_and_settle(path: Path) -> None:
    with DialStore(path) as store:
        first = reserve(store, at_s=5.0)
        second = reserve(store, "+492", 30, at_s=4.0)
        reserve(store, day="2030-02-01", at_s=3.0)
        assert store.used(DAY, "+491") == Used(2, 1, 130, 3, 3.0)
        store.settle(first, 40)
        store.settle(first, 0)
        assert store.used(DAY) == Used(2, 0, 70, 2, 3.0)
        store.settle(second)
        assert store.used(DAY) == Used(2, 0, 70, 1, 3.0)
        assert store.forget_days("2030-02-01") == 2
        assert store.used(DAY).calls == 0
        assert store.used("2030-02-01").calls == 1


def test_a_refused_call_leaves_nothing(path: Path) -> None:
    with DialStore(path) as store:
        refusal = store.reserve(DAY, "+491", 100, 1.0, within(replace(LIMITS, calls_per_day=0)))
        assert isinstance(refusal, Refusal)
        assert refusal.rule is Rule.calls_per_day
        with pytest.raises(ZeroDivisionError):
            store.reserve(DAY, "+491", 100, 1.0, lambda used: Refusal(Rule.denied, str(1 // used.calls)))
        assert store.used(DAY) == Used()


def test_nobody_comes_between_question_and_entry(path: Path) -> None:
    """Two connections, many threads: of 40 calls exactly those that the budget pays are admitted."""
    with DialStore(path) as one, DialStore(path) as two, ThreadPoolExecutor(8) as threads:
        limits = replace(LIMITS, calls_per_day=100, calls_per_destination=100, spend_per_day_micros=700, concurrent=100)

        def attempt(n: int) -> bool:
            store = one if n % 2 else two
            return isinstance(store.reserve(DAY, "+491", 100, float(n), within(limits, now_s=n + 1.0)), int)

        assert sum(threads.map(attempt, range(40))) == 7
        assert one.used(DAY).spent_micros == two.used(DAY).spent_micros == 700
        assert one.used(DAY).live + two.used(DAY).live == 7


def test_a_crash_keeps_reservations_and_rows(path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from app.dialler.outcome import Outcome, Progress
        from app.store.dials import DialStore
        store = DialStore(Path(sys.argv[1]))
        store.settle(store.reserve("2030-01-31", "+491", 500, 1.0, lambda used: None), 20)
        store.reserve("2030-01-31", "+491", 500, 2.0, lambda used: None)
        epoch = store.take("spring")
        store.put("spring", epoch, {"a": Progress((Outcome.busy,), placing=True)})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], timeout=60, check=False)
    assert child.returncode == -9
    with DialStore(path) as store:
        assert store.used(DAY, "+491") == Used(2, 2, 520, 0, 2.0)
        store.settle(2, 0)
        assert store.used(DAY).spent_micros == 520
        assert store.progress("spring") == {"a": Progress((Outcome.busy,), placing=True)}
        assert store.take("spring") == 2


def test_lists_have_one_writer(path: Path) -> None:
    with DialStore(path) as store, DialStore(path) as other:
        mine = store.take("spring")
        assert store.put("spring", mine, {"a": Progress(next_at_s=5.0), "b": Progress((Outcome.answered,))})
        theirs = other.take("spring")
        assert theirs > mine
        assert not store.put("spring", mine, {"a": Progress(placing=True)})
        assert other.put("spring", theirs, {"a": Progress((Outcome.busy, Outcome.no_answer), next_at_s=9.5)})
        assert store.progress("spring") == {
            "a": Progress((Outcome.busy, Outcome.no_answer), next_at_s=9.5),
            "b": Progress((Outcome.answered,)),
        }
        assert store.progress("autumn") == {}


def test_names_have_limits(path: Path) -> None:
    with DialStore(path) as store:
        for name in ("", "x" * (MAX_NAME_CHARS + 1)):
            with pytest.raises(StoreError):
                store.take(name)
            with pytest.raises(StoreError):
                store.put("spring", store.take("spring"), {name: Progress()})


def test_an_outcome_that_is_not_known_was_an_attempt(path: Path) -> None:
    with DialStore(path) as store:
        store.put("spring", store.take("spring"), {"a": Progress((Outcome.busy,))})
        with sqlite3.connect(path) as db:
            db.execute("UPDATE rows SET outcomes = 'busy telepathy'")
        db.close()
        assert store.progress("spring")["a"].outcomes == (Outcome.busy, Outcome.unknown)


def test_files_that_are_not_ours(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError):
        DialStore(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(StoreError, match="not a file of"):
        DialStore(path)
    path.unlink()
    DialStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="format 99"):
        DialStore(path)
    with pytest.raises(StoreError):
        DialStore(path / "below a file" / FILE_NAME)


def test_a_closed_store_says_so(path: Path) -> None:
    store = DialStore(path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.used(DAY)
