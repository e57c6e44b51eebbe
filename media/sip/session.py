"""One SIP leg: its call, its description, its RTP, and the leg's `Wire`."""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from urllib.parse import quote

from media.audio import Pcm
from media.dtls import Certificate, HandshakeError
from media.gateway import Admission
from media.leg import CloseCode, Instead, Leg
from media.rtp_audio import RtpAudio
from media.sdp import SdpError
from media.sip.call import Call, End, EndCause
from media.sip.keys import Keys, Spawn
from media.sip.negotiation import Agreed, Negotiation
from media.sip.port import MediaPort
from media.sip.refer import Referral
from media.srtp import SrtpError

PLAYED_LATER_MS: Final = 60  # the phone's own jitter buffer; what has not passed it counts as not heard
QUIET_MS = 15_000  # without RTP: is the peer still there? Not `Final`: a test shortens it where it is compiled, too
WATCH_MS: Final = 500
UNPROVEN_MS: Final = 30_000  # for which sound goes where nobody has shown to want it
MEASURE_MS: Final = 10_000  # between two measurements that the call is told
DIGITS: Final = frozenset("0123456789*#")

log = logging.getLogger("voicegate.sip")


class Ringing(Protocol):
    """Told what comes of a call of ours until somebody answers."""

    def rang(self) -> None: ...

    def not_reached(self, status: int, contacts: Sequence[str] = ()) -> None:
        """`contacts`: whom to call instead."""
        ...


