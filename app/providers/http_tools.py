"""Tools that are HTTP requests.

Everything that can be decided without the network is decided before the first await. Sockets are admitted one by one
(see `ssrf`). Each request has a connection of its own: on a used one it could be lost silently, be sent a second time
by the library, or get a surplus answer that was meant for another call.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from msgspec import Struct
from yarl import URL

from app.ports import Fault, ProviderError, ToolFailed
from app.providers import ssrf
from app.providers.tries import Try, persist, typed
from flows.model import Flow, HttpCall, Tool, Value

CONNECTIONS = 200  # at once, to admitted private addresses and to all others
CONNECT_MS = 3_000
MAX_RESPONSE_BYTES = 256 * 1024
MAX_URL_CHARS = 4_000
MAX_BODY_BYTES = 64 * 1024
CHUNK_BYTES = 16 * 1024

QUERY_METHODS = frozenset(("GET", "DELETE"))
DONE_ELSEWHERE = frozenset((301, 302, 303))
"""Redirects that a server also sends when the work is done (RFC 9110, 15.4)."""

_PLACEHOLDER = re.compile(r"\{(env\.)?([A-Za-z_][A-Za-z0-9_]*)\}")
_ORIGIN = re.compile(r"https?://[^/?#\s]+[/?#]", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEY_CHARS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class _Sending(Struct, frozen=True):
    """A request that is complete but for the connection."""

    method: str
    url: URL
    headers: dict[str, str]
    body: bytes | None
    private: bool


class HttpTools:
    """`environment` holds the variables that flows may name, and no others.

    `resolver` is for tests; without one the system's is used.
    """

    def __init__(self, environment: Mapping[str, str], *, resolver: AbstractResolver | None = None) -> None:
        self._environment = environment
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether private addresses are admitted

    async def stop(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    async def run(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> dict[str, Any]:
        """As `ports.Tools.run`. Cancel it only for reads: a write that is cut off has an outcome that nobody knows,
        and a cancelled coroutine cannot say so."""
        sending = self._prepare(flow, tool, arguments, key)
        return await persist(tool, lambda current: self._send(tool, sending, current))

    def _prepare(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> _Sending:
        assert tool.http is not None
        call = tool.http
        method = call.method.upper()
        text, used = self._url(call, arguments)
        rest = {name: value for name, value in arguments.items() if name not in used}
        body = None
        headers = dict(self._headers(call))
        if key:
            headers["Idempotency-Key"] = quote(key, safe=_KEY_CHARS)
        if method not in QUERY_METHODS:
            body = msgspec.json.encode(rest)
            headers["Content-Type"] = "application/json"
            if len(body) > MAX_BODY_BYTES:
                raise ToolFailed(Fault.too_large, f"a body of more than {MAX_BODY_BYTES} bytes")
        elif rest:
            text += ("&" if "?" in text else "?") + urlencode({name: _text(value) for name, value in rest.items()})
        url = _checked(text)
        private = ssrf.allows(self._allowed(flow), url.raw_host or "", url.port or 0)
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "voicegate"}
        return _Sending(method, url, headers, body, private)

    def _url(self, call: HttpCall, arguments: Mapping[str, Value]) -> tuple[str, set[str]]:
        """The URL, and the arguments that it used. They are encoded, and stand behind the origin or nowhere."""
        used: set[str] = set()
        out = ""
        at = 0
        for match in _PLACEHOLDER.finditer(call.url):
            out += call.url[at : match.start()]
            at = match.end()
            env, name = match.groups()
            if env:
                out += self._variable(name)
                continue
            if not _ORIGIN.match(out):
                raise ToolFailed(Fault.forbidden, f"argument {name} stands in the URL's origin")
            if name not in arguments or arguments[name] == "":
                raise ToolFailed(Fault.rejected, f"argument {name} is missing in the URL")
            out += quote(_text(arguments[name]), safe="")
            used.add(name)
        return out + call.url[at:], used

    def _headers(self, call: HttpCall) -> Iterator[tuple[str, str]]:
        for name, template in call.headers:
            value = _PLACEHOLDER.sub(lambda match: self._variable(match[2]) if match[1] else match[0], template)
            if not _HEADER_NAME.fullmatch(name) or not all(char == "\t" or " " <= char < "\x7f" for char in value):
                raise ToolFailed(Fault.forbidden, "a header holds characters that no header may hold")
            yield name, value

    def _variable(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None:
            raise ToolFailed(Fault.forbidden, f"the variable {name} is not given")
        return value

    def _allowed(self, flow: Flow) -> Iterator[str]:
        for entry in flow.allow_hosts:
            names = [match[2] for match in _PLACEHOLDER.finditer(entry) if match[1]]
            if all(name in self._environment for name in names):
                yield _PLACEHOLDER.sub(lambda match: self._environment[match[2]] if match[1] else match[0], entry)

    async def _send(self, tool: Tool, sending: _Sending, current: Try) -> dict[str, Any]:
        try:
            async with self._session(sending.private).request(
                sending.method,
                sending.url,
                headers=sending.headers,
                data=sending.body,
                allow_redirects=False,
                trace_request_ctx=current,
            ) as response:
                _check_status(response.status, current)
                return typed(tool, _decode(await _read(response), expected=bool(tool.result)))
        except aiohttp.ClientError as error:
            raise ProviderError(_fault(error), "the request") from None

    def _session(self, private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(private)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS,
                force_close=True,
                resolver=self._resolver,
                socket_factory=ssrf.private_socket if private else ssrf.public_socket,
            )
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_only_once)
            trace.on_connection_create_end.append(_connected)
            session = self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),  # one call's cookies are nobody else's
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_MS / 1000),
                auto_decompress=False,
                trace_configs=[trace],
            )
        return session


async def _connected(session: aiohttp.ClientSession, context: Any, params: object) -> None:
    context.trace_request_ctx.doubt = True


async def _only_once(session: aiohttp.ClientSession, context: Any, params: object) -> None:
    """The library sends a PUT or DELETE whose connection broke a second time by itself."""
    if context.trace_request_ctx.doubt:
        raise ProviderError(Fault.cut, "the request")


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _checked(text: str) -> URL:
    if len(text) > MAX_URL_CHARS:
        raise ToolFailed(Fault.too_large, f"a URL of more than {MAX_URL_CHARS} characters")
    if not all("!" <= char <= "~" for char in text):
        raise ToolFailed(Fault.forbidden, "the URL holds characters that no URL may hold")
    try:
        url = URL(text, encoded=True)
        host, port = url.raw_host, url.port
    except ValueError:
        raise ToolFailed(Fault.forbidden, "not a URL") from None
    if url.scheme not in ("http", "https") or not host or not port:
        raise ToolFailed(Fault.forbidden, "not an http or https URL")
    # Servers that decode before they route would see a way upwards in "..%2f" too.
    if any(part in (".", "..") for part in re.split(r"[/\\]", unquote(url.raw_path))):
        raise ToolFailed(Fault.forbidden, "the URL's path leads elsewhere")
    return url


def _check_status(status: int, current: Try) -> None:
    """Raises `ProviderError` unless it is 2xx; a refusal ends the doubt."""
    if 200 <= status < 300:
        return
    current.doubt = status >= 500 or status in DONE_ELSEWHERE
    if status in (401, 403):
        fault = Fault.auth
    elif status in (429, 503):
        fault = Fault.busy
    else:
        fault = Fault.broken if status >= 500 else Fault.rejected
    raise ProviderError(fault, f"status {status}")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise ProviderError(Fault.too_large, f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def _decode(body: bytes, *, expected: bool) -> dict[str, Any]:
    if not body and not expected:
        return {}
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise ProviderError(Fault.malformed, "not JSON") from None
    if not isinstance(fields, dict):
        raise ProviderError(Fault.malformed, "not a JSON object")
    return fields


def _fault(error: aiohttp.ClientError) -> Fault:
    match error:
        case aiohttp.InvalidURL():
            return Fault.forbidden  # a host in a notation that hides an address
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.EACCES:
            return Fault.forbidden
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return Fault.refused
        case aiohttp.ServerTimeoutError():
            return Fault.timeout
        case aiohttp.ClientResponseError():
            return Fault.malformed
    return Fault.cut
