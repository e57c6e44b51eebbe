"""The media path of SIP legs alone, for measuring: an agent that has its sound ready, and no call behind it."""

import asyncio
import sys

import uvloop

from media.audio import Pcm
from media.clock import Ticker
from media.sip.options import SipOptions
from media.sip.server import SipServer
from tests.bench.media_server import PERIOD_S, RATES_HZ, Desk, speech


async def serve(sounds: dict[int, Pcm]) -> None:
    ticker = Ticker()
    legs = SipServer(Desk(sounds), ticker, SipOptions(port=0))
    await legs.listen()
    print(legs.port, flush=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(ticker.run())
        group.create_task(legs.run())


if __name__ == "__main__":
    uvloop.run(serve({rate_hz: speech(rate_hz, PERIOD_S * float(sys.argv[1])) for rate_hz in RATES_HZ}))
