"""When calls may begin: a span of each day's clock and the days of the week, wherever the callee is.

What counts is what the clock on the callee's wall shows, so nights when it is put forward or back need no rule of
their own: an hour that comes twice is judged twice, one that does not come is not waited for.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
HORIZON_DAYS = 15  # a week, and one more for days that a change of clocks takes away
MAX_ZONE_CHARS = 64

_HOURS = re.compile(r"(\d{1,2}):(\d\d) ?- ?(\d{1,2}):(\d\d)", re.ASCII)


class BadHours(ValueError):
    """Hours, days or a time zone that mean nothing."""


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start_minute` of a day in `days` (0 is Monday) until before `end_minute`, maybe of the day after."""

    start_minute: int = 9 * 60
    end_minute: int = 20 * 60
    days: frozenset[int] = frozenset(range(6))

    def __post_init__(self) -> None:
        """Raises `BadHours`."""
        start, end = self.start_minute, self.end_minute
        if not (0 <= start < DAY_MINUTES and 0 < end <= DAY_MINUTES and start != end):
            raise BadHours("calling hours are from 00:00 to 24:00, and not empty")
        if not self.days or not self.days <= set(range(7)):
            raise BadHours("calling hours are on some day of the week")

    def open_at(self, now_s: float, zone: ZoneInfo) -> bool:
        local = datetime.fromtimestamp(now_s, zone)
        minute = local.hour * 60 + local.minute
        today = local.weekday() in self.days
        if self.start_minute < self.end_minute:
            return today and self.start_minute <= minute < self.end_minute
        yesterday = (local.weekday() - 1) % 7 in self.days
        return (today and minute >= self.start_minute) or (yesterday and minute < self.end_minute)

    def next_open_s(self, now_s: float, zone: ZoneInfo) -> float:
        """`now_s` if it is open, else when it opens."""
        if self.open_at(now_s, zone):
            return now_s
        today = datetime.fromtimestamp(now_s, zone).date()
        starts = sorted(
            _instant_s(today + timedelta(days=days), self.start_minute, zone, fold)
            for days in range(-1, HORIZON_DAYS)
            for fold in (0, 1)
        )
        return next(start for start in starts if start > now_s and self.open_at(start, zone))


def read_hours(hours: str, days: str = "mon-sun") -> Hours:
    """ "09:00-20:00" or "20:00-02:00", "00:00-24:00"; "mon-fri", "sat,sun", "fri-mon,wed". Raises `BadHours`."""
    found = _HOURS.fullmatch(hours.strip())
    if not found:
        raise BadHours("calling hours are written 09:00-20:00")
    start, end = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
    if int(found[2]) > 59 or int(found[4]) > 59:
        raise BadHours("an hour has 60 minutes")
    if start and not end:
        end = DAY_MINUTES
    return Hours(start, end, _read_days(days))


def _read_days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (word.strip()[:3] for word in part.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise BadHours("days are written mon-sat or mon,wed,fri")
        day = DAYS.index(first)
        found.add(day)
        while dash and day != DAYS.index(last):
            day = (day + 1) % 7
            found.add(day)
    return frozenset(found)


def read_zone(name: str) -> ZoneInfo:
    """By its IANA name: "Europe/Berlin". Raises `BadHours`."""
    try:
        if name and len(name) <= MAX_ZONE_CHARS:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, not a name, a folder
        pass
    raise BadHours("no such time zone: it is written Europe/Berlin")


def day_of(now_s: float, zone: ZoneInfo) -> str:
    """ "2030-01-31"."""
    return datetime.fromtimestamp(now_s, zone).date().isoformat()


def next_day_s(now_s: float, zone: ZoneInfo) -> float:
    """When the next day begins there."""
    today = datetime.fromtimestamp(now_s, zone).date()
    return _instant_s(today + timedelta(days=1), 0, zone, 0)


def _instant_s(day: date, minute: int, zone: ZoneInfo, fold: int) -> float:
    wall = datetime.combine(day, time(minute // 60, minute % 60, fold=fold), tzinfo=zone)
    return wall.astimezone(UTC).timestamp()
