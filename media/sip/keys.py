"""SRTP between a leg and its port, as agreed: none, keyed by the descriptions, or keyed by a DTLS handshake."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from media.dtls import Certificate, HandshakeError
from media.sip.dtls import Handshake, is_dtls
from media.sip.negotiation import Agreed, Fingerprint
from media.sip.port import MediaPort
from media.srtp import Crypto, Srtp, SrtpError

HANDSHAKE_S: Final = 15  # the peer's ClientHello may be lost four times (RFC 6347, 4.2.4.1)

Spawn = Callable[[Coroutine[Any, Any, None]], None]

log = logging.getLogger("voicegate.sip")


class Keys:
    """`follow` each agreement, `close` in the end. As long as keys are awaited, nothing passes either way."""

    __slots__ = (
        "_failed",
        "_handshakes",
        "_identity",
        "_mux",
        "_port",
        "_report_srtp",
        "_spawn",
        "_srtp",
        "_wanted",
        "plain",
        "ready",
    )

    def __init__(
        self,
        port: MediaPort,
        failed: Callable[[HandshakeError], None],
        identity: Certificate | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """`identity`, `spawn`: needed where DTLS may be agreed. `failed`: there are no keys, and will be none."""
        self._port = port
        self._failed = failed
        self._identity = identity
        self._spawn = spawn
        self._wanted: tuple[Crypto | None, Crypto | None, Fingerprint | None] = None, None, None
        self._mux = True
        self._srtp: Srtp | None = None
        self._report_srtp: Srtp | None = None  # of RTCP that has its own port and so its own handshake (RFC 5764, 3)
        self._handshakes: tuple[Handshake, Handshake] | None = None  # of RTP, of RTCP
        self.ready = True
        """Packets pass."""
        self.plain = True
        """As they are: nothing is encrypted, and nobody shakes hands."""

    def follow(self, agreed: Agreed) -> None:
        """The same keys, or the same certificate in the same part, change nothing: packets are counted on."""
        self._mux = agreed.mux
        wanted = agreed.ours, agreed.theirs, agreed.fingerprint
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._srtp = self._report_srtp = None
        if self._handshakes is not None and self._spawn is not None:
            self._spawn(_close(self._handshakes))
        self._handshakes = None
        self._port.peer.greets = agreed.fingerprint is not None and agreed.fingerprint.active
        self.ready = self.plain = not any(wanted)
        if agreed.ours is not None and agreed.theirs is not None:
            self._srtp = Srtp.of(agreed.ours, agreed.theirs)
            self.ready = True
        elif agreed.fingerprint is not None:
            self._begin(agreed.fingerprint)

    def _begin(self, peer: Fingerprint) -> None:
        assert self._identity is not None
        assert self._spawn is not None
        known_by = peer.algorithm, peer.value
        rtp = Handshake(self._identity, known_by, active=not peer.active, send=self._port.send)
        rtcp = Handshake(self._identity, known_by, active=not peer.active, send=self._port.send_report)
        self._handshakes = rtp, rtcp
        self._spawn(self._shake(self._handshakes))

    async def _shake(self, handshakes: tuple[Handshake, Handshake]) -> None:
        rtp, rtcp = handshakes
        trouble: HandshakeError | None = None
        try:
            srtp = await rtp.keys(HANDSHAKE_S)
            if handshakes is self._handshakes:
                self._srtp = srtp
                self.ready = True
                self._port.peer.greets = False
            if not self._mux:
                srtp = await rtcp.keys(HANDSHAKE_S)
                if handshakes is self._handshakes:
                    self._report_srtp = srtp
        except HandshakeError as error:
            trouble = error
        except Exception as error:  # noqa: BLE001  # ours, and it ends this leg only
            log.error("a DTLS handshake failed: %s", type(error).__name__)
            trouble = HandshakeError("the DTLS handshake failed: internal error")
        if trouble is not None and handshakes is self._handshakes and self._srtp is None:
            self._failed(trouble)  # a call without reports is still a call

    async def close(self) -> None:
        """Before the port is. Never waits."""
        handshakes, self._handshakes = self._handshakes, None
        if handshakes is not None:
            await _close(handshakes)

    # Packets

    def handshake(self, data: bytes, *, report: bool = False) -> bool:
        """Whether this is of DTLS, and was taken. `report`: it came by the port of RTCP."""
        if self._handshakes is None or not is_dtls(data):
            return False
        rtp, rtcp = self._handshakes
        (rtcp if report else rtp).received(data)
        return True

    def send(self, packet: bytes) -> None:
        if self.ready:
            self._port.send(self._srtp.protect(packet) if self._srtp is not None else packet)

    def send_report(self, packet: bytes) -> None:
        srtp = self._reports()
        if srtp is not None or self.plain:
            self._port.send_report(srtp.protect_rtcp(packet) if srtp is not None else packet)

    def opened(self, packet: bytes) -> bytes:
        """Raises `SrtpError`."""
        if not self.ready:
            raise SrtpError("there are no keys yet")
        return self._srtp.unprotect(packet) if self._srtp is not None else packet

    def opened_report(self, packet: bytes) -> bytes:
        """Raises `SrtpError`."""
        srtp = self._reports()
        if srtp is None and not self.plain:
            raise SrtpError("there are no keys yet")
        return srtp.unprotect_rtcp(packet) if srtp is not None else packet

    def _reports(self) -> Srtp | None:
        return self._srtp if self._mux or self._wanted[2] is None else self._report_srtp


async def _close(handshakes: tuple[Handshake, Handshake]) -> None:
    for handshake in handshakes:
        await handshake.close()
