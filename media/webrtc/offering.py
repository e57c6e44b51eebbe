"""The side that offers (RFC 8829), for callers that are programs: ICE, DTLS and the data channel of one peer."""

from dataclasses import dataclass
from typing import Final

from aiortc import RTCDataChannel, RTCDataChannelParameters

from media.dtls import Certificate, Dtls
from media.webrtc.offer import PARAMETERS, SCTP_PORT, Offer, read
from media.webrtc.peer import ANYWHERE, CHANNEL_LABEL, MAX_MESSAGE_BYTES, Addresses, Peer, PeerListener, Remote

FORMATS: Final = {"pcmu": (0, "PCMU", 8000), "pcma": (8, "PCMA", 8000), "opus": (111, "opus", 48_000)}
"""Payload type, what SDP says of it, and its clock."""

DIGIT_TYPE: Final = 96


@dataclass(slots=True)
class _Way:
    """To the peer, as long as there is a network."""

    peer: "Offering"

    async def recv(self) -> bytes:
        return await self.peer._ice.recv()

    async def send(self, data: bytes) -> None:
        if not self.peer.gone:
            await self.peer._ice.send(data)


class Offering(Peer):
    """`gather`, `offer`, `answered`, then `connect`, then `close` in any case."""

    def __init__(self, listener: PeerListener, identity: Certificate, addresses: Addresses = ANYWHERE) -> None:
        super().__init__(Remote("", "", (), active=True), listener, identity, addresses)
        self.gone = False
        self._ice.ice_controlling = True

    def offer(self, codec: str, *, channel: bool) -> str:
        """With our candidates. `codec` is one of `FORMATS`."""
        algorithm, fingerprint = self.fingerprint
        ours = [f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.password}"]
        ours += [f"a=fingerprint:{algorithm} {fingerprint}", "a=setup:actpass"]
        number, name, clock_hz = FORMATS[codec]
        lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=group:BUNDLE 0{' 1' if channel else ''}"]
        lines += [f"m=audio 9 UDP/TLS/RTP/SAVPF {number} {DIGIT_TYPE}", "c=IN IP4 0.0.0.0", "a=mid:0", *ours]
        lines += ["a=sendrecv", "a=rtcp-mux", f"a=rtpmap:{number} {name}/{clock_hz}{'/2' if codec == 'opus' else ''}"]
        lines += [f"a=fmtp:{number} {PARAMETERS[codec]}"] if codec in PARAMETERS else []
        lines += [f"a=rtpmap:{DIGIT_TYPE} telephone-event/{clock_hz}", "a=ptime:20"]
        lines += [*(f"a=candidate:{candidate}" for candidate in self.candidates), "a=end-of-candidates"]
        if channel:
            lines += ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1", *ours]
            lines += [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]
        return "\r\n".join(lines) + "\r\n"

    async def answered(self, text: str) -> Offer:
        """What the other side says, read as an offer of its own. Raises `media.sdp.SdpError`."""
        said = read(text)
        self._remote = said.remote
        self._dtls = Dtls(self._identity, _Way(self), active=not said.remote.active)
        self._dtls.on("statechange", self._dtls_changed)
        for candidate in said.candidates:
            await self.add_candidate(candidate)
        return said

    async def connect(self) -> None:
        await super().connect()
        if self._sctp is not None:
            channel = self._channel = RTCDataChannel(self._sctp, RTCDataChannelParameters(label=CHANNEL_LABEL))
            channel.on("message", self._message)
            channel.on("open", self._listener.channel_open)

    @property
    def has_channel(self) -> bool:
        """Both sides want one."""
        return bool(self._remote.sctp_port)

    def vanish(self) -> None:
        """The network is gone: nothing more comes or goes, and `close` says no goodbye."""
        self.gone = self._closing = True