class Session:
    """Made when the peer's offer is answered; attached to its call when the ACK is here."""

    def __init__(
        self,
        negotiation: Negotiation,
        port: MediaPort,
        *,
        ssrc: int,
        cname: str,
        comes_back: Callable[["Session"], None],
        identity: Certificate | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """`comes_back`: a leg that was lost is heard of again, and needs a new admission.

        `identity`, `spawn`: where DTLS may be agreed, whose fingerprint `negotiation` gives, and who owns its task.
        """
        self.negotiation = negotiation
        self.port = port
        self.done = asyncio.Event()
        self.over = False
        self.admission: Admission | None = None
        self.ringing: Ringing | None = None  # of a call of ours, until somebody answers
        self.call: Call | None = None
        self.leg: Leg | None = None
        self.audio_stream: RtpAudio | None = None
        self._ssrc = ssrc
        self._sequence: int | None = None  # of the next stream's first packet
        self._cname = cname
        self._comes_back = comes_back
        self._coming_back = False
        self._agreed: Agreed | None = None  # that runs
        self._keys = Keys(port, self._unsecured, identity, spawn)
        self.was_lost = False  # and is perhaps to be replaced by another dialog
        self._told: Callable[[int], None] | None = None  # how our REFER goes
        self._stands = False  # the ACK is here
        self._now_ms = 0
        self._watch_due_ms = 0
        self._measure_due_ms = 0
        self._heard = (0, 0)  # packets so far, and since when it is that many
        self._asked = False  # whether the peer is there
        self._mute = False
        self._since_ms = 0  # that the peer's address is what it is
        port.peer.moved = self._moved
        self._loop = asyncio.get_running_loop()

    def _finish(self) -> None:
        self.over = True
        self.done.set()

    @property
    def lost(self) -> bool:
        return self._stands and self.leg is None and not self.over

    def attach(self, admission: Admission) -> None:
        """To its call: at first, or once more after it was lost."""
        self.admission = admission
        self._coming_back = False
        agreed = self.negotiation.agreed
        if self.over or not self._stands or agreed is None:
            return
        self._run(agreed)

    def _run(self, agreed: Agreed) -> None:
        """The media as agreed: at first, and wherever the agreement has changed."""
        assert self.admission is not None
        before, self._agreed = self._agreed, agreed
        self.port.talk_to(agreed.host, agreed.port, agreed.report_port, mux=agreed.mux)
        self._keys.follow(agreed)
        if before is None or (before.host, before.port) != (agreed.host, agreed.port):
            self._since_ms = self._time_ms()
            self._mute = self._floods(agreed)
        same = before is not None and (before.codec, before.receive_type, before.packet_ms, before.event_types) == (
            agreed.codec,
            agreed.receive_type,
            agreed.packet_ms,
            agreed.event_types,
        )
        if self.leg is not None and before is not None and before.sends != agreed.sends:
            self.leg.held(on=not agreed.sends)
        if self.leg is not None and same:
            assert self.audio_stream is not None
            self.audio_stream.release()
            self._connect(self.audio_stream, self.leg, agreed)
            return
        if self.leg is not None and self.audio_stream is not None and self.leg.rate_hz == agreed.new_codec().rate_hz:
            self.audio_stream = self._new_stream(agreed, self.leg)
            self.audio_stream.start()
            return
        if self.leg is not None:  # another rate: the call goes on with another leg
            self._lose()
            self._come_back()
            return
        codec = agreed.new_codec()
        handler = self.admission.handler
        leg = Leg(self.admission.leg, "sip", codec.rate_hz, self, handler, peer_buffer_ms=PLAYED_LATER_MS)
        leg.refer = self._refer
        leg.measure = self._measure
        self.port.listen(self._rtp, self._rtcp)
        self.audio_stream = self._new_stream(agreed, leg)
        self.audio_stream.start()
        self.leg = leg
        self._heard = (0, 0)
        self._asked = False
        try:
            handler.attach(leg)
            if not agreed.sends:
                leg.held(on=True)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(error)

    def _new_stream(self, agreed: Agreed, leg: Leg) -> RtpAudio:
        self._note_sequence()
        stream = RtpAudio(
            agreed.new_codec(),
            agreed.codec.payload_type,
            agreed.event_types,
            receive_type=agreed.receive_type,
            ssrc=self._ssrc,
            cname=self._cname,
            heard=_nobody,
            digit=self._key,
            transmit=_nowhere,
            transmit_report=self._transmit_report,
            now_ms=self._time_ms,
            continuous=True,
            packet_ms=agreed.packet_ms,
            lock=True,
            sequence=self._sequence,
        )
        self._connect(stream, leg, agreed)
        return stream

    def _connect(self, stream: RtpAudio, leg: Leg, agreed: Agreed) -> None:
        """Sound goes by the shortest way. Whoever holds a call lets music play, which is nobody's turn."""
        plain = self._keys.plain
        send = self.port.send if plain else self._keys.send
        stream.heard = leg.receive if agreed.sends else _nobody
        stream.transmit = send if agreed.sends and not self._mute else _nowhere
        self.port.peer.received = stream.rtp if plain and agreed.hears else self._rtp

    def _note_sequence(self) -> None:
        if self.audio_stream is not None:
            self._sequence = self.audio_stream.sender.sequence

    # The ticker

    def hear(self, now_ms: int) -> None:
        """Before each tick: what came."""
        self._now_ms = now_ms
        self.port.read(now_ms)
        if self.audio_stream is not None and self.leg is not None:
            self.audio_stream.hear(now_ms)

    def tick(self, now_ms: int) -> None:
        self._now_ms = now_ms
        stream, leg = self.audio_stream, self.leg
        if stream is None or leg is None:
            return
        leg.tick(now_ms)
        stream.fill(now_ms)
        if now_ms >= self._watch_due_ms:
            self._watch_due_ms = now_ms + WATCH_MS
            self._watch(stream)
            if now_ms >= self._measure_due_ms:
                self._measure_due_ms = now_ms + MEASURE_MS
                self._measure()

    def _measure(self) -> None:
        stream, leg = self.audio_stream, self.leg
        if stream is None or leg is None:
            return
        receiver = stream.receiver
        if receiver.packets:
            lost = max(0, receiver.lost) + stream.buffer.late
            leg.measured(receiver.packets, lost, receiver.jitter_ms, stream.opinion)

    def _watch(self, stream: RtpAudio) -> None:
        """Phones may be silent on purpose, so one that is quiet is asked whether it is there."""
        if self._agreed is not None and self.leg is not None and self._mute != self._floods(self._agreed):
            self._mute = not self._mute
            self._connect(stream, self.leg, self._agreed)
        packets, since_ms = self._heard
        if stream.receiver.packets != packets or not since_ms:
            self._heard = (stream.receiver.packets, self._now_ms)
            self._asked = False
        elif self._now_ms - since_ms > QUIET_MS and not self._asked and self.call is not None:
            self._asked = True
            self.call.modification.refresh(self._now_ms)

    def _floods(self, agreed: Agreed) -> bool:
        """Whether the sound goes to somebody who never asked for it.

        A peer may name any address. Its own is proven by its ACK, another one by packets that come from there.
        """
        dialog = self.call.dialog if self.call is not None else None
        if dialog is None or self.port.peer.heard or agreed.host == dialog.hop.host:
            return False
        return _is_this_machine(agreed.host) or self._time_ms() - self._since_ms > UNPROVEN_MS

    def _moved(self) -> None:
        """Another source is listened to."""
        if self.audio_stream is not None:
            self.audio_stream.release()

    def _time_ms(self) -> int:
        return int(self._loop.time() * 1000)

    # Packets

    def _transmit_report(self, packet: bytes) -> None:
        self._keys.send_report(packet)

    def _rtp(self, packet: bytes, arrived_ms: int) -> bool:
        stream, keys = self.audio_stream, self._keys
        if not keys.plain and keys.handshake(packet):
            return True
        if stream is None or self.over or self._agreed is None or not self._agreed.hears:
            return False
        if not keys.plain:
            try:
                packet = keys.opened(packet)
            except SrtpError:
                stream.bad_packets += 1
                return False
        return stream.rtp(packet, arrived_ms)

    def _rtcp(self, packet: bytes) -> None:
        if self._keys.handshake(packet, report=True) or self.audio_stream is None or self.over:
            return
        try:
            self.audio_stream.rtcp(self._keys.opened_report(packet))
        except SrtpError:
            return

    def _key(self, key: str) -> None:
        if key in DIGITS and self.leg is not None:
            try:
                self.leg.digit(key)
            except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
                self.failed(error)

    # The call's listener

    def offered(self, sdp: str, now_ms: int) -> str | None:
        try:
            answer = self.negotiation.answer(sdp)
        except SdpError:
            return None
        self._changed()
        return answer

    def wanted(self, now_ms: int) -> str:
        return self.negotiation.offer()

    def answered(self, sdp: str, now_ms: int) -> bool:
        try:
            self.negotiation.answered(sdp)
        except SdpError:
            return False
        self._changed()
        return True

    def _changed(self) -> None:
        if self._stands and self.negotiation.agreed is not None:
            if self.lost:
                self._come_back()
            elif self.negotiation.agreed != self._agreed:
                self._run(self.negotiation.agreed)

    def _come_back(self) -> None:
        """Once, whatever else changes until there is another leg."""
        if not self._coming_back:
            self._coming_back = True
            self._comes_back(self)

    def progressed(self, code: int, now_ms: int) -> None:
        if self.ringing is not None:
            self.ringing.rang()

    def confirmed(self, now_ms: int) -> None:
        self._stands = True
        self.ringing = None
        if self.admission is not None:
            self.attach(self.admission)

    def cancel(self) -> None:
        """Nobody wants to talk any more; implements `media.gateway.Dialling`."""
        if not self._stands and not self.over:
            self.ringing = None
            self._hang_up("")

    def ended(self, end: End, now_ms: int) -> None:
        self.call = None
        ringing, self.ringing = self.ringing, None
        if ringing is not None and end.cause is not EndCause.ours:
            ringing.not_reached(end.code or (408 if end.cause is EndCause.timeout else 503), end.contacts)
            self._finish()
        elif end.cause is EndCause.ours:
            self._finish()
        else:
            self.gone(goodbye=end.cause in (EndCause.hangup, EndCause.cancelled))

    def digit(self, key: str, duration_ms: int, now_ms: int) -> None:
        self._key(key)

    def referred(self, referral: Referral, now_ms: int) -> bool | None:
        call, leg = self.call, self.leg
        if call is None or leg is None or leg.referred is None:
            return False
        replaces = str(referral.replaces) if referral.replaces is not None else ""

        def told(status: int) -> None:
            call.transfers.progress(status, self._time_ms())

        try:
            return None if leg.referred(Instead(referral.to, replaces, referral.by), told) else False
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(error)
            return False

    def _refer(self, to: str, told: Callable[[int], None]) -> None:
        """Implements `media.leg.Refer`."""
        call = self.call
        if call is None or self._told is not None:
            told(481)
            return
        self._told = told
        target = to if to.lower().startswith("sip") else f"sip:{quote(to, safe='+*#')}@{call.stands.target.host}"
        call.transfers.ask(target, self._time_ms())

    def transferred(self, code: int, now_ms: int) -> None:
        told = self._told
        if code >= 200:
            self._told = None
        if told is not None:
            told(code)

    # Its end

    def gone(self, *, goodbye: bool) -> None:
        """The peer left: it said so, or it is not heard of any more."""
        if self.over:
            return
        self.was_lost = not goodbye
        if self.leg is not None:
            self._measure()  # what was heard since, and all of a short call
            self.leg.gone(goodbye=goodbye)
        elif self.ringing is not None:
            ringing, self.ringing = self.ringing, None
            ringing.not_reached(503)
        elif self.admission is not None and not self._stands:
            self.admission.handler.lost()
        self._finish()

    def _lose(self) -> None:
        """The leg is gone; the dialog is not, and whoever is at its other end may come back."""
        self._note_sequence()
        leg, self.leg, self.audio_stream = self.leg, None, None
        self.port.peer.received = self._rtp
        if leg is not None:
            leg.gone(goodbye=False)

    def failed(self, error: Exception) -> None:
        if self.leg is not None:
            self.leg.failed(error)
        else:
            self.close(CloseCode.internal_error, "internal error")

    def _unsecured(self, error: HandshakeError) -> None:
        """There are no keys, and without them nothing is said."""
        if self.over:
            return
        log.warning("SIP leg %s ends: %s", self.admission.leg if self.admission is not None else "", error)
        try:
            self.gone(goodbye=False)
        except Exception as trouble:  # noqa: BLE001  # ours, and it ends this call only
            self.failed(trouble)
        self._hang_up('SIP;cause=488;text="no keys for SRTP"')

    async def release(self) -> None:
        """Says goodbye (RFC 3550, 6.6) and lets go of the keys, as long as the port is open. Never waits."""
        if self.audio_stream is not None:
            self._transmit_report(self.audio_stream.goodbye())
        await self._keys.close()

    # The leg's wire

    @property
    def stalled(self) -> bool:
        """Also while the peer holds the call, or has no keys yet: what it does not take, it does not hear."""
        return self.over or self._agreed is None or not self._agreed.sends or not self._keys.ready

    def audio(self, frame: Pcm) -> None:
        if not self.over and self.audio_stream is not None:
            self.audio_stream.say(frame)

    def mark(self, name: str) -> None:
        """RTP has no marks: what was sent counts as heard after `PLAYED_LATER_MS`."""

    def clear(self) -> None:
        """Nothing of ours waits at the peer but its jitter buffer."""

    def caption(self, text: str) -> None:
        """Telephones show none."""

    def tell(self, message: str) -> None:
        """Nor this."""

    def end(self, cause: str, outcome: str) -> None:
        self._hang_up('Q.850;cause=16;text="Normal call clearing"')

    def close(self, code: CloseCode, reason: str) -> None:
        normal = code in (CloseCode.normal, CloseCode.replaced, CloseCode.going_away)
        self._hang_up(f'Q.850;cause={16 if normal else 41};text="{code}"')

    def _hang_up(self, reason: str) -> None:
        call, self.call = self.call, None
        if call is not None:
            call.hang_up(self._time_ms(), reason)
        self._finish()


def _nobody(pcm: Pcm, now_ms: int) -> None: ...


def _nowhere(packet: bytes) -> None: ...


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
