"""Signing in to the web pages: a token once, then a cookie that names a session held in memory.

The cookie is worth as much as the token, so it ends: with its time, with the process, or by signing out. A request that
is known by its cookie may act only from one of our own pages (its Origin).
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from app.api.access import Access, Identity, TooManyAttempts, bearer
from app.api.origins import is_own
from app.api.wire import Login, Me, answer, read_json
from app.settings import Role
from media.source import field_values

COOKIE: Final = "voicegate"
SESSION_S: Final = 12 * 3600  # a working day; it is not prolonged
MAX_SESSIONS: Final = 1000  # the oldest ends when there is one more
MAX_SESSIONS_EACH: Final = 50  # of one token

_SAFE: Final = ("GET", "HEAD", "OPTIONS")  # RFC 9110, 9.2.1


class Sessions:
    """Who is signed in, known by the hashes of what their cookies say."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._open: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()  # its end; the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def open(self, identity: Identity) -> str:
        """The cookie's value."""
        self._forget_ended()
        own = [key for key, (_, other) in self._open.items() if other.name == identity.name]
        if len(own) >= MAX_SESSIONS_EACH:
            del self._open[own[0]]
        while len(self._open) >= MAX_SESSIONS:
            self._open.popitem(last=False)
        value = secrets.token_urlsafe(32)
        self._open[_digest(value)] = (self._monotonic_s() + SESSION_S, identity)
        return value

    def find(self, value: str) -> Identity | None:
        ends_s, identity = self._open.get(_digest(value), (0.0, None))
        return identity if ends_s > self._monotonic_s() else None

    def close(self, value: str) -> None:
        self._open.pop(_digest(value), None)

    def _forget_ended(self) -> None:
        now_s = self._monotonic_s()
        while self._open and next(iter(self._open.values()))[0] <= now_s:
            self._open.popitem(last=False)


class SignIn:
    """Who asks: by a bearer token, by a session's cookie, or from this machine."""

    def __init__(self, access: Access, sessions: Sessions | None = None) -> None:
        self._access = access
        self.sessions = sessions if sessions is not None else Sessions()

    def identify(self, request: Request) -> Identity | None:
        """Raises `TooManyAttempts`."""
        headers = field_values(request.headers.raw)
        token = bearer(headers.get("authorization", ""))
        if not token and (found := self._by_cookie(request)) is not None:
            return found
        return self._access.identify(token, _peer(request), headers)

    def still(self, request: Request) -> bool:
        """Whether a request that goes on is still somebody's: its session may have ended meanwhile."""
        try:
            return self.identify(request) is not None
        except TooManyAttempts:
            return False

    def require(self, role: Role) -> Callable[[Request], Awaitable[Identity]]:
        """A FastAPI dependency: the request's identity, else 401, 403 or 429."""

        async def identity(request: Request) -> Identity:  # async only so that FastAPI keeps it on the loop
            try:
                found = self.identify(request)
            except TooManyAttempts as error:
                raise _too_many(error) from None
            if found is None:
                raise HTTPException(401, "please sign in", {"WWW-Authenticate": "Bearer"})
            self._check_origin(request)
            if not found.role.covers(role):
                raise HTTPException(403, f"the role {role} is needed")
            return found

        return identity

    def log_in(self, request: Request, token: str) -> tuple[Identity, str]:
        """Who signed in, and their cookie's value. Raises 401 and 429."""
        try:
            found = self._access.identify(token, _peer(request), field_values(request.headers.raw)) if token else None
        except TooManyAttempts as error:
            raise _too_many(error) from None
        if found is None:
            raise HTTPException(401, "this token is not known here")
        return found, self.sessions.open(found)

    def log_out(self, request: Request) -> None:
        self.sessions.close(request.cookies.get(COOKIE, ""))

    def _by_cookie(self, request: Request) -> Identity | None:
        value = request.cookies.get(COOKIE, "")
        return self.sessions.find(value) if value else None

    def _check_origin(self, request: Request) -> None:
        """A token in the request was put there on purpose; cookies and addresses go along with any page's request."""
        if request.method in _SAFE or bearer(request.headers.get("authorization", "")):
            return
        if COOKIE in request.cookies or "origin" in request.headers:
            check_own(request)


def check_own(request: Request) -> None:
    """Raises 403 unless one of our own pages asks."""
    if not is_own(request.headers.get("origin", ""), request.headers.get("host", "")):
        raise HTTPException(403, "only this server's own pages may do that")


def router(sign_in: SignIn, *, flows: Sequence[str], version: str) -> APIRouter:
    """`/api/me`, `/api/login` and `/api/logout`."""
    api = APIRouter()

    @api.get("/api/me")
    async def me(identity: Annotated[Identity, Depends(sign_in.require(Role.viewer))]) -> Response:
        return answer(Me(identity.name, identity.role.value, list(flows), version))

    @api.post("/api/login")
    async def login(request: Request) -> Response:
        check_own(request)
        given: Login = await read_json(request, Login)
        identity, value = sign_in.log_in(request, given.token)
        said = answer(Me(identity.name, identity.role.value, list(flows), version))
        # By the page's own address: TLS may end at a proxy in front.
        secure = request.headers.get("origin", "").lower().startswith("https:")
        said.set_cookie(COOKIE, value, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
        return said

    @api.post("/api/logout")
    async def logout(request: Request) -> Response:
        check_own(request)
        sign_in.log_out(request)
        said = answer({})
        said.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return said

    return api


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _too_many(error: TooManyAttempts) -> HTTPException:
    return HTTPException(429, "too many attempts", {"Retry-After": str(error.retry_s)})


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()
