"""Telephones reach the server by way of Kamailio, which asks for their password and stays between them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.core.events import Digit
from app.demo.backend import clinic_backend
from app.demo.clinic import appointments
from tests.clients.baresip import Baresip, baresip
from tests.clients.kamailio import Kamailio, kamailio
from tests.e2e.server import Server
from tests.sip.calls import ALIKE, address, asked, gate, only_call, said_by_a_caller, session, share_heard, speaking

USER, PASSWORD = "anna", "one"


@asynccontextmanager
async def between(folder: Path, server: Server, transport: str) -> AsyncIterator[tuple[Kamailio, Baresip]]:
    """A telephone that is registered there."""
    relay = f"sip:{address(server)};transport={transport}"
    async with (
        kamailio(folder / "kamailio", {USER: PASSWORD}, relay=relay) as proxy,
        baresip(
            folder / "phone", user=USER, registrar=proxy.address, auth_user=USER, auth_pass=PASSWORD, transport="udp"
        ) as phone,
    ):
        await phone.event("REGISTER_OK")
        yield proxy, phone


def came_from(phone: Baresip, port: int, method: str) -> bool:
    """Whether a request of this method came to the telephone from this port."""
    return bool(re.search(rf"127\.0\.0\.1:{port} -> 127\.0\.0\.1:{phone.port}\n{method} ", phone.log))


@pytest.mark.slow
async def test_an_appointment_is_booked(tmp_path: Path) -> None:
    """By keys and by voice. The server hangs up, and its BYE goes the way that the call came."""
    tuesday = await said_by_a_caller(tmp_path, "on tuesday please")
    afternoon = await said_by_a_caller(tmp_path, "in the afternoon please")
    database = tmp_path / "clinic.sqlite"
    async with (
        clinic_backend(database) as variables,
        speaking(tmp_path / "var", flows=["clinic"], environment=variables) as server,
        between(tmp_path, server, "tcp") as (proxy, phone),
    ):
        await phone.dial(proxy.uri("clinic"))
        await server.until(lambda: gate(server).sessions)
        await phone.key("31051980")
        await asked(server, "Is that right?")
        await phone.key("#")
        await phone.say(tuesday)
        await asked(server, "Tuesday. Is that right?")
        await phone.key("#")
        await asked(server, "morning or the afternoon")
        await phone.say(afternoon)
        await asked(server, "In the afternoon. Is that right?")
        await phone.key("#")
        await asked(server, "Shall I book")
        await phone.key("#")
        await phone.event("CALL_CLOSED")
        call = only_call(server)
        assert (await server.over(call))["outcome"] == "booked"
        assert [(one.day, one.part) for one in appointments(database)] == [("tuesday", "afternoon")]
        assert server.replayed(call).outcome == "booked"
        assert await share_heard(phone.heard(), "Would you like the morning or the afternoon?") > ALIKE
        assert "407 Proxy Authentication Required" in phone.log
        assert came_from(phone, proxy.port, "BYE")
        assert not came_from(phone, gate(server).port, "BYE")


async def test_the_caller_hangs_up(tmp_path: Path) -> None:
    async with speaking(tmp_path) as server, between(tmp_path, server, "udp") as (proxy, phone):
        await phone.dial(proxy.uri("talk"))
        await asked(server, "Which day")
        call = session(server).call
        assert call is not None
        assert call.dialog is not None
        assert len(call.dialog.routes) == 1
        assert f":{proxy.port}" in str(call.dialog.routes[0])
        await phone.key("1")
        await server.until(lambda: server.facts(Digit))
        await phone.hangup()
        assert (await server.over(only_call(server)))["cause"] == "caller-hangup"
        assert await share_heard(phone.heard(), "Which day would you like?") > ALIKE
        await server.until(lambda: not gate(server).endpoint.calls)
