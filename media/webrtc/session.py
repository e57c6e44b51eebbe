"""One WebRTC leg: packets to samples and back, the data channel's messages, and the leg's `Wire`."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from media.audio import FRAME_MS, Pcm, silence
from media.codec import Codec, PayloadError
from media.digits import DigitReader
from media.gateway import Admission
from media.jitter import JitterBuffer
from media.leg import CloseCode, Leg
from media.opus import DTX_BYTES, Opus
from media.rtp import RtpError, RtpPacket, RtpReceiver, RtpSender
from media.webrtc import messages
from media.webrtc.messages import DIGITS, Digit, MessageError, Ping, Text
from media.webrtc.offer import Offer
from media.webrtc.peer import Peer

PLAYED_LATER_MS: Final = 60  # the browser's own jitter buffer; what has not passed it counts as not heard
HANGOVER_FRAMES: Final = 10  # of silence sent after the agent's last sound, so that its end is not concealed
NOTHING_MS: Final = 20  # without a frame: that is silence, and no tick that came late
BEHIND_MS: Final = 60  # of the clock: then RTP's time catches up before the next frame, so that words have no holes
KEEP_ALIVE_MS: Final = 400  # between packets of silence after that (RFC 7587, 3.1.3)
MAX_CONCEALED: Final = 15  # frames in a row; then it is plain silence
MAX_QUIET_MS: Final = 8000  # without anything from the peer: it is gone
WATCH_MS: Final = 100  # between looks at the connection
GOODBYE_MS: Final = 1500  # after the connection's end, for a goodbye that is still on its way
LOSS_KEPT: Final = 0.7  # of what was lost once, with each further report: for that long packets carry copies
REPORT_MS: Final = 5000  # between RTCP reports (RFC 3550, 6.2)
MAX_PACKETS_PER_S: Final = 250  # RTP and RTCP; what comes beyond is dropped
MAX_MESSAGES_PER_S: Final = 50
MAX_WAITING_BYTES: Final = 128 * 1024  # of messages that the peer has not taken; more are left out
MAX_EARLY_MESSAGES: Final = 100  # before the data channel is open


class Session:
    """Ticked with everything else; between ticks it only takes in what came."""

    def __init__(self, offer: Offer, admission: Admission, *, ssrc: int, cname: str) -> None:
        self.codec: Codec = offer.new_codec()
        self.leg = Leg(
            admission.leg,
            "webrtc",
            self.codec.rate_hz,
            self,
            admission.handler,
            peer_buffer_ms=PLAYED_LATER_MS,
            shows=bool(offer.remote.sctp_port),
        )
        self.peer: Peer | None = None  # set before the connection
        self.ended = asyncio.Event()
        self._handler = admission.handler
        self._attached = False
        clock_hz = self.codec.clock_hz
        self._frame_ticks = clock_hz * FRAME_MS // 1000
        self._payload_type = offer.codec.payload_type
        self._event_types = frozenset(f.payload_type for f in offer.event_types)
        self._sends = offer.direction.startswith("send")
        self._sender = RtpSender(ssrc, self._payload_type, clock_hz, cname=cname)
        self._receiver = RtpReceiver(clock_hz)
        self._buffer = JitterBuffer(clock_hz, self._frame_ticks)
        self._digits = DigitReader()
        self._silence_in = silence(self.codec.rate_hz, FRAME_MS)
        self._silence_out = self.codec.encode(silence(self.codec.rate_hz, FRAME_MS))
        self._early: deque[str] = deque(maxlen=MAX_EARLY_MESSAGES)
        self._now_ms = 0
        self._sent_ms = 0  # the time until which there is something sent, or left out on purpose
        self._talking = False  # the last packet was of the frame just before
        self._quiet_frames = HANGOVER_FRAMES  # since the agent's last frame
        self._silence_due_ms = 0
        self._report_due_ms = 0
        self._watch_due_ms = 0
        self._lost_at_ms = 0  # the connection ended then, for whatever reason
        self._last_datagrams = (0, 0)  # the peer's so far, and since when it is that many
        self._packets = _Rate(MAX_PACKETS_PER_S)
        self._messages = _Rate(MAX_MESSAGES_PER_S)
        self._gap = False
        self._missing = 0  # frames in a row
        self._lost_percent = 0.0  # at the peer
        self._loop = asyncio.get_running_loop()
        self.excess_packets = 0
        self.bad_packets = 0

        self._put(messages.write("started", call=admission.call, flow=admission.flow, resume=admission.resume))

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    def attach(self) -> None:
        self._attached = True
        self._sent_ms = int(self._loop.time() * 1000)
        try:
            self._handler.attach(self.leg)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(error)

    # The ticker

    def tick(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._hear()
        self.leg.tick(now_ms)
        if now_ms - self._sent_ms >= NOTHING_MS:
            self._say_nothing()
        if now_ms >= self._watch_due_ms:
            self._watch_due_ms = now_ms + WATCH_MS
            self._watch()

    def _hear(self) -> None:
        """What is due out of the jitter buffer. Gaps and pauses are filled, so that time goes on."""
        for due in self._buffer.due(self._now_ms):
            if due.payload is not None:
                self._missing = 0
                pcm = self._decoded(due.payload)
            elif self._missing < MAX_CONCEALED:
                self._missing += 1
                recovered = self.codec.recover(due.following) if due.following is not None else None
                pcm = recovered if recovered is not None else self.codec.conceal()
            else:
                pcm = self._silence_in
            self.leg.receive(pcm, self._now_ms)

    def _decoded(self, payload: bytes) -> Pcm:
        try:
            return self.codec.decode(payload)
        except PayloadError:
            self.bad_packets += 1
            return self.codec.conceal()

    def _say_nothing(self) -> None:
        """A little silence after the last sound, then hardly anything."""
        self._quiet_frames += 1
        if self._quiet_frames <= HANGOVER_FRAMES or self._now_ms >= self._silence_due_ms:
            self._silence_due_ms = self._now_ms + KEEP_ALIVE_MS
            self._send(self._silence_out)
        else:
            self._skip()

    def _send(self, payload: bytes) -> None:
        """The marker is on what follows a pause (RFC 3551, 4.1)."""
        self._sent_ms += FRAME_MS
        packet = self._sender.packet(payload, self._frame_ticks, marker=not self._talking)
        self._talking = True
        if self._sends and self.peer is not None:
            self.peer.send_rtp(packet)

    def _skip(self, frames: int = 1) -> None:
        self._sent_ms += frames * FRAME_MS
        self._sender.skip(frames * self._frame_ticks)
        self._talking = False

    def _report(self) -> None:
        self._report_due_ms = self._now_ms + REPORT_MS
        if self.peer is not None:
            self.peer.send_rtcp(self._sender.report(self._now_ms, time.time(), self._receiver))

    def _watch(self) -> None:
        assert self.peer is not None
        if self._now_ms >= self._report_due_ms:
            self._report()
        if self._lost_at_ms and self._now_ms - self._lost_at_ms >= GOODBYE_MS:
            self.gone(goodbye=False)
        datagrams, since_ms = self._last_datagrams
        if self.peer.datagrams != datagrams or not since_ms:
            self._last_datagrams = (self.peer.datagrams, self._now_ms)
        elif self._now_ms - since_ms > MAX_QUIET_MS:
            self.gone(goodbye=False)

    # The peer's packets and messages

    def rtp(self, packet: bytes) -> None:
        if not self._admits():
            return
        try:
            parsed = RtpPacket.parse(packet)
        except RtpError:
            self.bad_packets += 1
            return
        if parsed.payload_type == self._payload_type:
            now_ms = int(self._loop.time() * 1000)
            self._receiver.received(parsed, now_ms)
            self._buffer.push(parsed, now_ms)
        elif parsed.payload_type in self._event_types:
            digit = self._digits.received(parsed)
            if digit is not None and digit in DIGITS:
                self._tell_call(self.leg.digit, digit)

    def rtcp(self, packet: bytes) -> None:
        if not self._admits():
            return
        heard = self._receiver.rtcp(packet, int(self._loop.time() * 1000), self._sender.ssrc)
        if heard is not None and isinstance(self.codec, Opus):
            self._lost_percent = max(heard.lost_percent, self._lost_percent * LOSS_KEPT)
            self.codec.expect_loss(round(self._lost_percent))

    def _admits(self) -> bool:
        if self.over:
            return False
        admitted = self._packets.admit(self._now_ms)
        self.excess_packets += not admitted
        return admitted

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
        if self.over:
            return
        behind_ms = int(self._loop.time() * 1000) - self._sent_ms
        if behind_ms >= BEHIND_MS:
            self._skip(behind_ms // FRAME_MS)
        self._quiet_frames = 0
        payload = self.codec.encode(frame)
        if len(payload) <= DTX_BYTES:  # only says that silence goes on
            self._skip()
        else:
            self._send(payload)

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


class _Rate:
    """At most so many a second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since_ms = 0
        self._count = 0

    def admit(self, now_ms: int) -> bool:
        if now_ms - self._since_ms >= 1000:
            self._since_ms, self._count = now_ms, 0
        self._count += 1
        return self._count <= self._most
