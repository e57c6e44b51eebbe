"""The guard language: small, pure, three-valued.

Literals are numbers, 'text' or "text", true and false; a name is a dotted path whose value a lookup gives. There are
`and`, `or`, `not`, `== != < <= > >=`, `in (a, b)`, `+`, `-` and parentheses, and nothing else: no calls, no indexing.

Unknown (None) follows Kleene: `false and unknown` is false, `true or unknown` is true, otherwise unknown spreads. What
does not fit in type is unknown too, so no guard can raise. At the top unknown does not hold: what is not known admits
nothing.
"""

import operator
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

MAX_EXPR_CHARS = 500
MAX_NESTING = 32  # parentheses, `not` and signs within each other
CACHED_EXPRS = 4096

Lookup = Callable[[str], object]
"""The value of a dotted path: a number, text or bool; None where it is unknown. It must not raise."""

_Node = Callable[[Lookup], object]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign>==|!=|<=|>=|[<>+(),-]))"
)
_SPACE = re.compile(r"\s*")
_KEYWORDS = frozenset(("and", "or", "not", "in", "true", "false"))
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = (int, float, str)
_HINTS = {"=": "use == to compare", "!": "use not", "&": "use and", "|": "use or"}


class ExprError(ValueError):
    """A guard that cannot be read. `column` counts from 1 within its text."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column})")
        self.message = message
        self.column = column


def holds(text: str, lookup: Lookup) -> bool:
    """Whether the guard is true; empty text is. Raises `ExprError` where it cannot be read."""
    return _compile(text)[0](lookup) is True


def names(text: str) -> tuple[str, ...]:
    """The dotted paths that it asks for, each once, in their order. Raises `ExprError`."""
    return _compile(text)[1]


def check(text: str) -> None:
    """Raises `ExprError` where it cannot be read."""
    _compile(text)


@lru_cache(CACHED_EXPRS)
def _compile(text: str) -> tuple[_Node, tuple[str, ...]]:
    if len(text) > MAX_EXPR_CHARS:
        raise ExprError(f"longer than {MAX_EXPR_CHARS} characters", MAX_EXPR_CHARS + 1)
    if not text.strip():
        return _constant(True), ()
    parser = _Parser(text)
    node = parser.whole()
    return node, tuple(dict.fromkeys(parser.names))


class _Parser:
    """Recursive descent straight to closures; from `or`, which binds least, down to one operand."""

    def __init__(self, text: str) -> None:
        self.names: list[str] = []
        self._tokens = _tokenize(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._or()
        kind, found, column = self._tokens[self._at]
        if kind != "end":
            raise ExprError(f"{found!r} is not expected here", column)
        return node

    def _or(self) -> _Node:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else partial(_junction, tuple(parts), True)

    def _and(self) -> _Node:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else partial(_junction, tuple(parts), False)

    def _not(self) -> _Node:
        if self._take("not"):
            return partial(_negation, self._deeper(self._not))
        return self._comparison()

    def _comparison(self) -> _Node:
        left = self._sum()
        kind, found, column = self._tokens[self._at]
        if self._take("not"):
            self._need("in")
            return partial(_negation, self._members(left))
        if self._take("in"):
            return self._members(left)
        if kind != "sign" or found not in _COMPARE:
            return left
        self._at += 1
        node = partial(_compare, _COMPARE[found], left, self._sum())
        kind, found, column = self._tokens[self._at]
        if kind == "sign" and found in _COMPARE:
            raise ExprError("comparisons do not chain: use and", column)
        return node

    def _members(self, left: _Node) -> _Node:
        self._need("(")
        parts = [partial(_compare, operator.eq, left, self._sum())]
        while self._take(","):
            parts.append(partial(_compare, operator.eq, left, self._sum()))
        self._need(")")
        return partial(_junction, tuple(parts), True)

    def _sum(self) -> _Node:
        node = self._operand()
        while True:
            if self._take("+"):
                node = partial(_add, 1, node, self._operand())
            elif self._take("-"):
                node = partial(_add, -1, node, self._operand())
            else:
                return node

    def _operand(self) -> _Node:
        if self._take("-"):
            return partial(_add, -1, _constant(0), self._deeper(self._operand))
        if self._take("("):
            node = self._deeper(self._or)
            self._need(")")
            return node
        kind, found, column = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return _constant(float(found) if "." in found else int(found))
        if kind == "text":
            return _constant(found[1:-1])
        if kind == "name" and found in ("true", "false"):
            return _constant(found == "true")
        if kind == "name" and found not in _KEYWORDS:
            self.names.append(found)
            return partial(_value, found)
        raise ExprError("it ends too early" if kind == "end" else f"{found!r} is not expected here", column)

    def _deeper(self, part: Callable[[], _Node]) -> _Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise ExprError(f"nested more than {MAX_NESTING} deep", self._tokens[self._at][2])
        node = part()
        self._depth -= 1
        return node

    def _take(self, token: str) -> bool:
        kind, found, _ = self._tokens[self._at]
        if found != token or kind not in ("sign", "name"):
            return False
        self._at += 1
        return True

    def _need(self, token: str) -> None:
        _, found, column = self._tokens[self._at]
        if not self._take(token):
            raise ExprError(f"{token!r} is missing" + (f" before {found!r}" if found else ""), column)


def _tokenize(text: str) -> list[tuple[str, str, int]]:
    """(kind, found, column from 1), with an "end" at the end."""
    tokens: list[tuple[str, str, int]] = []
    at = 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or ""
        tokens.append((kind, match.group(kind), match.start(kind) + 1))
        at = match.end()
    space = _SPACE.match(text, at)
    at = space.end() if space else at
    if at < len(text):
        odd = text[at]
        message = "a quotation mark is missing" if odd in "'\"" else f"{odd!r} is not part of the guard language"
        raise ExprError(message + (f": {_HINTS[odd]}" if odd in _HINTS else ""), at + 1)
    return [*tokens, ("end", "", len(text) + 1)]


def _constant(value: object) -> _Node:
    return lambda lookup: value


def _value(name: str, lookup: Lookup) -> object:
    return lookup(name)


def _junction(parts: tuple[_Node, ...], decisive: bool, lookup: Lookup) -> bool | None:
    """`or` (decided by true) and `and` (decided by false)."""
    known = True
    for part in parts:
        value = part(lookup)
        if value is decisive:
            return decisive
        known = known and value is (not decisive)
    return (not decisive) if known else None


def _negation(part: _Node, lookup: Lookup) -> bool | None:
    value = part(lookup)
    return not value if isinstance(value, bool) else None


def _compare(compare: Callable[[Any, Any], bool], left: _Node, right: _Node, lookup: Lookup) -> bool | None:
    a, b = left(lookup), right(lookup)
    if type(a) is type(b) and type(a) in _ORDERED:
        return compare(a, b)
    if isinstance(a, bool) and isinstance(b, bool):
        return compare(a, b) if compare in (operator.eq, operator.ne) else None
    if (_is_number(a) and _is_number(b)) or (isinstance(a, str) and isinstance(b, str)):
        return compare(a, b)
    return None


def _add(sign: int, left: _Node, right: _Node, lookup: Lookup) -> int | float | None:
    a, b = left(lookup), right(lookup)
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        return None
    try:
        return a + sign * b
    except OverflowError:  # an int too large for a float
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
