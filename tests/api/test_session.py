"""Signing in: the cookie, how it ends, and pages of other sites."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import SecretStr

from app.api.access import MAX_FAILURES, Access, Identity
from app.api.session import COOKIE, MAX_SESSIONS, MAX_SESSIONS_EACH, SESSION_S, Sessions, SignIn, router
from app.api.wire import MAX_BODY_BYTES
from app.settings import Role, Settings, Token
from tests.fakes.clock import Clock

VIEWER, OPERATOR = "v" * 20, "o" * 20
SETTINGS = Settings(
    tokens=(
        Token(name="wall", role=Role.viewer, token=SecretStr(VIEWER)),
        Token(name="desk", role=Role.operator, token=SecretStr(OPERATOR)),
    ),
    trust_loopback=False,
)
OWN = "https://voice.example.com"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(clock: Clock) -> SignIn:
    return SignIn(Access(SETTINGS, monotonic_s=clock), Sessions(monotonic_s=clock))


def site(sign_in: SignIn, client: str = "203.0.113.5", base_url: str = OWN) -> httpx2.AsyncClient:
    app = FastAPI()
    app.include_router(router(sign_in, flows=["clinic", "refund"], version="1.2"))

    @app.post("/act")
    async def act(identity: Annotated[Identity, Depends(sign_in.require(Role.operator))]) -> str:
        return identity.name

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app, client=(client, 1)), base_url=base_url)


@pytest.fixture
async def page(sign_in: SignIn) -> AsyncIterator[httpx2.AsyncClient]:
    """One of our own pages in a browser, which keeps cookies."""
    async with site(sign_in) as client:
        client.headers["Origin"] = OWN
        yield client


async def log_in(page: httpx2.AsyncClient, token: str = OPERATOR) -> httpx2.Response:
    return await page.post("/api/login", json={"token": token})


async def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(page: httpx2.AsyncClient) -> None:
    assert (await page.get("/api/me")).status_code == 401
    said = await log_in(page)
    assert said.json() == {"name": "desk", "role": "operator", "flows": ["clinic", "refund"], "version": "1.2"}
    attributes = {part.strip().partition("=")[0].lower(): part for part in said.headers["set-cookie"].split(";")}
    assert {"httponly", "secure", "samesite", "path", "max-age"} <= attributes.keys()
    assert attributes["samesite"].lower().endswith("strict")
    assert OPERATOR not in said.headers["set-cookie"]
    assert said.headers["cache-control"] == "no-store"
    assert (await page.get("/api/me")).json() == said.json()
    assert (await page.post("/act")).json() == "desk"


async def test_without_tls_the_cookie_is_not_kept_for_tls(sign_in: SignIn) -> None:
    async with site(sign_in, base_url="http://10.0.0.2:8080") as page:
        page.headers["Origin"] = "http://10.0.0.2:8080"
        assert "secure" not in (await log_in(page)).headers["set-cookie"].lower()


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(page: httpx2.AsyncClient) -> None:
    await log_in(page)
    copy = page.cookies[COOKIE]
    assert (await page.post("/api/logout")).status_code == 200
    assert COOKIE not in page.cookies
    assert (await page.get("/api/me", headers={"Cookie": f"{COOKIE}={copy}"})).status_code == 401


async def test_a_session_ends_with_its_time(page: httpx2.AsyncClient, clock: Clock) -> None:
    await log_in(page)
    cookie = {"Cookie": f"{COOKIE}={page.cookies[COOKIE]}"}
    clock.now_s += SESSION_S - 1
    assert (await page.get("/api/me", headers=cookie)).status_code == 200
    clock.now_s += 2
    assert (await page.get("/api/me", headers=cookie)).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://voice.example.com.evil.example", None])
async def test_another_sites_page_cannot_act_with_the_cookie(page: httpx2.AsyncClient, origin: str | None) -> None:
    await log_in(page)
    cookie = {"Cookie": f"{COOKIE}={page.cookies[COOKIE]}"}
    del page.headers["Origin"]
    headers = cookie if origin is None else {**cookie, "Origin": origin}
    for path in ("/act", "/api/logout", "/api/login"):
        assert (await page.post(path, headers=headers, json={"token": OPERATOR})).status_code == 403
    assert (await page.get("/api/me", headers=headers)).status_code == 200


async def test_a_token_in_the_request_needs_no_origin(sign_in: SignIn) -> None:
    async with site(sign_in) as program:
        said = await program.post("/act", headers={"Authorization": f"Bearer {OPERATOR}"})
        assert said.json() == "desk"
        wrong = await program.post("/act", headers={"Authorization": "Bearer nobody"})
        assert wrong.status_code == 401


async def test_the_token_in_the_request_counts_before_the_cookie(page: httpx2.AsyncClient) -> None:
    await log_in(page)
    said = await page.get("/api/me", headers={"Authorization": f"Bearer {VIEWER}"})
    assert said.json()["name"] == "wall"
    wrong = await page.get("/api/me", headers={"Authorization": "Bearer nobody"})
    assert wrong.status_code == 401


async def test_a_role_that_does_not_reach_is_refused(page: httpx2.AsyncClient) -> None:
    await log_in(page, VIEWER)
    refused = await page.post("/act")
    assert refused.status_code == 403
    assert refused.json() == {"detail": "the role operator is needed"}


async def test_wrong_tokens_are_limited_per_address(page: httpx2.AsyncClient, sign_in: SignIn) -> None:
    for _ in range(MAX_FAILURES):
        said = await log_in(page, "x" * 20)
        assert (said.status_code, said.json()) == (401, {"detail": "this token is not known here"})
    limited = await log_in(page, OPERATOR)
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) > 0
    async with site(sign_in, client="198.51.100.7") as other:
        other.headers["Origin"] = OWN
        assert (await log_in(other)).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"token": 1}', "application/json", 400),
        (b'{"token": "x", "more": 1}', "application/json", 400),
        (b'{"token": "\xff"}', "application/json", 400),
        (b'{"token": ""}', "application/json", 401),
        (b'{"token": "x"}', "text/plain", 415),
        (b" " * (MAX_BODY_BYTES + 1), "application/json", 413),
    ],
)
async def test_a_body_that_is_no_login(page: httpx2.AsyncClient, body: bytes, kind: str, status: int) -> None:
    said = await page.post("/api/login", content=body, headers={"Content-Type": kind})
    assert said.status_code == status
    assert isinstance(said.json()["detail"], str)
    assert COOKIE not in page.cookies


@pytest.mark.parametrize("value", ["", "x", "ü", "a" * 5000])
async def test_a_made_up_cookie_is_nobodys(sign_in: SignIn, value: str) -> None:
    async with site(sign_in) as client:
        said = await client.get("/api/me", headers=[(b"Cookie", f"{COOKIE}={value}".encode())])
        assert said.status_code == 401


async def test_this_machine_needs_no_login(clock: Clock) -> None:
    local = SignIn(Access(Settings(), monotonic_s=clock))
    async with site(local, client="127.0.0.1", base_url="http://127.0.0.1:8080") as client:
        assert (await client.get("/api/me")).json()["role"] == "admin"
        assert (await client.post("/act")).json() == "local"
        assert (await client.post("/act", headers={"Origin": "http://127.0.0.1:8080"})).status_code == 200
        assert (await client.post("/act", headers={"Origin": "https://evil.example"})).status_code == 401
        forwarded = await client.get("/api/me", headers={"X-Forwarded-For": "203.0.113.5"})
        assert forwarded.status_code == 401


def test_sessions_are_bounded_and_the_oldest_goes_first(clock: Clock) -> None:
    sessions = Sessions(monotonic_s=clock)
    mine = [sessions.open(Identity("wall", Role.viewer)) for _ in range(MAX_SESSIONS_EACH + 1)]
    assert sessions.find(mine[0]) is None
    assert sessions.find(mine[1]) == Identity("wall", Role.viewer)
    for n in range(MAX_SESSIONS):
        sessions.open(Identity(f"n{n}", Role.viewer))
    assert len(sessions) == MAX_SESSIONS
    assert sessions.find(mine[-1]) is None
    clock.now_s += SESSION_S
    sessions.open(Identity("late", Role.viewer))
    assert len(sessions) == 1


async def test_who_watches_is_seen_to_have_signed_out(page: httpx2.AsyncClient, sign_in: SignIn) -> None:
    await log_in(page)
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [
        (b"cookie", f"{COOKIE}={page.cookies[COOKIE]}".encode())
    ]})  # fmt: skip
    assert sign_in.still(request)
    await page.post("/api/logout")
    assert not sign_in.still(request)
