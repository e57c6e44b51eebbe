"""What the HTTP interface says."""

from typing import Any, Final

import msgspec
from fastapi import HTTPException, Request, Response
from msgspec import Struct
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from app.core.cdr import Cdr
from app.runtime.board import Row

MAX_BODY_BYTES: Final = 4096
MAX_PROBLEM_CHARS: Final = 200
PRIVATE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of whatever tells of calls."""


class Health(BaseModel):
    status: str  # "ok", or what is wrong
    version: str
    flows: list[str]
    calls: int
    max_calls: int
    admits: bool  # one more call


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    token: str


class Me(Struct, frozen=True):
    name: str
    role: str
    flows: list[str]
    version: str


class CallPage(Struct, frozen=True):
    calls: list[Row]
    more: bool


class FlowName(Struct, frozen=True):
    name: str
    version: int
    hash: str


class SlotLine(Struct, frozen=True):
    name: str
    type: str
    sensitive: bool


class About(Struct, frozen=True):
    """One call, before anybody looks closer. `problem`: why its journal cannot be told, or not to its end."""

    row: Row
    cdr: Cdr | None
    flow: FlowName
    slots: list[SlotLine]
    records: int
    problem: str


def answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, PRIVATE, "application/json")


async def read_body(request: Request, media_type: str, most_bytes: int) -> bytes:
    """All of it, else 400, 413 or 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise HTTPException(415, f"the body must be {media_type}")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > most_bytes:
                raise HTTPException(413, f"the body is larger than {most_bytes} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the body did not come to its end") from None
    return bytes(body)


async def read_json(request: Request, kind: type[Struct]) -> Any:
    """A body of this kind, else 400, 413 or 415."""
    body = await read_body(request, "application/json", MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:  # names the field, and no value
        raise HTTPException(400, f"the body cannot be used: {str(error)[:MAX_PROBLEM_CHARS]}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not valid JSON") from None
