"""The audio of one leg over RTP, both ways: packets to samples and samples to packets, on the leg's 20 ms clock.

One piece for all transports that speak RTP. It knows no sockets and no keys: packets leave by `transmit`.
"""

import time
from collections.abc import Callable
from typing import Final

from media.audio import FRAME_MS, Pcm, silence
from media.codec import Codec, PayloadError
from media.digits import DigitReader
from media.jitter import JitterBuffer
from media.opus import DTX_BYTES, Opus
from media.rtp import HEADER, HEADER_BYTES, PLAIN, RtpError, RtpPacket, RtpReceiver, RtpSender, Stream, mean_opinion

HANGOVER_FRAMES: Final = 10  # of silence sent after the agent's last sound, so that its end is not concealed
NOTHING_MS: Final = 20  # without a frame: that is silence, and no tick that came late
BEHIND_MS: Final = 60  # of the clock: then RTP's time catches up before the next frame, so that words have no holes
KEEP_ALIVE_MS: Final = 400  # between packets of silence after that (RFC 7587, 3.1.3)
MAX_CONCEALED: Final = 15  # frames in a row; then it is plain silence
LOSS_KEPT: Final = 0.7  # of what was lost once, with each further report: for that long packets carry copies
REPORT_MS: Final = 5000  # between RTCP reports (RFC 3550, 6.2)
MAX_PACKETS_PER_S: Final = 250  # of RTP; what comes beyond is dropped
MAX_REPORTS_PER_S: Final = 50  # of RTCP, likewise: its flood takes no sound away

Heard = Callable[[Pcm, int], None]
Transmit = Callable[[bytes], None]


