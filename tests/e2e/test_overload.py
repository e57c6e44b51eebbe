"""A server that has all it can bear refuses each transport in its own words, and who is inside notices nothing."""

from pathlib import Path

import aiohttp

from app.core.events import LegAttached, LegLost, PlayoutStopped
from media.leg import CloseCode
from tests.e2e.clients import dial, ringing, stream
from tests.e2e.server import LECTURE, Server, running
from tests.sip.caller import caller as phone_at
from tests.sip.caller import opened
from tests.sip.calls import gate
from tests.webrtc.offers import OFFER

NO_LOAD_AT_ALL = 1e-6
"""Of a core: any call is more. The first one is taken nevertheless."""


async def overloaded(server: Server) -> None:
    capacity = server.gate.registry.capacity
    await server.until(lambda: capacity.load > NO_LOAD_AT_ALL and not server.gate.registry.admits)


async def refused_everywhere(server: Server, http: aiohttp.ClientSession, why: str) -> None:
    async with ringing(server.ws("/ws/audio")) as plain:
        code, reason = await plain.until_closed()
        assert (code, plain.error) == (4503, (CloseCode.busy, reason))
        assert why in reason
    async with stream(server.ws("/ws/twilio"), "CA99") as twilio:
        await twilio.begin()
        assert (await twilio.until_closed())[0] == 4503
    async with http.post("/webrtc", data=OFFER, headers={"Content-Type": "application/sdp"}) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
    async with phone_at() as phone, opened() as ear:
        assert await phone.invite(gate(server).port, ear.port) == "SIP/2.0 503 Service Unavailable"
        (final,) = [data for data in phone.came if data.startswith(b"SIP/2.0 503")][:1]
        assert b"\r\nRetry-After: " in final


async def test_refused_on_every_transport_and_nobody_is_disturbed(tmp_path: Path) -> None:
    async with (
        running(
            tmp_path, flows=[LECTURE], words_per_s=2.6, sip_port=0, media_host="127.0.0.1", max_load=NO_LOAD_AT_ALL
        ) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        async with http.get("/ready") as ready:
            assert (ready.status, await ready.json()) == (200, {"admits": True})
        async with dial(server.ws("/ws/audio")) as inside:
            await overloaded(server)
            await refused_everywhere(server, http, "all the calls that it can bear")
            heard = len(inside.frames)
            await inside.until(lambda: len(inside.frames) > heard + 25)
            assert (inside.clears, inside.error, inside.closed) == ([], None, None)
            assert not server.facts(PlayoutStopped)
            assert [call.call for call in server.gate.registry.calls()] == [inside.call]

            async with http.get("/ready") as ready:
                assert (ready.status, await ready.json()) == (503, {"admits": False})
                assert int(ready.headers["Retry-After"]) > 0
            async with http.get("/health") as health:
                told = await health.json()
                assert (health.status, told["status"], told["admits"]) == (200, "ok", False)
            async with http.get("/metrics") as page:
                lines = (await page.text()).splitlines()
            for transport in ("audio", "twilio", "webrtc", "sip"):
                assert f'voicegate_calls_refused_total{{reason="overload",transport="{transport}"}} 1.0' in lines
            assert "voicegate_admits 0.0" in lines
        await server.over(inside.call)
        await server.until(lambda: server.gate.registry.admits)
        async with dial(server.ws("/ws/audio")):
            pass


async def test_who_belongs_to_a_live_call_is_not_refused(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[LECTURE], words_per_s=2.6, max_load=NO_LOAD_AT_ALL) as server:
        url = server.ws("/ws/audio")
        async with dial(url) as first:
            await overloaded(server)
            first.drop()
            await server.until(lambda: server.facts(LegLost))
            assert not server.gate.registry.admits
            async with dial(url, resume=first.resume) as again:
                assert again.call == first.call
                await server.until(lambda: server.facts(LegAttached))
                heard = len(again.frames)
                await again.until(lambda: len(again.frames) > heard)
        await server.over(first.call)
        await server.until(lambda: server.gate.registry.admits)
        async with stream(server.ws("/ws/twilio"), "CA7") as lost:
            await lost.begin()
            await lost.until(lambda: lost.frames)
            await overloaded(server)
            lost.socket.transport.abort()
            await server.until(lambda: len(server.facts(LegLost)) == 2)
        async with stream(server.ws("/ws/twilio"), "CA7", stream_sid="MZ2") as back:
            await back.begin()
            await back.until(lambda: back.frames or back.closed)
            assert back.closed is None
