"""WebRTC's signalling over HTTP in the manner of WHIP (RFC 9725), and the tokens for it."""

import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from app.api import origins
from app.api.access import WINDOW_S, Identity, bearer
from app.api.ice import ice_servers
from app.api.tickets import TICKET_S, Tickets, TooManyTickets
from app.api.wire import read_body
from app.settings import Settings
from media.gateway import LegRequest, Refused
from media.leg import CloseCode
from media.sdp import MAX_SDP_BYTES, SdpError
from media.source import field_values, source
from media.webrtc.offer import MAX_FRAGMENT_BYTES, IceRestart
from media.webrtc.server import Gone, WebRtcServer

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
RETRY_S: Final = 5

STATUS: Final = {
    CloseCode.unauthorized: 401,
    CloseCode.forbidden: 403,
    CloseCode.unknown_flow: 404,
    CloseCode.unknown_call: 404,
    CloseCode.too_fast: 429,
    CloseCode.busy: 503,
    CloseCode.going_away: 503,
    CloseCode.timeout: 503,
}
HINTS: Final[Mapping[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": str(WINDOW_S)},
    503: {"Retry-After": str(RETRY_S)},
}


def router(
    settings: Settings,
    server: WebRtcServer,
    tickets: Tickets,
    who: Callable[[Request], Awaitable[Identity]],
) -> APIRouter:
    """`who` says whose a request for a token is, or raises as FastAPI's dependencies do."""
    api = APIRouter(route_class=_readable(settings.allowed_origins))

    @api.post("/api/webrtc/token")
    async def token(request: Request, identity: Annotated[Identity, Depends(who)]) -> dict[str, Any]:
        """A token for one offer, with the ICE servers for it."""
        try:
            minted = tickets.mint(identity, _source(settings, request))
        except TooManyTickets:
            raise HTTPException(429, "too many tokens are not used", {"Retry-After": str(TICKET_S)}) from None
        return {"token": minted, "expires_s": TICKET_S, "ice_servers": _ice_servers(settings, identity.name)}

    @api.post("/webrtc")
    @api.post("/webrtc/{flow}")
    async def offer(request: Request, flow: str = "") -> Response:
        """An offer in, an answer out; the leg's resource is in `Location`."""
        text = await _body(request, SDP, MAX_SDP_BYTES)
        try:
            answer = await server.offer(_leg_request(settings, request, flow), text)
        except SdpError as error:
            raise HTTPException(400, str(error)) from None
        except Refused as error:
            status = STATUS.get(error.code, 500)
            raise HTTPException(status, error.reason, HINTS.get(status)) from None
        headers = {
            "Location": f"/webrtc/leg/{answer.resource}",
            "Accept-Patch": FRAGMENT,
            "Voicegate-Resume": answer.resume,  # also where the connection does not come about
            "Cache-Control": "no-store",
        }
        return Response(answer.sdp, 201, headers, SDP)

    @api.patch("/webrtc/leg/{resource}")
    async def candidates(request: Request, resource: str) -> Response:
        text = await _body(request, FRAGMENT, MAX_FRAGMENT_BYTES)
        try:
            await server.candidates(resource, text)
        except Gone as error:
            raise HTTPException(404, str(error)) from None
        except IceRestart as error:
            raise HTTPException(422, str(error)) from None
        except SdpError as error:
            raise HTTPException(400, str(error)) from None
        return Response(status_code=204)

    @api.delete("/webrtc/leg/{resource}")
    async def goodbye(request: Request, resource: str) -> Response:
        """The caller hangs up. Once more does no harm."""
        try:
            server.delete(resource)
        except Gone as error:
            raise HTTPException(404, str(error)) from None
        return Response(status_code=200)

    @api.options("/webrtc")
    @api.options("/webrtc/{flow}")
    @api.options("/webrtc/leg/{resource}")
    @api.options("/api/webrtc/token")
    async def options(request: Request) -> Response:
        """What a browser asks before it lets a page of an allowed origin call."""
        return Response(status_code=204, headers={"Accept-Post": SDP})

    return api


def _readable(allowed: Collection[str]) -> type[APIRoute]:
    """Routes for pages of these origins, and no others: what is refused can be read there too."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                cors = origins.check(request, allowed)
                try:
                    response = await handler(request)
                except HTTPException as error:
                    error.headers = {**(error.headers or {}), **cors}
                    raise
                response.headers.update(cors)
                return response

            return handle

    return Route


def _leg_request(settings: Settings, request: Request, flow: str) -> LegRequest:
    headers = field_values(request.headers.raw)
    query = dict(request.query_params)
    peer = request.client.host if request.client else ""
    return LegRequest(
        transport="webrtc",
        flow=flow,
        url=str(request.url),
        peer=peer,
        source=source(peer, headers, settings.trusted_proxies),
        headers=headers,
        query=query,
        token=bearer(headers.get("authorization", "")),
        resume=query.get("resume", ""),
        listen=query.get("listen", ""),
    )


def _source(settings: Settings, request: Request) -> str:
    peer = request.client.host if request.client else ""
    return source(peer, field_values(request.headers.raw), settings.trusted_proxies)


def _ice_servers(settings: Settings, name: str) -> list[Mapping[str, Any]]:
    secret = settings.turn_secret.get_secret_value()
    return list(ice_servers(settings.ice_servers, secret, name, time.time()))


async def _body(request: Request, kind: str, most_bytes: int) -> str:
    """Raises 400, 413 and 415."""
    try:
        return (await read_body(request, kind, most_bytes)).decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8") from None
