"""WebRTC legs beside the others: an offer comes in over any signalling, a leg comes of it."""

import asyncio
import logging
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from media.clock import Ticker
from media.dtls import Identity
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode
from media.reception import Reception
from media.webrtc import offer
from media.webrtc.offer import Offer
from media.webrtc.peer import ANYWHERE, Addresses, Peer, PeerError
from media.webrtc.session import Session

CONNECT_TIMEOUT_S: Final = 20  # from the offer to ICE and DTLS
MAX_WAITING: Final = 100  # offers whose connection does not stand yet
MAX_WAITING_PER_ADDRESS: Final = 10
GOODBYE_S: Final = 0.5  # for the last message to arrive before the connection ends

log = logging.getLogger("voicegate.webrtc")


class Gone(Exception):
    """There is no such leg, or not any more."""


@dataclass(slots=True)
class _Life:
    """One leg from its offer on, and the task that it is."""

    session: Session
    offer: Offer
    task: asyncio.Task[None]
    stands: bool = False  # its connection

    def over(self) -> None:
        """The session is: a connection that does not stand yet is not waited for."""
        if not self.stands:
            self.task.cancel()


@dataclass(frozen=True, slots=True)
class Answer:
    sdp: str
    resource: str  # unguessable: who knows it may end the leg
    call: str
    resume: str


class WebRtcServer:
    """One for the process. `run` owns the connections; `offer` may be called while it runs."""

    def __init__(self, gateway: Gateway, ticker: Ticker, addresses: Addresses = ANYWHERE) -> None:
        self._reception = Reception(gateway, most=MAX_WAITING, most_of_an_address=MAX_WAITING_PER_ADDRESS)
        self._ticker = ticker
        self._addresses = addresses
        self._lives: dict[str, _Life] = {}  # by resource
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._identity = Identity()
        self.legs = 0  # attached now

    async def run(self) -> None:
        """Until `stop`; then the connections that are left are closed."""
        async with asyncio.TaskGroup() as self._group:
            await self._stopping.wait()
            for life in list(self._lives.values()):
                life.session.leg.gone(goodbye=False)
                life.session.close(CloseCode.going_away, "the server stops")
                life.over()
        self._group = None

    def stop(self) -> None:
        self._stopping.set()

    async def offer(self, request: LegRequest, text: str) -> Answer:
        """Raises `media.sdp.SdpError` and `Refused`. The leg attaches once its connection stands."""
        if self._group is None or self._stopping.is_set():
            raise Refused(CloseCode.going_away, "the server stops")
        wanted = offer.read(text)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._live(request, wanted, answered), name="webrtc leg")
        try:
            return await answered
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def candidates(self, resource: str, fragment: str) -> None:
        """Candidates that come later. Raises `Gone`, `media.sdp.SdpError` and `media.webrtc.offer.IceRestart`."""
        life = self._life(resource)
        assert life.session.peer is not None
        for candidate in offer.fragment(fragment, life.offer.remote.ufrag):
            await life.session.peer.add_candidate(candidate)

    def delete(self, resource: str) -> None:
        """The peer said goodbye. Raises `Gone`."""
        life = self._life(resource)
        if life.session.over:
            raise Gone("this leg has ended")
        life.session.gone(goodbye=True)
        life.over()

    def _life(self, resource: str) -> _Life:
        try:
            return self._lives[resource]
        except KeyError:
            raise Gone("there is no such leg") from None

    async def _live(self, request: LegRequest, wanted: Offer, answered: asyncio.Future[Answer]) -> None:
        """One leg, from the offer to the end of its connection."""
        try:
            with ExitStack() as waiting:
                waiting.enter_context(self._reception.place(request.source))
                await self._connect(request, wanted, answered, waiting)
        except Refused as error:
            _refuse(answered, error)
        except PeerError as error:
            _refuse(answered, Refused(CloseCode.busy, str(error)))
        except Exception as error:  # noqa: BLE001  # ours, and it ends this leg only
            log.error("a WebRTC leg failed: %s", type(error).__name__)
            _refuse(answered, Refused(CloseCode.internal_error, "internal error"))
        finally:
            _refuse(answered, Refused(CloseCode.going_away, "the server stops"))

    async def _connect(
        self, request: LegRequest, wanted: Offer, answered: asyncio.Future[Answer], waiting: ExitStack
    ) -> None:
        admission = await self._reception.admit(request)
        ssrc, cname = secrets.randbits(32), secrets.token_hex(8)
        identity = self._identity.current(asyncio.get_running_loop().time())
        session = Session(wanted, admission, ssrc=ssrc, cname=cname)
        peer = session.peer = Peer(wanted.remote, session, identity, self._addresses)
        resource = secrets.token_urlsafe(24)
        task = asyncio.current_task()
        assert task is not None
        life = self._lives[resource] = _Life(session, wanted, task)
        try:
            await peer.gather()
            sdp = offer.answer(wanted, peer, ssrc, cname)
            if not answered.done():
                answered.set_result(Answer(sdp, resource, admission.call, admission.resume))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for candidate in wanted.candidates:
                    await peer.add_candidate(candidate)
                await peer.connect()
            waiting.close()
            life.stands = True
            await self._attached(session)
        except TimeoutError:
            raise PeerError(f"no connection within {CONNECT_TIMEOUT_S} s") from None
        except PeerError:  # nobody's fault here: the call is told below that it has lost this leg
            raise
        except Exception as error:
            session.failed(error)
            raise
        finally:
            del self._lives[resource]
            session.gone(goodbye=False)
            await peer.close()

    async def _attached(self, session: Session) -> None:
        if session.over:
            return
        self._ticker.add(session, session.failed, session.hear)
        self.legs += 1
        try:
            session.attach()
            await session.ended.wait()
        finally:
            self.legs -= 1
            self._ticker.discard(session)
        await asyncio.sleep(GOODBYE_S)


def _refuse(answered: asyncio.Future[Answer], refusal: Refused) -> None:
    """Once the answer is out, the connection simply does not come about."""
    if not answered.done():
        answered.set_exception(refusal)
