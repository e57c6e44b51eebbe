"""A list of people to call, from CSV: each row checked, each bad one told with its line.

Columns: `to`; optional `id` and `time_zone`; all others are values for the flow.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.dialler.address import BadAddress, Numbering, parse
from app.dialler.hours import BadHours, read_zone

MAX_LIST_BYTES = 20_000_000
MAX_ROWS = 100_000
MAX_COLUMNS = 50
MAX_VALUE_CHARS = 1000
MAX_ID_CHARS = 100
MAX_PROBLEMS = 1000
"""Of so many bad rows each is told; the rest are only left out, and the last problem says so."""

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_OURS = ("to", "id", "time_zone")


class BadList(ValueError):
    """Nothing of this list can be used. `str()` of it holds nothing of its rows."""


@dataclass(frozen=True, slots=True)
class Row:
    key: str  # its `id`, or its destination: what its progress is kept under
    to: str  # as it is dialled
    line: int
    zone: str = ""  # empty: the list's
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    text: str  # holds nothing of the row


@dataclass(frozen=True, slots=True)
class Sheet:
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]


def read_rows(body: bytes, numbering: Numbering | None = None, homes: frozenset[str] = frozenset()) -> Sheet:
    """UTF-8, separated by commas, semicolons or tabs, as the first line is. Raises `BadList`."""
    if len(body) > MAX_LIST_BYTES:
        raise BadList(f"a list has at most {MAX_LIST_BYTES} bytes")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadList("a list is written in UTF-8") from error
    lines = _lines(text)
    _, header = next(lines, (0, []))
    names = [name.strip() for name in header]
    names = [name.lower() if name.lower() in _OURS else name for name in names]
    _check_columns(names)
    reading = _Reading(names, numbering or Numbering(), homes)
    for line, fields in lines:
        if any(value.strip() for value in fields):
            reading.take(line, fields)
        if len(reading.rows) > MAX_ROWS:
            raise BadList(f"a list has at most {MAX_ROWS} rows")
    return Sheet(tuple(reading.rows), tuple(reading.problems))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row's fields with the line that it begins on."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadList(f"line {line}: a quote that is not closed, text behind one, or far too long a value") from error


def _check_columns(names: list[str]) -> None:
    if "to" not in names:
        raise BadList("line 1 names the columns, and one of them is: to")
    if len(names) > MAX_COLUMNS:
        raise BadList(f"a list has at most {MAX_COLUMNS} columns")
    if len(set(names)) != len(names):
        raise BadList("two columns have the same name")
    if not all(_COLUMN.fullmatch(name) for name in names):
        raise BadList("columns are named by letters, digits and _")


class _Reading:
    def __init__(self, names: list[str], numbering: Numbering, homes: frozenset[str]) -> None:
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        self._names = names
        self._numbering = numbering
        self._homes = homes
        self._keys: dict[str, int] = {}
        self._destinations: dict[str, int] = {}
        self._zones: set[str] = set()

    def take(self, line: int, fields: list[str]) -> None:
        try:
            self.rows.append(self._row(line, fields))
        except (BadAddress, BadHours, BadList) as error:
            if len(self.problems) < MAX_PROBLEMS:
                self.problems.append(Problem(line, str(error)))
            elif len(self.problems) == MAX_PROBLEMS:
                self.problems.append(Problem(line, "here and below more rows are bad"))

    def _row(self, line: int, fields: list[str]) -> Row:
        if len(fields) != len(self._names):
            raise BadList(f"{len(fields)} values for {len(self._names)} columns")
        if any(len(value) > MAX_VALUE_CHARS for value in fields):
            raise BadList(f"a value has at most {MAX_VALUE_CHARS} characters")
        if any("\0" in value for value in fields):
            raise BadList("a value has no NUL characters")
        values = dict(zip(self._names, (value.strip() for value in fields), strict=True))
        to = parse(values.pop("to"), self._numbering, self._homes)
        zone = values.pop("time_zone", "")
        if zone and zone not in self._zones:
            read_zone(zone)
            self._zones.add(zone)
        name = values.pop("id", "")
        if len(name) > MAX_ID_CHARS or not name.isprintable():
            raise BadList(f"an id has at most {MAX_ID_CHARS} printable characters")
        key = f"id {name}" if name else f"to {to.key}"
        if len(key) > 2 * MAX_ID_CHARS:
            raise BadList("so long an address needs an id")
        for seen, mine, what in ((self._keys, key, "id"), (self._destinations, to.key, "destination")):
            if mine in seen:
                raise BadList(f"the same {what} as in line {seen[mine]}")
        self._keys[key] = self._destinations[to.key] = line
        return Row(key, to.dial, line, zone, values)
