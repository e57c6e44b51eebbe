"""The server as a customer of a SIP provider that demands passwords: Kamailio."""

import asyncio
import json
from pathlib import Path
from typing import Any

from app.dialler.outcome import Outcome
from app.runtime.outbound import Order
from media.sip.registration import State
from tests.clients.baresip import baresip
from tests.clients.kamailio import kamailio
from tests.e2e.server import TALK, Server, running

USERS = {"agent": "agents-password", "phone": "phones-password"}


def trunk(place: str, password: str = USERS["agent"], **more: Any) -> str:
    one = {"name": "main", "uri": f"sip:{place}", "user": "agent", "password": password, "register": True}
    return json.dumps([one | more])


def state(server: Server) -> State | None:
    assert server.gate.sip is not None
    (line,) = server.gate.sip.trunks.lines
    return line.registration.state if line.registration is not None else None


async def test_we_register_and_are_called_and_call(tmp_path: Path) -> None:
    async with (
        kamailio(tmp_path / "proxy", USERS) as proxy,
        running(tmp_path, flows=[TALK], sip_port=0, sip_trunks=trunk(proxy.address), dial_allow=["*"]) as server,
        baresip(
            tmp_path / "phone",
            user="phone",
            registrar=proxy.address,
            auth_user="phone",
            auth_pass=USERS["phone"],
        ) as phone,
    ):
        await phone.event("REGISTER_OK")
        await server.until(lambda: state(server) is State.registered)
        await phone.dial(proxy.uri("agent"))
        await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))
        await phone.hangup()
        (call,) = {seen.call for seen in server.seen}
        assert (await server.over(call))["outcome"] == "hung-up"

        assert server.gate.outbound is not None
        order = Order(to=f"sip:phone@{proxy.address}", flow="talk", slots={"day": "friday"})
        underway = await server.gate.outbound.place(order)
        async with asyncio.timeout(60):
            assert (await underway.over()).outcome is Outcome.answered
        assert (await server.over(underway.call))["outcome"] == "told"


async def test_a_wrong_password_is_not_tried_again_at_once(tmp_path: Path) -> None:
    async with (
        kamailio(tmp_path / "proxy", USERS) as proxy,
        running(tmp_path, flows=[TALK], sip_port=0, sip_trunks=trunk(proxy.address, "not-the-password")) as server,
    ):
        await server.until(lambda: state(server) is State.failing)
        assert server.gate.sip is not None
        (line,) = server.gate.sip.trunks.lines
        assert line.registration is not None
        assert line.registration.next_ms - server.gate.sip.agent.now_ms() > 60_000
