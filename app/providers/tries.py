"""What all tools share: tries within one time limit, honest outcomes, typed results."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from app.ports import Fault, ProviderError, ToolFailed, ToolUnknown
from flows.lexicon import WEEKDAYS
from flows.model import SlotType, Tool, ToolEffect, Value

BACKOFF_MS = 100  # before the second try; doubled before each one after it
MAX_BACKOFF_MS = 2_000
MAX_TEXT_CHARS = 2_000  # of one field of a result
MAX_NUMBER = 2.0**53

RETRIED = frozenset((Fault.timeout, Fault.refused, Fault.cut, Fault.broken, Fault.busy))


@dataclass(slots=True)
class Try:
    """`doubt` is true from the moment when the effect may have happened until an answer says that it did not."""

    doubt: bool = False


async def persist(tool: Tool, attempt: Callable[[Try], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Try until it succeeds, at most `1 + tool.retries` times and in `tool.timeout_ms` over all.

    Only reads and tools declared idempotent are tried again. `attempt` raises `ProviderError`; this raises
    `ToolUnknown` if the tool is not a read and any of its tries ended in doubt, else `ToolFailed`.
    """
    read = tool.effect is ToolEffect.read
    tries = 1 + (tool.retries if read or tool.idempotent else 0)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + tool.timeout_ms / 1000
    doubt = False
    failure = ProviderError(Fault.timeout)
    for number in range(tries):
        current = Try()
        try:
            async with asyncio.timeout_at(deadline):
                return await attempt(current)
        except TimeoutError:
            failure = ProviderError(Fault.timeout, f"{tool.timeout_ms} ms")
        except ProviderError as error:
            failure = error
        doubt = doubt or current.doubt or isinstance(failure, ToolUnknown)
        pause_s = min(BACKOFF_MS * 2**number, MAX_BACKOFF_MS) / 1000
        if failure.fault not in RETRIED or number + 1 == tries or loop.time() + pause_s >= deadline:
            break
        await asyncio.sleep(pause_s)
    kind = ToolUnknown if doubt and not read else ToolFailed
    raise kind(failure.fault, str(failure).partition(": ")[2]) from None


def typed(tool: Tool, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that the flow reads, each of its declared type; None where it is missing.

    Raises `ProviderError(malformed)`, which names the field and never its value.
    """
    return {name: _coerce(name, type_, fields.get(name)) for name, type_ in tool.result}


def _coerce(name: str, type_: SlotType, value: Any) -> Value | None:
    if value is None:
        return None
    match type_, value:
        case SlotType.yesno, bool():
            return value
        case ((SlotType.number | SlotType.money), (int() | float())) if not isinstance(value, bool):
            if math.isfinite(value) and abs(value) <= MAX_NUMBER:
                return value
        case ((SlotType.string | SlotType.choice), str()) if len(value) <= MAX_TEXT_CHARS:
            return value
        case SlotType.digits, str() if re.fullmatch(r"[0-9]{1,64}", value):
            return value
        case SlotType.weekday, str() if value in WEEKDAYS:
            return value
        case SlotType.date, str() if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) and _is_date(value):
            return value
    raise ProviderError(Fault.malformed, f"field {name} is not a {type_}")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
