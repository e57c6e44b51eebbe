"""`POST /api/calls`: call somebody. An operator's act; the rules of outbound calls decide whether it may be."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from msgspec import Meta, Struct

from app.api.access import Identity
from app.api.session import SignIn
from app.api.wire import answer, read_json
from app.runtime.outbound import NotPlaced, Order, Outbound
from app.settings import Role
from flows import values
from flows.model import Flow, Value

MAX_TO_CHARS: Final = 256
MAX_ANSWER_S: Final = 300
MAX_SLOTS: Final = 60


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """The request's body."""

    to: Annotated[str, Meta(min_length=1, max_length=MAX_TO_CHARS)]
    flow: Annotated[str, Meta(max_length=40)] = ""
    caller: Annotated[str, Meta(max_length=64, pattern=r"\A[+0-9A-Za-z_.*#-]*\Z")] = ""
    answer_s: Annotated[float, Meta(gt=0, le=MAX_ANSWER_S)] = 45.0
    detect: bool = False
    slots: Annotated[dict[str, Value], Meta(max_length=MAX_SLOTS)] = {}


def check_slots(flow: Flow, given: Mapping[str, Value]) -> None:
    """Raises `ValueError` with what is wrong, in one line that holds no value."""
    for name, raw in given.items():
        slot = flow.slots.get(name)
        if slot is None or slot.source:
            raise ValueError(f"the flow {flow.name} has no slot {name} that can be given")
        try:
            values.parse(slot, raw)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def router(sign_in: SignIn, outbound: Callable[[], Outbound | None], flows: Mapping[str, Flow]) -> APIRouter:
    api = APIRouter()
    operator = sign_in.require(Role.operator)

    @api.post("/api/calls")
    async def place(request: Request, who: Annotated[Identity, Depends(operator)]) -> Response:
        wanted: Wanted = await read_json(request, Wanted)
        placing = outbound()
        if placing is None:
            raise HTTPException(503, "this server places no calls: start it with --sip")
        flow = flows.get(wanted.flow or next(iter(flows)))
        if flow is None:
            raise HTTPException(404, "there is no such flow")
        try:
            check_slots(flow, wanted.slots)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        order = Order(
            to=wanted.to,
            flow=flow.name,
            by=who.name,
            caller=wanted.caller,
            answer_s=wanted.answer_s,
            detect=wanted.detect,
            slots=wanted.slots,
        )
        try:
            underway = await placing.place(order)
        except NotPlaced as error:
            raise HTTPException(403 if error.forbidden else 503, f"{error.rule}: {error}") from None
        return answer({"call": underway.call}, 202)

    return api
