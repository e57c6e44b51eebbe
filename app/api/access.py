"""Who is calling: bearer tokens with a name and a role, one scheme for the API, the console and audio.

Programs on this machine need no token. That is decided by the socket's own address; headers can only take the
privilege away: a forwarded request is not local, and a page of another site in a local browser is not trusted.
"""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from app.settings import Role, Settings, is_loopback
from media.source import field_values, source

MAX_FAILURES = 10  # of one address within the window
WINDOW_S = 60
MAX_ADDRESSES = 10_000  # remembered; the oldest is forgotten
MAX_TOKEN_CHARS = 512
LOCAL = "local"
"""The name of who needs no token."""

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")


@dataclass(frozen=True, slots=True)
class Identity:
    name: str  # the token's
    role: Role


class TooManyAttempts(Exception):
    """This address gave too many wrong tokens; `retry_s` says when it may try again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__("too many attempts")
        self.retry_s = retry_s


class Access:
    """Knows the tokens by their hashes alone. Used on the loop's thread; nothing here blocks."""

    def __init__(self, settings: Settings, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._known = [(token.digest(), Identity(token.name, token.role)) for token in settings.tokens]
        self._trust_loopback = settings.loopback_is_trusted
        self._proxies = settings.trusted_proxies
        self._failures = _Failures(monotonic_s)

    def identify(self, token: str, peer_host: str, headers: Mapping[str, str]) -> Identity | None:
        """Who this is, or None. `peer_host` is the socket's own; `headers` are those of `media.source.field_values`.

        A wrong token is refused even from this machine, if there are tokens at all. Raises `TooManyAttempts`.
        """
        if not token or not self._known:
            return Identity(LOCAL, Role.admin) if self._is_local(peer_host, headers) else None
        address = source(peer_host, headers, self._proxies)
        self._failures.check(address)
        digest = hashlib.sha256(token[:MAX_TOKEN_CHARS].encode("utf-8", "replace")).digest()
        found = None
        for known, identity in self._known:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest) and len(token) <= MAX_TOKEN_CHARS:
                found = identity
        if found is None:
            self._failures.add(address)
        return found

    def require(self, role: Role) -> Callable[[Request], Awaitable[Identity]]:
        """A FastAPI dependency: the request's identity, else 401, 403 or 429."""

        async def identity(request: Request) -> Identity:  # async only so that FastAPI keeps it on the loop
            peer_host = request.client.host if request.client else ""
            headers = field_values(request.headers.raw)
            try:
                found = self.identify(bearer(headers.get("authorization", "")), peer_host, headers)
            except TooManyAttempts as error:
                raise HTTPException(429, "too many attempts", {"Retry-After": str(error.retry_s)}) from None
            if found is None:
                raise HTTPException(401, "a valid access token is needed", {"WWW-Authenticate": "Bearer"})
            if not found.role.covers(role):
                raise HTTPException(403, f"the role {role} is needed")
            return found

        return identity

    def _is_local(self, peer_host: str, headers: Mapping[str, str]) -> bool:
        if not self._trust_loopback or not is_loopback(peer_host):
            return False
        if is_forwarded(headers):
            return False
        # A name that merely resolves to this machine may be a page's own (DNS rebinding).
        host = headers["host"].lower() if "host" in headers else None
        if host is not None and not is_loopback(_hostname(f"//{host}")):
            return False
        origin = headers.get("origin")
        return origin is None or (host is not None and origin.lower() in (f"http://{host}", f"https://{host}"))


def bearer(authorization: str) -> str:
    """The token of an `Authorization` header (RFC 6750, 2.1); empty if it holds none."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy says that it speaks for somebody."""
    return any(name in headers for name in _FORWARDED)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


class _Failures:
    """How often each address was wrong of late."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # start, count; oldest start first

    def check(self, address: str) -> None:
        start_s, count = self._windows.get(address, (0.0, 0))
        left_s = start_s + WINDOW_S - self._monotonic_s()
        if count >= MAX_FAILURES and left_s > 0:
            raise TooManyAttempts(math.ceil(left_s))

    def add(self, address: str) -> None:
        now_s = self._monotonic_s()
        start_s, count = self._windows.get(address, (now_s, 0))
        if now_s - start_s >= WINDOW_S:
            self._windows.pop(address)
            start_s, count = now_s, 0
        self._windows[address] = (start_s, count + 1)
        while len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
