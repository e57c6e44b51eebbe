"""What is wrong with a flow, said so that its author finds the place and the way out."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from msgspec import Struct

ERROR = "error"
WARNING = "warning"

MAX_LISTED = 12  # names that a hint lists

Path = tuple[str | int, ...]
"""Keys and list positions from a file's top, such as ("steps", "verify", "next", 0)."""


class Problem(Struct, frozen=True):
    file: str
    line: int  # from 1; 0: not known
    column: int
    path: str  # "steps.verify.tools"
    message: str
    hint: str = ""
    severity: str = ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        kind = "" if self.severity == ERROR else f"{self.severity}: "
        path = f"{self.path}: " if self.path else ""
        return f"{place}: {kind}{path}{self.message}" + (f" ({self.hint})" if self.hint else "")


class FlowError(Exception):
    """A flow that cannot run. `str()` of it is one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Source(Struct, frozen=True):
    """Where the parts of a flow stand in its file: (line, column) from 1 by path."""

    file: str
    places: Mapping[Path, tuple[int, int]] = {}

    def problem(self, path: Path, message: str, hint: str = "", severity: str = ERROR) -> Problem:
        """At the path's own place, or at the nearest one around it."""
        at = path
        while at and at not in self.places:
            at = at[:-1]
        line, column = self.places.get(at, (0, 0))
        return Problem(self.file, line, column, dotted(path), message, hint, severity)


def dotted(path: Path) -> str:
    """("steps", "verify", "next", 0) is "steps.verify.next[0]"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint: the nearest name, else what there is."""
    names = sorted(known)
    near = get_close_matches(name, names, 1, 0.6)
    if near:
        return f"did you mean {near[0]}?"
    if not names:
        return ""
    return "there is " + ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
