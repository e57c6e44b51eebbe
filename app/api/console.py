"""What the console asks: the calls, live and on record, one call from all sides, and how the flows do.

A viewer reads, an operator acts. Everything told is masked; long work happens in the archive's thread.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from msgspec.structs import replace

from app.api.access import Identity
from app.api.session import SignIn
from app.api.streams import KEEP_ALIVE, EventStream, event, message
from app.api.wire import PRIVATE, About, CallPage, FlowName, SlotLine, answer
from app.core import cdr
from app.core.cdr import CdrError
from app.core.events import HangupOrdered
from app.core.view import hidden
from app.ports import NoSuchCall, StoreError
from app.runtime.archive import Archive, Busy, Wanted
from app.runtime.board import Row, live_row, past_row
from app.runtime.figures import FlowFigures
from app.runtime.hub import Hub, Over
from app.runtime.past import Past, whole
from app.runtime.registry import Registry
from app.settings import Role
from flows import diagram, mermaid
from flows.model import Flow

UPDATE_S: Final = 0.5  # between two changes that one viewer of the live calls is told
KEEP_ALIVE_S: Final = 15.0  # of silence on a stream; and how soon one ends whose viewer has signed out
MAX_STREAMS: Final = 200
MAX_STREAMS_EACH: Final = 50  # of one token
MAX_PAGE: Final = 500  # calls, or records
MAX_MS: Final = 1 << 53
FIGURES_S: Final = 10.0  # that the flows' figures are not counted anew

DRAWING: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", **PRIVATE}

_CALL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(slots=True)
class Console:
    """What its routes work on."""

    sign_in: SignIn
    registry: Registry
    hub: Hub
    archive: Archive
    flows: Mapping[str, Flow]
    data_dir: Path
    streams: Counter[str] = field(default_factory=Counter)  # open now, by whose they are

    def alive(self, call: str) -> Row | None:
        actor = self.registry.get(call)
        return live_row(actor) if actor is not None else None

    def stream(self, request: Request, events: AsyncGenerator[bytes, None]) -> EventStream:
        """Raises 503 where this viewer, or all together, follow too much already."""
        who = self.sign_in.identify(request)
        name = who.name if who is not None else ""
        if self.streams[name] >= MAX_STREAMS_EACH or self.streams.total() >= MAX_STREAMS:
            raise HTTPException(503, "too many pages follow what happens here", {"Retry-After": "5"})
        return EventStream(self._counted(name, events))

    async def _counted(self, name: str, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self.streams[name] += 1
        try:
            async for piece in events:
                yield piece
        finally:
            self.streams[name] -= 1
            if not self.streams[name]:
                del self.streams[name]
            await events.aclose()


class ClearErrors(APIRoute):
    """What can go wrong in all of these routes, as one line of JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def clearly(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                raise HTTPException(422, f"{first['loc'][-1]}: {first['msg']}") from None
            except NoSuchCall:
                raise HTTPException(404, "there is no such call") from None
            except Busy as error:
                raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
            except StoreError:
                raise HTTPException(503, "the journal cannot be read now") from None

        return clearly


def call_id(call: str) -> str:
    if not _CALL.fullmatch(call):
        raise HTTPException(404, "there is no such call")
    return call


CallId = Annotated[str, Depends(call_id)]
Ms = Annotated[int | None, Query(ge=0, le=MAX_MS)]
Count = Annotated[int, Query(ge=0, le=MAX_MS)]
Skip = Annotated[int, Query(alias="from", ge=0, le=MAX_MS)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Name = Annotated[str, Query(max_length=200)]


def router(console: Console) -> APIRouter:
    """`/api/calls`, `/api/live`, `/api/flows` and all below them."""
    api = APIRouter(route_class=ClearErrors, dependencies=[Depends(console.sign_in.require(Role.viewer))])
    _calls(api, console)
    _one_call(api, console)
    _acts(api, console)
    _flows(api, console)
    return api


def _calls(api: APIRouter, console: Console) -> None:
    @api.get("/api/calls")
    async def calls(
        limit: Limit = 100, before: Name = "", flow: Name = "", outcome: Name = "", trouble: bool = False
    ) -> Response:
        if before:
            call_id(before)
        found, more = await console.archive.page(limit, before, Wanted(flow, outcome, trouble), console.alive)
        return answer(CallPage(found, more))

    @api.get("/api/live")
    async def live(request: Request) -> Response:
        return console.stream(request, _live(console, request))

    @api.get("/api/calls/{call}/events")
    async def events(request: Request, call: CallId) -> Response:
        if console.registry.get(call) is None:
            raise HTTPException(404, "this call is not live")
        return console.stream(request, _events(console, request, call))


async def _live(console: Console, request: Request) -> AsyncGenerator[bytes, None]:
    glance = console.hub.board.open()
    loop = asyncio.get_running_loop()
    try:
        yield event("all", glance.everything())
        checked_s = loop.time()
        while not console.hub.closed:
            await asyncio.sleep(UPDATE_S)
            if (news := glance.news()) is not None:
                yield event("change", news)
            if loop.time() - checked_s >= KEEP_ALIVE_S:
                checked_s = loop.time()
                if not console.sign_in.still(request):
                    return
                yield KEEP_ALIVE
    finally:
        glance.close()


async def _events(console: Console, request: Request, call: str) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    checked_s = loop.time()
    try:
        feed = console.hub.subscribe(call)
    except NoSuchCall:  # just now
        return
    try:
        while True:
            if (told := await feed.next(KEEP_ALIVE_S)) is not None:
                yield message(told)
            if loop.time() - checked_s >= KEEP_ALIVE_S:
                checked_s = loop.time()
                if not console.sign_in.still(request):
                    return
                yield KEEP_ALIVE
    except Over:
        return
    finally:
        feed.close()


def _one_call(api: APIRouter, console: Console) -> None:
    archive = console.archive

    @api.get("/api/calls/{call}")
    async def about(call: CallId) -> Response:
        row = console.alive(call)
        return answer(await archive.read(call, lambda past: _about(past, row)))

    @api.get("/api/calls/{call}/timeline")
    async def timeline(call: CallId, from_ms: Ms = None, to_ms: Ms = None) -> Response:
        actor = console.registry.get(call)
        now_ms = actor.now_ms if actor is not None else None

        def told(past: Past) -> Response:
            picture = past.picture(from_ms or 0, to_ms, live=now_ms is not None)
            return answer(replace(picture, duration_ms=max(picture.duration_ms, now_ms or 0)))

        return await archive.read(call, told)

    @api.get("/api/calls/{call}/state")
    async def state(call: CallId, seq: Count) -> Response:
        view = await archive.read(call, lambda past: past.state(seq))
        if not view:
            raise HTTPException(409, "this call's journal cannot be told")
        return answer(msgspec.Raw(view))

    @api.get("/api/calls/{call}/records")
    async def records(call: CallId, skip: Skip = 0, limit: Limit = 100) -> Response:
        """Those after the first `from` ones."""
        found = await archive.read(call, lambda past: past.records(skip, limit))
        return answer({"records": [msgspec.Raw(text) for text in found]})

    @api.get("/api/calls/{call}/recording", dependencies=[Depends(console.sign_in.require(Role.operator))])
    async def recording(call: CallId) -> Response:
        """Voices as they were, unmasked: whoever may hear them live may hear them again."""
        if console.registry.get(call) is not None:
            raise HTTPException(409, "the call is being recorded still")
        file = _below(console.data_dir, (await archive.row(call)).recording)
        if file is None:
            raise HTTPException(404, "there is no recording of this call")
        return FileResponse(file, media_type="audio/wav", headers=PRIVATE)

    @api.get("/api/calls/{call}/download")
    async def download(call: CallId) -> Response:
        row = console.alive(call)
        body = await archive.read(call, lambda past: whole(past, _about(past, row)))
        name = f'attachment; filename="call-{call}.json"'
        return Response(body, headers={"Content-Disposition": name, **PRIVATE}, media_type="application/json")


def _acts(api: APIRouter, console: Console) -> None:
    operator = console.sign_in.require(Role.operator)

    @api.post("/api/calls/{call}/hangup")
    async def hangup(call: CallId, who: Annotated[Identity, Depends(operator)]) -> Response:
        """The call's journal gets who."""
        actor = console.registry.get(call)
        if actor is None:
            raise HTTPException(409, "this call is not live")
        actor.post(HangupOrdered(who.name))
        return answer({}, 202)


def _flows(api: APIRouter, console: Console) -> None:
    counted: list[FlowFigures] = []
    counted_s = float("-inf")
    drawn: dict[str, str] = {}

    @api.get("/api/flows")
    async def flows() -> Response:
        nonlocal counted, counted_s
        now_s = asyncio.get_running_loop().time()
        if now_s - counted_s >= FIGURES_S:
            counted, counted_s = await console.archive.figures(console.flows), now_s
        return answer(counted)

    async def drawing(name: str, kind: str, draw: Callable[[Flow], str]) -> str:
        flow = console.flows.get(name)
        if flow is None:
            raise HTTPException(404, "there is no such flow")
        if (key := f"{name}.{kind}") not in drawn:
            drawn[key] = await asyncio.to_thread(draw, flow)
        return drawn[key]

    @api.get("/api/flows/{name}/graph.svg")
    async def svg(name: str) -> Response:
        return Response(await drawing(name, "svg", diagram.svg), headers=DRAWING, media_type="image/svg+xml")

    @api.get("/api/flows/{name}/graph.mmd")
    async def mmd(name: str) -> Response:
        return Response(await drawing(name, "mmd", mermaid.mermaid), headers=PRIVATE, media_type="text/plain")


def _about(past: Past, live: Row | None) -> About:
    kept = past.row
    row = live or past_row(kept)
    record = None
    if live is None and kept.cdr is not None and row.step:
        try:
            record = cdr.read(kept.cdr)
        except CdrError:
            record = None
    flow = past.flow
    name = FlowName(kept.header.flow, flow.version if flow is not None else 0, kept.header.flow_hash)
    slots = []
    if flow is not None:
        slots = [SlotLine(slot.name, slot.type.value, hidden(flow, slot)) for slot in flow.slots.values()]
    return About(row, record, name, slots, past.seq, past.problem)


def _below(folder: Path, name: str) -> Path | None:
    """A file of the data folder, and none from anywhere else."""
    if not name:
        return None
    file = (folder / name).resolve()
    return file if file.is_relative_to(folder.resolve()) and file.is_file() else None
