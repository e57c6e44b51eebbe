"""Tokens, roles, the privilege of local programs, and what takes it away."""

import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI
from pydantic import SecretStr

from app.api import access as module
from app.api.access import LOCAL, MAX_FAILURES, MAX_TOKEN_CHARS, WINDOW_S, Access, Identity, TooManyAttempts, bearer
from app.settings import Role, Settings, Token
from tests.fakes.clock import Clock

VIEWER, OPERATOR, ADMIN = "v" * 20, "o" * 20, "a" * 20
TOKENS = (
    Token(name="wall", role=Role.viewer, token=SecretStr(VIEWER)),
    Token(name="desk", role=Role.operator, token=SecretStr(OPERATOR)),
    Token(name="root", role=Role.admin, token_hash=hashlib.sha256(ADMIN.encode()).hexdigest().upper()),
)
WITH = Settings(tokens=TOKENS)
LOCAL_ADMIN = Identity(LOCAL, Role.admin)
FAR = "203.0.113.5"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(WITH, monotonic_s=clock)


def test_a_token_names_its_holder_and_role(access: Access) -> None:
    assert access.identify(VIEWER, FAR, {}) == Identity("wall", Role.viewer)
    assert access.identify(OPERATOR, FAR, {}) == Identity("desk", Role.operator)
    assert access.identify(ADMIN, FAR, {}) == Identity("root", Role.admin)


@pytest.mark.parametrize(
    "token", ["", VIEWER[:-1], VIEWER + "v", VIEWER.upper(), "ü" * 20, "\ud800", "x" * 100_000, VIEWER + "\0"]
)
def test_anything_else_names_nobody(access: Access, token: str) -> None:
    assert access.identify(token, FAR, {}) is None
    assert access.identify(token, FAR, {}) is None


def test_a_token_over_the_limit_is_refused_even_if_its_beginning_is_right() -> None:
    long = "x" * MAX_TOKEN_CHARS
    access = Access(Settings(tokens=(Token(name="n", role=Role.viewer, token=SecretStr(long)),)))
    assert access.identify(long, FAR, {}) == Identity("n", Role.viewer)
    assert access.identify(long + "x", FAR, {}) is None


def test_programs_on_this_machine_need_none(access: Access) -> None:
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert access.identify("", host, {}) == LOCAL_ADMIN
        assert Access(Settings()).identify("whatever", host, {}) == LOCAL_ADMIN, (
            "there are no tokens it could be wrong about"
        )
    for host in (FAR, "10.0.0.1", "", "localhost.example.com", "unix:"):
        assert access.identify("", host, {}) is None
        assert Access(Settings()).identify("", host, {}) is None


def test_a_wrong_token_is_refused_even_from_this_machine(access: Access) -> None:
    assert access.identify("wrong", "127.0.0.1", {}) is None
    assert access.identify(VIEWER, "127.0.0.1", {}) == Identity("wall", Role.viewer)


