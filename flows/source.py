"""YAML text to plain data, with the place of every part.

A small, safe YAML: mappings, lists, text, whole numbers, decimals, true/false and null. "yes", "no" and dates are text.
Tags, aliases, duplicate keys and more than one document are refused, and size, depth and node count are bounded.
"""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from flows.problems import FlowError, Path, Problem, Source

MAX_SOURCE_CHARS = 128 * 1024
MAX_DEPTH = 12
MAX_NODES = 20_000

_QUOTE = "text with : ? , # or braces in it needs quotation marks"
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[+-]?[0-9]{1,15}")
_FLOAT = re.compile(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}")


class _Refused(Exception):
    def __init__(self, mark: yaml.Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.hint = hint


class _Loader(yaml.SafeLoader):
    """Composes nodes only; the values are read from them below."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the base class's way of being configured

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if self.check_event(yaml.AliasEvent):
            raise _Refused(event.start_mark, "aliases (*name) are not allowed", "write it out")
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise _Refused(event.start_mark, f"nested more than {MAX_DEPTH} deep")
        if self._nodes > MAX_NODES:
            raise _Refused(event.start_mark, f"more than {MAX_NODES} values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read(text: str, file: str) -> tuple[object, Source]:
    """The data and the places of its parts. Raises `FlowError` where it is not such YAML."""
    if len(text) > MAX_SOURCE_CHARS:
        raise FlowError([Problem(file, 0, 0, "", f"longer than {MAX_SOURCE_CHARS} characters")])
    places: dict[Path, tuple[int, int]] = {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise FlowError([Problem(file, 1, 1, "", "the file is empty")])
        return _value(root, (), places), Source(file, places)
    except _Refused as error:
        raise FlowError([_at(file, error.mark, error.message, error.hint)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = "not readable as YAML: " + " ".join(filter(None, (error.context, error.problem)))
        problem = _at(file, mark, message, _QUOTE) if mark else Problem(file, 0, 0, "", message, _QUOTE)
        raise FlowError([problem]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FlowError([Problem(file, line, 1, "", "a character that no text file should hold")]) from None


def _at(file: str, mark: yaml.Mark, message: str, hint: str = "") -> Problem:
    return Problem(file, mark.line + 1, mark.column + 1, "", message, hint)


def _value(node: Node, path: Path, places: dict[Path, tuple[int, int]]) -> object:
    mark = node.start_mark
    places.setdefault(path, (mark.line + 1, mark.column + 1))
    match node:
        case MappingNode() if node.tag == _TAG + "map":
            return _mapping(node, path, places)
        case SequenceNode() if node.tag == _TAG + "seq":
            return [_value(item, (*path, at), places) for at, item in enumerate(node.value)]
        case ScalarNode() if node.tag == _TAG + "str":
            return _scalar(node)
    raise _Refused(mark, f"the tag {str(node.tag)[:60]!r} is not allowed", "leave it out")


def _mapping(node: MappingNode, path: Path, places: dict[Path, tuple[int, int]]) -> dict[str, object]:
    data: dict[str, object] = {}
    for key, item in node.value:
        if not isinstance(key, ScalarNode) or key.tag != _TAG + "str":
            raise _Refused(key.start_mark, "a key must be plain text")
        name = str(key.value)
        if name in data:
            first = places[(*path, name)][0]
            raise _Refused(key.start_mark, f"{name!r} stands here twice", f"the first is in line {first}")
        places[(*path, name)] = (key.start_mark.line + 1, key.start_mark.column + 1)
        data[name] = _value(item, (*path, name), places)
    return data


def _scalar(node: ScalarNode) -> object:
    text = str(node.value)
    if node.style is not None:  # quoted, or a block
        return text.strip() if node.style in "|>" else text
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
