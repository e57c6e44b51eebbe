"""Calling hours by the callee's wall clock, midnight and the change of clocks included."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dialler.hours import BadHours, Hours, day_of, next_day_s, read_hours, read_zone

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "days", "now", "opens"),
    [
        ("09:00-20:00", "mon-sat", "2030-01-31 08:59", "2030-01-31 09:00"),
        ("09:00-20:00", "mon-sat", "2030-01-31 09:00", "2030-01-31 09:00"),
        ("09:00-20:00", "mon-sat", "2030-01-31 19:59", "2030-01-31 19:59"),
        ("09:00-20:00", "mon-sat", "2030-01-31 20:00", "2030-02-01 09:00"),
        ("09:00-20:00", "mon-sat", "2030-02-02 20:00", "2030-02-04 09:00"),
        ("9:00 - 20:00", "tue", "2030-01-31 10:00", "2030-02-05 09:00"),
        ("00:00-24:00", "sun", "2030-02-02 23:59", "2030-02-03 00:00"),
        ("20:00-02:00", "fri", "2030-02-01 19:00", "2030-02-01 20:00"),
        ("20:00-02:00", "fri", "2030-02-02 01:59", "2030-02-02 01:59"),
        ("20:00-02:00", "fri", "2030-02-02 02:00", "2030-02-08 20:00"),
        ("20:00-02:00", "fri", "2030-02-01 01:00", "2030-02-01 20:00"),
        ("20:00-00:00", "fri-mon,wed", "2030-02-05 00:00", "2030-02-06 20:00"),
        ("09:00-20:00", "mon-sun", "2030-03-30 20:00", "2030-03-31 09:00"),
        ("09:00-20:00", "mon-sun", "2030-10-26 20:00", "2030-10-27 09:00"),
    ],
)
def test_opens(hours: str, days: str, now: str, opens: str) -> None:
    assert read_hours(hours, days).next_open_s(at(now), BERLIN) == at(opens)


def test_an_hour_that_comes_twice_and_one_that_does_not() -> None:
    night = read_hours("02:30-04:00")
    # On 27 October 2030 the hour from 2 to 3 comes twice.
    assert night.open_at(at("2030-10-27 02:30"), BERLIN)
    assert not night.open_at(at("2030-10-27 02:15", fold=1), BERLIN)
    assert night.next_open_s(at("2030-10-27 02:00", fold=1), BERLIN) == at("2030-10-27 02:30", fold=1)
    # On 31 March 2030 it does not come.
    opens = night.next_open_s(at("2030-03-31 01:59"), BERLIN)
    assert at("2030-03-31 03:00") <= opens <= at("2030-03-31 03:30")
    assert read_hours("02:10-02:50", "sun").next_open_s(at("2030-03-31 01:00"), BERLIN) == at("2030-04-07 02:10")
    # A day that Samoa left out, a Friday.
    apia = ZoneInfo("Pacific/Apia")
    friday = read_hours("09:00-20:00", "fri")
    assert friday.next_open_s(at("2011-12-29 21:00", apia), apia) == at("2012-01-06 09:00", apia)


@settings(deadline=None)
@given(
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sets(st.integers(0, 6), min_size=1),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo"]
    ),
    st.integers(int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2031, 1, 1, tzinfo=UTC).timestamp())),
)
def test_the_next_opening_is_open(start: int, end: int, days: set[int], zone_name: str, now_s: int) -> None:
    if start == end:
        return
    hours, zone = Hours(start, end, frozenset(days)), ZoneInfo(zone_name)
    opens = hours.next_open_s(now_s, zone)
    assert opens >= now_s
    assert hours.open_at(opens, zone)
    assert opens - now_s <= timedelta(days=15).total_seconds()
    # Nothing in between is open, but for the end of an hour that was left out.
    for part in range(1, 20):
        between = now_s + (opens - now_s) * part / 20
        assert between >= opens - 3600 or not hours.open_at(between, zone)


@pytest.mark.parametrize(
    ("hours", "days"),
    [
        ("", "mon"),
        ("9-20", "mon"),
        ("09:00-09:00", "mon"),
        ("00:00-00:00", "mon"),
        ("24:00-25:00", "mon"),
        ("09:60-10:00", "mon"),
        ("09:00-20:00", ""),
        ("09:00-20:00", "mon-"),
        ("09:00-20:00", "never"),
        ("０9:00-20:00", "mon"),
    ],
)
def test_hours_that_mean_nothing(hours: str, days: str) -> None:
    with pytest.raises(BadHours):
        read_hours(hours, days)


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Olympus", "../../etc/passwd", "/etc", "x" * 5000, "\0", "ü"])
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises(BadHours):
        read_zone(name)


def test_days_of_the_limits() -> None:
    assert day_of(at("2030-03-31 23:59"), BERLIN) == "2030-03-31"
    assert next_day_s(at("2030-03-31 01:00"), BERLIN) == at("2030-04-01 00:00")
    assert next_day_s(at("2030-03-31 00:00"), BERLIN) - at("2030-03-31 00:00") == 23 * 3600


def test_zones_are_known_where_the_system_has_none() -> None:
    program = "from app.dialler.hours import read_zone; print(read_zone('Europe/Berlin'))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, "PYTHONTZPATH": ""}, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"Europe/Berlin\n"