@pytest.mark.parametrize(
    ("headers", "local"),
    [
        ({"host": "127.0.0.1:8080"}, True),
        ({"host": "localhost:8080"}, True),
        ({"host": "[::1]:8080"}, True),
        ({"host": "Localhost:8080", "origin": "http://localhost:8080"}, True),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, True),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9090"}, False),
        ({"host": "127.0.0.1:8080", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:8080", "origin": "null"}, False),
        ({"host": "127.0.0.1:8080", "origin": "http://["}, False),
        ({"origin": "http://127.0.0.1:8080"}, False),
        ({"host": "evil.example"}, False),
        ({"host": "[::1"}, False),
        ({"host": ""}, False),
        ({"host": "127.0.0.1", "x-forwarded-for": "127.0.0.1"}, False),
        ({"host": "127.0.0.1", "forwarded": "for=127.0.0.1"}, False),
        ({"host": "127.0.0.1", "x-real-ip": "127.0.0.1"}, False),
        ({"host": "127.0.0.1", "via": "1.1 proxy"}, False),
        ({"host": "127.0.0.1", "x-forwarded-for": "1.2.3.4, " * 500}, False),
        ({"host": "127.0.0.1", "x-forwarded-for": ""}, False),
        ({"host": "127.0.0.1", "origin": "http://" + "a" * 5000 + ".example"}, False),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1, http://evil.example"}, False),
        ({"host": "127.0.0.1, evil.example"}, False),
    ],
)
def test_headers_can_only_take_the_privilege_away(headers: dict[str, str], local: bool) -> None:
    assert (Access(Settings()).identify("", "127.0.0.1", headers) == LOCAL_ADMIN) is local
    assert Access(Settings()).identify("", FAR, headers) is None


def test_behind_a_proxy_nobody_is_local() -> None:
    access = Access(Settings(public_url="https://voice.example.com", tokens=TOKENS))
    assert access.identify("", "127.0.0.1", {}) is None
    assert access.identify(VIEWER, "127.0.0.1", {}) == Identity("wall", Role.viewer)
    assert Access(Settings()).identify("", "127.0.0.1", {}) == LOCAL_ADMIN


def test_failures_are_limited_for_an_address_and_forgotten(access: Access, clock: Clock) -> None:
    for _ in range(MAX_FAILURES):
        assert access.identify("wrong", FAR, {}) is None
    clock.now_s += 10.5
    with pytest.raises(TooManyAttempts) as caught:
        access.identify(VIEWER, FAR, {})
    assert caught.value.retry_s == WINDOW_S - 10
    assert access.identify(VIEWER, "203.0.113.6", {}) == Identity("wall", Role.viewer), "others are not concerned"
    assert access.identify("", "127.0.0.1", {}) == LOCAL_ADMIN
    clock.now_s += WINDOW_S - 10.5
    assert access.identify(VIEWER, FAR, {}) == Identity("wall", Role.viewer)
    assert access.identify("wrong", FAR, {}) is None
    assert access.identify(VIEWER, FAR, {}) == Identity("wall", Role.viewer), "a new window has begun"


def test_right_tokens_do_not_count(access: Access) -> None:
    for _ in range(5 * MAX_FAILURES):
        assert access.identify(VIEWER, FAR, {})


def test_a_whole_ipv6_network_counts_as_one_address(access: Access) -> None:
    for number in range(MAX_FAILURES):
        access.identify("wrong", f"2001:db8:1:2::{number}", {})
    with pytest.raises(TooManyAttempts):
        access.identify(VIEWER, "2001:db8:1:2:ffff::1", {})
    assert access.identify(VIEWER, "2001:db8:1:3::1", {})


def test_behind_a_proxy_each_client_fails_for_itself(access: Access) -> None:
    def of(address: str) -> dict[str, str]:
        return {"x-forwarded-for": address}

    for _ in range(MAX_FAILURES):
        access.identify("wrong", "127.0.0.1", of(FAR))
    with pytest.raises(TooManyAttempts):
        access.identify(VIEWER, "127.0.0.1", of(f"203.0.113.6, {FAR}"))
    assert access.identify(VIEWER, "127.0.0.1", of(f"{FAR}, 203.0.113.6"))
    assert access.identify(VIEWER, "127.0.0.1", {})
    for number in range(MAX_FAILURES):
        access.identify("wrong", "203.0.113.7", of(f"198.51.100.{number}"))
    with pytest.raises(TooManyAttempts):
        access.identify(VIEWER, "203.0.113.7", of("198.51.100.99"))


def test_the_table_of_failures_is_bounded(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADDRESSES", 3)
    for number in range(10):
        access.identify("wrong", f"203.0.113.{number}", {})
    assert len(access._failures._windows) == 3


def test_tokens_are_neither_kept_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access = Access(WITH)
    access.identify("wrong-wrong-wrong", FAR, {})
    access.identify(VIEWER, FAR, {})
    assert VIEWER not in repr(vars(access))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("BEARER abc", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
        ("", ""),
        ("abc", ""),
    ],
)
def test_the_authorization_header(header: str, token: str) -> None:
    assert bearer(header) == token


# Over HTTP


def site(access: Access) -> FastAPI:
    app = FastAPI()

    @app.get("/look")
    async def look(identity: Annotated[Identity, Depends(access.require(Role.viewer))]) -> str:
        return identity.name

    @app.post("/act")
    async def act(identity: Annotated[Identity, Depends(access.require(Role.operator))]) -> str:
        return identity.name

    return app


@pytest.fixture
async def far(access: Access) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=site(access), client=(FAR, 4000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://voice.example.com") as client:
        yield client


def auth(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_who_may_do_what(far: httpx2.AsyncClient) -> None:
    answers = {
        token: ((await far.get("/look", headers=auth(token))), (await far.post("/act", headers=auth(token))))
        for token in (VIEWER, OPERATOR, ADMIN)
    }
    assert {token: (look.status_code, act.status_code) for token, (look, act) in answers.items()} == {
        VIEWER: (200, 403),
        OPERATOR: (200, 200),
        ADMIN: (200, 200),
    }
    assert [answers[token][0].json() for token in answers] == ["wall", "desk", "root"]


async def test_without_a_token_it_is_401_and_says_how(far: httpx2.AsyncClient) -> None:
    answer = await far.get("/look")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await far.get("/look", headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 401


async def test_too_many_attempts_are_429(far: httpx2.AsyncClient) -> None:
    codes = [(await far.get("/look", headers=auth(f"guess-{n}"))).status_code for n in range(MAX_FAILURES)]
    assert codes == [401] * MAX_FAILURES
    answer = await far.get("/look", headers=auth(ADMIN))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= WINDOW_S


async def test_local_requests_over_http() -> None:
    transport = httpx2.ASGITransport(app=site(Access(WITH)), client=("127.0.0.1", 4000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        assert (await client.post("/act")).json() == LOCAL
        assert (await client.post("/act", headers={"Origin": "https://evil.example"})).status_code == 401
        assert (await client.post("/act", headers={"Host": "evil.example"})).status_code == 401
        assert (await client.post("/act", headers={"X-Forwarded-For": "10.0.0.1"})).status_code == 401
        assert (await client.post("/act", headers=auth("wrong"))).status_code == 401


async def test_an_origin_beside_the_own_one_is_not_overlooked(access: Access) -> None:
    transport = httpx2.ASGITransport(app=site(access), client=("127.0.0.1", 4000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        own, evil = ("Origin", "http://127.0.0.1:8080"), ("Origin", "https://evil.example")
        assert (await client.get("/look", headers=[own])).status_code == 200
        assert (await client.get("/look", headers=[own, evil])).status_code == 401
        assert (await client.get("/look", headers=[evil, own])).status_code == 401
