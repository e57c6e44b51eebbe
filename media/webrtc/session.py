"""One WebRTC leg: packets to samples and back, the data channel's messages, and the leg's `Wire`."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from media.audio import Pcm
from media.gateway import Admission
from media.leg import CloseCode, Leg
from media.rtp_audio import Rate, RtpAudio
from media.webrtc import messages
from media.webrtc.messages import DIGITS, Digit, MessageError, Ping, Text
from media.webrtc.offer import Offer
from media.webrtc.peer import Peer

PLAYED_LATER_MS: Final = 60  # the browser's own jitter buffer; what has not passed it counts as not heard
MAX_QUIET_MS: Final = 8000  # without anything from the peer: it is gone
WATCH_MS: Final = 100  # between looks at the connection
GOODBYE_MS: Final = 1500  # after the connection's end, for a goodbye that is still on its way
MAX_MESSAGES_PER_S: Final = 50
MAX_WAITING_BYTES: Final = 128 * 1024  # of messages that the peer has not taken; more are left out
MAX_EARLY_MESSAGES: Final = 100  # before the data channel is open


class Session:
    """Ticked with everything else; between ticks it only takes in what came."""

    def __init__(self, offer: Offer, admission: Admission, *, ssrc: int, cname: str) -> None:
        codec = offer.new_codec()
        self.leg = Leg(
            admission.leg,
            "webrtc",
            codec.rate_hz,
            self,
            admission.handler,
            peer_buffer_ms=PLAYED_LATER_MS,
            shows=bool(offer.remote.sctp_port),
        )
        self.peer: Peer | None = None  # set before the connection
        self.ended = asyncio.Event()
        self._handler = admission.handler
        self._attached = False
        self._sends = offer.direction.startswith("send")
        self.audio_stream = RtpAudio(
            codec,
            offer.codec.payload_type,
            frozenset(f.payload_type for f in offer.event_types),
            ssrc=ssrc,
            cname=cname,
            heard=self.leg.receive,
            digit=self._digit,
            transmit=self._transmit,
            transmit_report=self._transmit_report,
            now_ms=self._time_ms,
        )
        self._early: deque[str] = deque(maxlen=MAX_EARLY_MESSAGES)
        self._now_ms = 0
        self._watch_due_ms = 0
        self._lost_at_ms = 0  # the connection ended then, for whatever reason
        self._last_datagrams = (0, 0)  # the peer's so far, and since when it is that many
        self._messages = Rate(MAX_MESSAGES_PER_S)
        self._gap = False
        self._loop = asyncio.get_running_loop()

        self._put(messages.write("started", call=admission.call, flow=admission.flow, resume=admission.resume))

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    def attach(self) -> None:
        self._attached = True
        self.audio_stream.start()
        try:
            self._handler.attach(self.leg)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(error)

    # The ticker

    def hear(self, now_ms: int) -> None:
        """Before each tick: what came."""
        self._now_ms = now_ms
        self.audio_stream.hear(now_ms)

    def tick(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.leg.tick(now_ms)
        self.audio_stream.fill(now_ms)
        if now_ms >= self._watch_due_ms:
            self._watch_due_ms = now_ms + WATCH_MS
            self._watch()

    def _time_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _transmit(self, packet: bytes) -> None:
        if self._sends and self.peer is not None:
            self.peer.send_rtp(packet)

    def _transmit_report(self, packet: bytes) -> None:
        if self.peer is not None:
            self.peer.send_rtcp(packet)

    def _watch(self) -> None:
        assert self.peer is not None
        if self._lost_at_ms and self._now_ms - self._lost_at_ms >= GOODBYE_MS:
            self.gone(goodbye=False)
        datagrams, since_ms = self._last_datagrams
        if self.peer.datagrams != datagrams or not since_ms:
            self._last_datagrams = (self.peer.datagrams, self._now_ms)
        elif self._now_ms - since_ms > MAX_QUIET_MS:
            self.gone(goodbye=False)

    # The peer's packets and messages

    def rtp(self, packet: bytes) -> None:
        if not self.over:
            self.audio_stream.rtp(packet)

    def rtcp(self, packet: bytes) -> None:
        if not self.over:
            self.audio_stream.rtcp(packet)

    def _digit(self, digit: str) -> None:
        if digit in DIGITS:
            self._tell_call(self.leg.digit, digit)

    def message(self, text: str) -> None:
        if self.over:
            return
        if not self._messages.admit(self._now_ms):
            self.refuse(CloseCode.too_fast, f"more than {MAX_MESSAGES_PER_S} messages a second")
            return
        try:
            message = messages.read(text)
        except MessageError as error:
            self._put(messages.write("error", reason=str(error)))
            return
        match message:
            case Text():
                self._tell_call(self.leg.text, message.text)
            case Digit():
                self._tell_call(self.leg.digit, message.digit)
            case Ping():
                self._put(messages.write("pong", t=message.t))

    def _tell_call(self, tell: Callable[[str], None], what: str) -> None:
        try:
            tell(what)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(error)

    def channel_open(self) -> None:
        early, self._early = self._early, deque()
        for text in early:
            self._put(text)

    def peer_lost(self) -> None:
        """A page that hangs up closes its connection and says so over HTTP: either may be here first."""
        if self._attached:
            self._lost_at_ms = self._lost_at_ms or self._now_ms
        else:
            self.gone(goodbye=False)

    def gone(self, *, goodbye: bool) -> None:
        """The peer left: it said so, or it is not heard of any more."""
        if not self.over:
            if goodbye and not self._attached:
                self.attach()  # only a leg of the call's own can end it
            self.leg.gone(goodbye=goodbye)
            self.ended.set()

    def failed(self, error: Exception) -> None:
        self.leg.failed(error)

    # The leg's wire

    @property
    def stalled(self) -> bool:
        return self.over or bool(self._lost_at_ms)

    def audio(self, frame: Pcm) -> None:
        if not self.over:
            self.audio_stream.say(frame)

    def mark(self, name: str) -> None:
        """RTP has no marks: what was sent counts as heard after `PLAYED_LATER_MS`."""

    def clear(self) -> None:
        """Nothing of ours waits at the peer but its jitter buffer."""

    def caption(self, text: str) -> None:
        self._put(messages.write("caption", text=text))

    def tell(self, message: str) -> None:
        self._put(message)

    def end(self, cause: str, outcome: str) -> None:
        self._put(messages.write("ended", cause=cause, outcome=outcome))
        self.ended.set()

    def close(self, code: CloseCode, reason: str) -> None:
        self._put(messages.write("ended", cause=code, outcome="", reason=reason))
        self.ended.set()

    def refuse(self, code: CloseCode, reason: str) -> None:
        """The peer does not keep to the protocol."""
        self.leg.gone(goodbye=False)
        self.close(code, reason)

    def _put(self, text: str) -> None:
        if self.over:
            return
        if self.peer is None or not self.peer.channel_is_open:
            self._early.append(text)
        elif self.peer.waiting_bytes > MAX_WAITING_BYTES:
            self._gap = True
        else:
            if self._gap:
                self._gap = False
                self.peer.tell(messages.GAP)
            self.peer.tell(text)