class RtpAudio:
    """Ticked by its owner, which also gives it what comes. Sync; one thread."""

    __slots__ = (
        "_clock",
        "_continuous",
        "_digit",
        "_digits",
        "_event_types",
        "_frame_ticks",
        "_given",
        "_lock",
        "_missing",
        "_now_ms",
        "_packet_bytes",
        "_packet_ticks",
        "_packets_left",
        "_payload_type",
        "_quiet_frames",
        "_refill_ms",
        "_report_due_ms",
        "_reports",
        "_sent_ms",
        "_silence_due_ms",
        "_silence_in",
        "_silence_out",
        "_talking",
        "_transmit_report",
        "_waiting",
        "bad_packets",
        "buffer",
        "codec",
        "concealed_frames",
        "excess_packets",
        "heard",
        "lost_percent",
        "receiver",
        "sender",
        "transmit",
    )

    def __init__(
        self,
        codec: Codec,
        payload_type: int,
        event_types: frozenset[int],
        *,
        ssrc: int,
        cname: str,
        heard: Heard,
        digit: Callable[[str], None],
        transmit: Transmit,
        transmit_report: Transmit,
        now_ms: Callable[[], int],
        continuous: bool = False,
        packet_ms: int = FRAME_MS,
        lock: bool = False,
        receive_type: int | None = None,
        sequence: int | None = None,
    ) -> None:
        """`heard` is given the samples at the codec's rate, with the time. It and `transmit` may change.

        `continuous`: silence is sent like speech, as telephones expect. `packet_ms`: of each packet, for codecs whose
        payload can be cut anywhere. `lock`: packets come from anybody, so one source is chosen (`media.rtp.Stream`).
        `receive_type`: what the peer numbers its packets with, where it is another type than ours. `sequence`: of the
        first packet, where another stream of this source went before: SRTP counts them.
        """
        self.codec = codec
        self.sender = RtpSender(ssrc, payload_type, codec.clock_hz, sequence=sequence, cname=cname)
        self.receiver = RtpReceiver(codec.clock_hz)
        self.excess_packets = 0
        self.bad_packets = 0
        self.concealed_frames = 0
        self.lost_percent = 0.0  # at the peer
        self._frame_ticks = codec.clock_hz * FRAME_MS // 1000
        self.buffer = JitterBuffer(codec.clock_hz, self._frame_ticks)
        self._payload_type = payload_type if receive_type is None else receive_type
        self._event_types = event_types
        self._lock = Stream(frozenset({self._payload_type}) | event_types) if lock else None
        self.heard = heard
        self._digit = digit
        self.transmit = transmit
        self._transmit_report = transmit_report
        self._clock = now_ms
        self._continuous = continuous
        self._digits = DigitReader()
        self._silence_in = silence(codec.rate_hz, FRAME_MS)
        self._silence_out = codec.encode(silence(codec.rate_hz, FRAME_MS))
        self._packet_bytes = codec.bytes_per_ms * packet_ms if packet_ms != FRAME_MS else 0  # 0: a frame, a packet
        self._packet_ticks = codec.clock_hz * packet_ms // 1000
        self._waiting = bytearray()
        self._now_ms = 0
        self._sent_ms = 0  # the time until which there is something sent, or left out on purpose
        self._talking = False  # the last packet was of the frame just before
        self._quiet_frames = HANGOVER_FRAMES  # since the last frame
        self._silence_due_ms = 0
        self._report_due_ms = 0
        self._packets_left = MAX_PACKETS_PER_S  # in this second
        self._refill_ms = 0
        self._given: list[bytes] = []  # payloads that came in order, since `hear`
        self._reports = Rate(MAX_REPORTS_PER_S)
        self._missing = 0  # frames in a row

    @property
    def strays(self) -> int:
        """Packets that were not of the source that is listened to."""
        return self._lock.strays if self._lock is not None else 0

    @property
    def opinion(self) -> float:
        """The mean opinion score of what is heard here, by the E-model."""
        expected = max(self.receiver.expected, 1)
        lost_percent = max(0.0, 100 * (self.receiver.lost + self.buffer.late) / expected)
        return mean_opinion(self.buffer.wait_ms + FRAME_MS + (self.receiver.round_trip_ms or 0) / 2, lost_percent)

    def start(self) -> None:
        """From now on time counts."""
        self._sent_ms = self._clock()

    # The ticker: `hear` before the leg's own tick, `fill` after it

    def hear(self, now_ms: int) -> None:
        """What is due out of the jitter buffer. Gaps and pauses are filled, so that time goes on."""
        self._now_ms = now_ms
        if now_ms >= self._refill_ms:
            self._refill_ms = now_ms + 1000
            self._packets_left = MAX_PACKETS_PER_S
        heard = self.heard
        if self._given:
            given, self._given = self._given, []
            self._missing = 0
            decode = self.codec.decode
            for payload in given:
                try:
                    pcm = decode(payload)
                except PayloadError:
                    pcm = self._bad()
                heard(pcm, now_ms)
        for due in self.buffer.due(now_ms):
            if due.payload is not None:
                self._missing = 0
                try:
                    pcm = self.codec.decode(due.payload)
                except PayloadError:
                    pcm = self._bad()
            elif self._missing < MAX_CONCEALED:
                self._missing += 1
                self.concealed_frames += 1
                recovered = self.codec.recover(due.following) if due.following is not None else None
                pcm = recovered if recovered is not None else self.codec.conceal()
            else:
                pcm = self._silence_in
            heard(pcm, now_ms)

    def fill(self, now_ms: int) -> None:
        """Where no frame was sent, silence is; now and then a report."""
        if now_ms - self._sent_ms >= NOTHING_MS:
            if self._continuous:
                self._send(self._silence_out)
            else:
                self._say_nothing()
        if now_ms >= self._report_due_ms:
            self._report_due_ms = now_ms + REPORT_MS
            self._transmit_report(self.sender.report(now_ms, time.time(), self.receiver))

    def _bad(self) -> Pcm:
        self.bad_packets += 1
        return self.codec.conceal()

    # Out

    def say(self, frame: Pcm) -> None:
        """20 ms of sound."""
        behind_ms = self._now_ms - self._sent_ms
        if behind_ms >= BEHIND_MS:
            self.skip(behind_ms // FRAME_MS)
        self._quiet_frames = 0
        payload = self.codec.encode(frame)
        if len(payload) <= DTX_BYTES:  # only says that silence goes on
            self.skip()
        else:
            self._send(payload)

    def skip(self, frames: int = 1) -> None:
        self._sent_ms += frames * FRAME_MS
        self.sender.skip(frames * self._frame_ticks)
        self._waiting.clear()
        self._talking = False

    def goodbye(self) -> bytes:
        """The last report (RFC 3550, 6.6)."""
        return self.sender.goodbye(self._clock(), time.time(), self.receiver)

    def _say_nothing(self) -> None:
        """A little silence after the last sound, then hardly anything."""
        self._quiet_frames += 1
        if self._quiet_frames <= HANGOVER_FRAMES or self._now_ms >= self._silence_due_ms:
            self._silence_due_ms = self._now_ms + KEEP_ALIVE_MS
            self._send(self._silence_out)
        else:
            self.skip()

    def _send(self, payload: bytes) -> None:
        """The marker is on what follows a pause (RFC 3551, 4.1)."""
        self._sent_ms += FRAME_MS
        if not self._packet_bytes:
            self.transmit(self.sender.packet(payload, self._frame_ticks, marker=not self._talking))
            self._talking = True
            return
        self._waiting += payload
        while len(self._waiting) >= self._packet_bytes:
            whole = bytes(self._waiting[: self._packet_bytes])
            del self._waiting[: self._packet_bytes]
            self.transmit(self.sender.packet(whole, self._packet_ticks, marker=not self._talking))
            self._talking = True

    # In

    def rtp(self, packet: bytes, arrived_ms: int | None = None) -> bool:
        """False: nothing that this leg listens to. `arrived_ms`: where it has waited to be read."""
        self._packets_left -= 1
        if self._packets_left < 0:
            self.excess_packets += 1
            return False
        now_ms = self._clock() if arrived_ms is None else arrived_ms
        if len(packet) > HEADER_BYTES:
            first, second, sequence, timestamp, ssrc = HEADER.unpack_from(packet)
            if (
                first == PLAIN
                and second & 0x7F == self._payload_type
                and (self._lock is None or ssrc == self._lock.ssrc)
                and self.buffer.passes(ssrc, sequence, timestamp, now_ms)
            ):
                self.receiver.counted(ssrc, sequence, timestamp, now_ms)
                self._given.append(packet[HEADER_BYTES:])
                return True
        return self._received(packet, now_ms)

    def _received(self, packet: bytes, now_ms: int) -> bool:
        """Any packet, in any order."""
        try:
            parsed = RtpPacket.parse(packet)
        except RtpError:
            self.bad_packets += 1
            return False
        if self._lock is not None and not self._lock.admit(parsed):
            return False
        if parsed.payload_type == self._payload_type:
            self.receiver.received(parsed, now_ms)
            self.buffer.push(parsed, now_ms)
        elif parsed.payload_type in self._event_types:
            self.receiver.received(parsed, now_ms, timed=False)  # else it would count as lost: they share one sequence
            digit = self._digits.received(parsed)
            if digit is not None:
                self._digit(digit)
        else:
            return False
        return True

    def rtcp(self, packet: bytes) -> None:
        if not self._reports.admit(self._now_ms):
            self.excess_packets += 1
            return
        heard = self.receiver.rtcp(packet, self._clock(), self.sender.ssrc)
        if heard is not None:
            self.lost_percent = max(heard.lost_percent, self.lost_percent * LOSS_KEPT)
            if isinstance(self.codec, Opus):
                self.codec.expect_loss(round(self.lost_percent))

    def release(self) -> None:
        """The source may change: it was moved, or nothing came for a while."""
        if self._lock is not None:
            self._lock.release()


class Rate:
    """At most so many a second."""

    __slots__ = (
        "_count",
        "_most",
        "_since_ms",
    )

    def __init__(self, most: int) -> None:
        self._most = most
        self._since_ms = 0
        self._count = 0

    def admit(self, now_ms: int) -> bool:
        if now_ms - self._since_ms >= 1000:
            self._since_ms, self._count = now_ms, 0
        self._count += 1
        return self._count <= self._most
