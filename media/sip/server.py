"""SIP legs beside the others: its parts put together, and their life."""

import asyncio
from contextlib import suppress
from typing import Final

from sipmessage import Request

from media.clock import Ticker
from media.gateway import Gateway
from media.sip import message as sip
from media.sip.admission import Admissions
from media.sip.agent import Agent
from media.sip.dials import Dials
from media.sip.endpoint import Endpoint, Refusal
from media.sip.guard import Guard
from media.sip.inbound import InboundCall
from media.sip.legs import Legs
from media.sip.message import Hop
from media.sip.options import SipOptions
from media.sip.resolve import DnsClient, Resolver
from media.sip.screening import Screening
from media.sip.session import Session
from media.sip.trunks import Trunks

GOODBYE_S: Final = 2  # after the last call, for answers to BYEs
GOODBYE_LOOK_S: Final = 0.05


class SipServer:
    """One for the process. `listen`, then `run`."""

    def __init__(self, gateway: Gateway, ticker: Ticker, options: SipOptions) -> None:
        self.options = options
        self.guard = Guard(
            options.allow,
            sign_in=bool(options.users),
            also=lambda host: self.trunks.lets_in(host),
            expects=lambda host: self.legs.calls(host) or self.agent.transport.asked(host),
        )
        resolver = Resolver(DnsClient(ipv6=":" in options.host))
        self.agent = Agent(options, self.guard, resolver, self)
        self.legs = Legs(self.agent, gateway, ticker)
        self.screening = Screening(self.agent)
        self._admissions = Admissions(self.agent, self.legs)
        self.trunks = Trunks(self.agent, options.trunks, resolver)
        self.dials = Dials(self.agent, self.legs, self.trunks, resolver)

    @property
    def endpoint(self) -> Endpoint:
        return self.agent.endpoint

    @property
    def sessions(self) -> set[Session]:
        """Attached now."""
        return self.legs.sessions

    @property
    def port(self) -> int:
        return self.agent.transport.port

    @property
    def tls_port(self) -> int:
        return self.agent.transport.tls_port

    @property
    def addresses(self) -> list[str]:
        """What to dial, for whoever starts it."""
        host = sip.bracketed(self.options.host)
        plain = f"sip:{host}:{self.port} (UDP, TCP)"
        return [plain] if self.options.tls_certificate is None else [plain, f"sips:{host}:{self.tls_port} (TLS)"]

    async def listen(self) -> None:
        """Opens the signalling sockets. Raises `media.sip.streams.ListenError`."""
        await self.agent.transport.listen()

    async def run(self) -> None:
        """Until `stop`; then the calls that are left are hung up."""
        agent = self.agent
        async with agent.working() as group:
            group.create_task(self.trunks.run(agent.stop_asked))
            await agent.stop_asked.wait()
            agent.transport.streams.stop()
            self.legs.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while agent.endpoint.calls:  # noqa: ASYNC110
                    await asyncio.sleep(GOODBYE_LOOK_S)
        self.close()

    def stop(self) -> None:
        self.agent.stop_asked.set()

    def close(self) -> None:
        self.agent.close()

    # What the endpoint tells

    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        return self.screening.screen(request, hop, now_ms)

    def invited(self, call: InboundCall, now_ms: int) -> None:
        self._admissions.invited(call, self.screening.user_of(call.request), now_ms)
