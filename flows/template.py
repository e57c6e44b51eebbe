"""Templates: paths in braces are replaced by what a lookup says, and nothing else happens.

`{day}`, `{find_slot.time}`, `{env.CLINIC_URL}` and `{value}` are fields; `{{` and `}}` are braces. There are no
formats, no expressions and no nesting, and what is put in is never read as a template again.
"""

import re
from collections.abc import Callable
from functools import lru_cache

MAX_TEMPLATE_CHARS = 4000
MAX_RENDERED_CHARS = 20_000
CACHED_TEMPLATES = 4096

_PART = re.compile(r"\{\{|\}\}|\{(?P<field>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """A template that cannot be read or filled. Its text names fields, never values."""


def render(text: str, lookup: Callable[[str], str | None]) -> str:
    """Fill every field. Raises `TemplateError` where the lookup gives None or the template cannot be read."""
    out = []
    for is_field, part in _parse(text):
        filled = lookup(part) if is_field else part
        if filled is None:
            raise TemplateError(f"{{{part}}} is not known")
        out.append(filled)
    whole = "".join(out)
    if len(whole) > MAX_RENDERED_CHARS:
        raise TemplateError(f"filled, it is longer than {MAX_RENDERED_CHARS} characters")
    return whole


def fields(text: str) -> tuple[str, ...]:
    """The fields' paths, each once, in their order. Raises `TemplateError` where it cannot be read."""
    return tuple(dict.fromkeys(part for is_field, part in _parse(text) if is_field))


@lru_cache(CACHED_TEMPLATES)
def _parse(text: str) -> tuple[tuple[bool, str], ...]:
    """(is a field, its path or the plain text) in order."""
    if len(text) > MAX_TEMPLATE_CHARS:
        raise TemplateError(f"longer than {MAX_TEMPLATE_CHARS} characters")
    parts = []
    for match in _PART.finditer(text):
        found = match.group()
        if match["field"]:
            parts.append((True, match["field"]))
        elif found in ("{", "}"):
            raise TemplateError(f"{found!r} at character {match.start() + 1} belongs to no field; write {found * 2!r}")
        else:
            parts.append((False, found[0] if found in ("{{", "}}") else found))
    return tuple(parts)
