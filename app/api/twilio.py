"""Points a Twilio number at a flow: the TwiML answer, and the check that it is Twilio who asks.

Sources: twilio.com/docs/voice/twiml/stream, /docs/voice/twiml/connect, /docs/usage/webhooks/webhooks-security.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, HTTPException, Path, Request, Response

from app.api.access import Access
from app.api.wire import read_body
from app.settings import Settings
from media.gateway import LegRequest, Refused
from media.leg import CloseCode

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200
MAX_PARAMETER_CHARS = 400  # Twilio's limit is below 500 for a parameter's name and value together
MAX_ATTACHES = 20  # of one call, so that a stream that fails at once does not go round for ever

_OWN_PORTS = {"https": ":443", "wss": ":443", "http": ":80", "ws": ":80"}

Pairs = Sequence[tuple[str, str]]


def router(settings: Settings, call_is_over: Callable[[str], bool]) -> APIRouter:
    """`POST /twilio/voice` and `/twilio/voice/{flow}`; signatures are checked where there is an auth token.

    `call_is_over(call_sid)` is asked when Twilio comes back after a stream: whether the call has ended on our side.
    """
    auth_token = settings.twilio_auth_token.get_secret_value()
    routes = APIRouter()

    async def answer(request: Request, flow: str = "") -> Response:
        pairs = await read_form(request)
        origin = settings.public_url or f"{request.url.scheme}://{_host(request)}"
        if auth_token:
            url = origin + request.url.path + (f"?{request.url.query}" if request.url.query else "")
            if not is_signed(auth_token, url, pairs, request.headers.get("x-twilio-signature", "")):
                raise HTTPException(403, "the signature is not valid")
        fields = dict(pairs)
        call_sid = fields.get("CallSid", "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,64}", call_sid):
            raise HTTPException(400, "CallSid is missing or not valid")
        attach = request.query_params.get("attach", "0")
        attaches = int(attach) if re.fullmatch(r"[0-9]{1,3}", attach) else MAX_ATTACHES
        if attaches >= MAX_ATTACHES or (attaches and call_is_over(call_sid)):
            return _xml(hangup_twiml())
        parameters = {"caller": fields.get("From", ""), "called": fields.get("To", "")}
        return _xml(stream_twiml(origin, flow, parameters, attaches))

    @routes.post("/twilio/voice")
    async def voice(request: Request) -> Response:
        return await answer(request)

    @routes.post("/twilio/voice/{flow}")
    async def voice_of_flow(
        request: Request, flow: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    ) -> Response:
        return await answer(request, flow)

    return routes


def stream_twiml(origin: str, flow: str, parameters: dict[str, str], attaches: int = 0) -> str:
    """Connect the call's audio to us. When the stream ends, the verb after <Connect> asks again what to do."""
    tail = f"/{flow}" if flow else ""
    stream = f"{_websocket(origin)}/ws/twilio{tail}"
    again = f"{origin}/twilio/voice{tail}?attach={attaches + 1}"
    nested = "".join(
        f'<Parameter name="{_text(name)}" value="{_text(value[:MAX_PARAMETER_CHARS])}"/>'
        for name, value in parameters.items()
        if value
    )
    return (
        f'<Response><Connect><Stream url="{_text(stream)}">{nested}</Stream></Connect>'
        f'<Redirect method="POST">{_text(again)}</Redirect></Response>'
    )


def hangup_twiml() -> str:
    return "<Response><Hangup/></Response>"


def check_stream(settings: Settings, request: LegRequest) -> None:
    """Whether a WebSocket comes from Twilio, which signs its wss URL. Raises `Refused`.

    Without an auth token nothing can be known of who calls, so only programs on this machine may.
    """
    auth_token = settings.twilio_auth_token.get_secret_value()
    if not auth_token:
        if Access(settings).identify("", request.peer, request.headers) is None:
            raise Refused(CloseCode.unauthorized, "the server has no Twilio auth token to check this stream with")
        return
    parts = urlsplit(request.url)
    url = _websocket(settings.public_url) + parts.path + (f"?{parts.query}" if parts.query else "")
    if not is_signed(auth_token, url, (), request.headers.get("x-twilio-signature", "")):
        raise Refused(CloseCode.unauthorized, "the signature is not valid")


def is_signed(auth_token: str, url: str, pairs: Pairs, signature: str) -> bool:
    """Check `X-Twilio-Signature`, in constant time.

    `url` is the whole address that Twilio called, its query included. Twilio is not consistent about the scheme's
    own port in it, so both ways are accepted.
    """
    given = signature.encode("utf-8", "replace")
    found = False
    for candidate in _with_and_without_port(url):
        found |= hmac.compare_digest(sign(auth_token, candidate, pairs).encode(), given)
    return found


def sign(auth_token: str, url: str, pairs: Pairs) -> str:
    """Base64 of HMAC-SHA1 over the URL and the sorted parameters, names and values run together."""
    message = url + "".join(name + value for name, value in sorted(set(pairs)))
    return base64.b64encode(hmac.new(auth_token.encode(), message.encode(), hashlib.sha1).digest()).decode()


async def read_form(request: Request) -> list[tuple[str, str]]:
    """A form body within our limits, else 400, 413 or 415."""
    body = await read_body(request, "application/x-www-form-urlencoded", MAX_BODY_BYTES)
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "the body is not a valid form") from None


def _with_and_without_port(url: str) -> set[str]:
    parts = urlsplit(url)
    port = re.search(r":[0-9]+$", parts.netloc)
    other = parts.netloc[: port.start()] if port else parts.netloc + _OWN_PORTS[parts.scheme]
    return {url, url.replace(parts.netloc, other, 1)}


def _websocket(origin: str) -> str:
    return re.sub(r"^http", "ws", origin)


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    if not re.fullmatch(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", host):
        raise HTTPException(400, "the Host header is missing or not valid")
    return host


def _text(value: str) -> str:
    """For XML 1.0, which has no place for control characters."""
    return escape("".join(char for char in value if char.isprintable()))


def _xml(text: str) -> Response:
    return Response('<?xml version="1.0" encoding="UTF-8"?>\n' + text, media_type="text/xml")
