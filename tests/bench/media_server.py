"""The media path alone, for measuring: WebRTC legs whose agent has its sound ready, and no call behind them."""

import asyncio
import sys

import numpy as np
import uvloop
from aiohttp import web

from media.audio import Pcm
from media.clock import Ticker
from media.gateway import Admission, LegRequest
from media.leg import Leg
from media.webrtc.server import WebRtcServer
from tests.bench import voices
from tests.support.nobody import Nobody

PERIOD_S = 10
RATES_HZ = (8000, 16_000)


class Agent(Nobody):
    """Talks for a share of each period; what it hears goes through the ear and no further."""

    def __init__(self, sounds: dict[int, Pcm], number: int) -> None:
        self._sounds = sounds
        self._gen = 0
        self._first_s = number * 0.7 % PERIOD_S
        self._leg: Leg | None = None
        self._loop = asyncio.get_running_loop()

    def attach(self, leg: Leg) -> None:
        self._leg = leg
        self._loop.call_later(self._first_s, self._talk)

    def _talk(self) -> None:
        assert self._leg is not None
        playout = self._leg.playout
        self._gen += 1
        playout.begin(self._gen)
        playout.push(self._gen, 0, self._sounds[self._leg.rate_hz])
        playout.end_sentence(self._gen, 0, 1)
        playout.finish(self._gen)
        self._loop.call_later(PERIOD_S, self._talk)


class Desk:
    def __init__(self, sounds: dict[int, Pcm]) -> None:
        self._sounds = sounds
        self._numbers = 0

    async def admit(self, request: LegRequest) -> Admission:
        self._numbers += 1
        return Admission(f"c{self._numbers}", f"l{self._numbers}", "", Agent(self._sounds, self._numbers))

    def turn_away(self, request: LegRequest) -> None: ...


def speech(rate_hz: int, seconds: float) -> Pcm:
    recorded = voices.record(rate_hz, ulaw=False)
    spoken = np.concatenate([frame.pcm for each in recorded.utterances for frame in each])
    return np.resize(spoken, round(rate_hz * seconds))


async def serve(sounds: dict[int, Pcm]) -> None:
    ticker = Ticker()
    legs = WebRtcServer(Desk(sounds), ticker)

    async def offer(request: web.Request) -> web.Response:
        answer = await legs.offer(LegRequest(transport="webrtc", source=str(id(request))), await request.text())
        return web.Response(
            text=answer.sdp,
            status=201,
            headers={"Location": "/", "Voicegate-Resume": ""},
            content_type="application/sdp",
        )

    app = web.Application()
    app.router.add_post("/webrtc", offer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(ticker.run())
        group.create_task(legs.run())


if __name__ == "__main__":
    uvloop.run(serve({rate_hz: speech(rate_hz, PERIOD_S * float(sys.argv[1])) for rate_hz in RATES_HZ}))
