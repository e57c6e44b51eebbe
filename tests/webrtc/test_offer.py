"""Offers as browsers make them, offers as nobody should, and what is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import sdp
from media.dtls import certificate
from media.sdp import SdpError
from media.webrtc import offer
from media.webrtc.offer import MAX_FRAGMENT_BYTES, MAX_FRAGMENT_CANDIDATES, IceRestart
from media.webrtc.peer import MAX_CANDIDATES, Addresses, Peer
from tests.webrtc.offers import AUDIO, CHANNEL, FINGERPRINT, OFFER, SESSION, VIDEO


class Nobody:
    def rtp(self, packet: bytes) -> None: ...

    def rtcp(self, packet: bytes) -> None: ...

    def channel_open(self) -> None: ...

    def message(self, text: str) -> None: ...

    def peer_lost(self) -> None: ...


def test_a_browser_s_offer() -> None:
    found = offer.read(OFFER)
    assert (found.codec.name, found.codec.payload_type) == ("opus", 111)
    assert [f.payload_type for f in found.event_types] == [110]  # of the same clock
    assert found.direction == "sendrecv"
    assert found.remote.ufrag == "uFr4"
    assert found.remote.fingerprints == (("sha-256", FINGERPRINT),)
    assert not found.remote.active
    assert (found.remote.sctp_port, found.remote.max_message_bytes) == (5000, 262_144)
    assert found.candidates == ("1 1 udp 2122260223 192.0.2.7 54321 typ host generation 0",)


def test_the_order_of_the_offer_chooses_the_codec() -> None:
    found = offer.read(OFFER.replace("SAVPF 111 63 9 0 8", "SAVPF 8 0 111"))
    assert (found.codec.name, found.codec.payload_type) == ("pcma", 8)
    assert found.new_codec().rate_hz == 8000


@pytest.mark.parametrize(
    ("theirs", "ours"), [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")]
)
def test_directions_meet(theirs: str, ours: str) -> None:
    assert offer.read(OFFER.replace("a=sendrecv", f"a={theirs}")).direction == ours


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (AUDIO, "", "no audio"),
        ("m=audio 9", "m=audio 0", "no audio"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio 9 RTP/AVP", "SRTP"),
        ("111 63 9 0 8 13 110 126", "63 9 13", "codecs"),
        ("a=ice-ufrag:uFr4", "a=ice-ufrag:u", "ice-ufrag"),
        ("a=ice-ufrag:uFr4", "a=ice-ufrag:uFr4$(x)", "ice-ufrag"),
        ("a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa", "a=ice-pwd:short", "ice-pwd"),
        ("a=fingerprint:sha-256", "a=fingerprint:md5", "fingerprint"),
        (FINGERPRINT, "AB:CD", "fingerprint"),
        ("a=mid:0", "a=mid:\x01", "mid"),
    ],
)
def test_what_is_missing_is_named(old: str, new: str, words: str) -> None:
    assert old in OFFER
    with pytest.raises(SdpError, match=words):
        offer.read(OFFER.replace(old, new))


def test_a_channel_outside_the_bundle_is_not_taken() -> None:
    found = offer.read(OFFER.replace("BUNDLE 0 1", "BUNDLE 0"))
    assert found.remote.sctp_port == 0
    assert [section.taken for section in found.sections] == [True, False]


async def test_the_answer_has_a_place_for_each_of_the_offer_s_media() -> None:
    found = offer.read(SESSION.replace("0 1", "0 2 1") + AUDIO + VIDEO + CHANNEL)
    peer = Peer(found.remote, Nobody(), certificate(), Addresses(host="127.0.0.1"))
    await peer.gather()
    try:
        text = offer.answer(found, peer, 42, "cname")
    finally:
        await peer.close()
    answer = sdp.parse(text)
    assert answer.attributes.all("group") == ["BUNDLE 0 1"]
    audio, video, channel = answer.media
    assert (audio.formats, video.port, channel.port) == (("111", "110"), 0, 9)
    assert audio.attributes.first("setup") == "active"
    assert audio.attributes.first("ssrc") == "42 cname:cname"
    for media in (audio, channel):
        assert media.attributes.first("ice-ufrag") == peer.ufrag
        assert any("127.0.0.1" in line for line in media.attributes.all("candidate"))


async def test_ports_and_the_public_address_are_as_the_settings_say() -> None:
    addresses = Addresses(host="127.0.0.1", public="203.0.113.7", first_port=43210, last_port=43999)
    peer = Peer(offer.read(OFFER).remote, Nobody(), certificate(), addresses)
    await peer.gather()
    try:
        (host, public) = (line.split() for line in peer.candidates)
    finally:
        await peer.close()
    assert host[4] == "127.0.0.1"
    assert 43210 <= int(host[5]) <= 43999
    assert (public[4], public[5], public[7]) == ("203.0.113.7", host[5], "srflx")


async def test_candidates_that_cannot_be_used_are_passed_over() -> None:
    peer = Peer(offer.read(OFFER).remote, Nobody(), certificate(), Addresses(host="127.0.0.1"))
    await peer.gather()
    try:
        for text in (
            "1 1 udp 1 0b4a9f1e-5c55-4c53-8b1a-6f7f7d0d2f10.local 9 typ host",
            "1 1 udp 1 example.com 9 typ host",
            "1 2 udp 1 127.0.0.1 9 typ host",
            "1 1 tcp 1 127.0.0.1 9 typ host tcptype active",
            "1 1 udp 1 127.0.0.1 99999 typ host",
            "1 1 udp 1 127.0.0.1 0 typ host",
            "1 1 udp 1 127.0.0.1 -5 typ host",
            "1 1 udp x 127.0.0.1 9 typ host",
            "1 1 udp",
            "",
        ):
            await peer.add_candidate(text)
        assert peer._ice.remote_candidates == []
        for number in range(2 * MAX_CANDIDATES):
            await peer.add_candidate(f"1 1 udp 1 127.0.0.1 {number + 1} typ host")
        assert len(peer._ice.remote_candidates) <= MAX_CANDIDATES
    finally:
        await peer.close()


def test_trickled_candidates() -> None:
    text = "a=ice-ufrag:uFr4\r\na=ice-pwd:x\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    text += "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    assert offer.fragment(text + "a=end-of-candidates\r\n", "uFr4") == ["1 1 udp 1 192.0.2.1 9 typ host"]
    with pytest.raises(IceRestart):
        offer.fragment(text, "other")
    with pytest.raises(SdpError, match="bytes"):
        offer.fragment("x" * (MAX_FRAGMENT_BYTES + 1), "uFr4")
    with pytest.raises(SdpError, match="candidates"):
        offer.fragment("a=candidate:1\r\n" * (MAX_FRAGMENT_CANDIDATES + 1), "uFr4")


@given(st.lists(st.one_of(st.sampled_from(OFFER.split("\r\n")), st.text(max_size=30)), max_size=60))
def test_no_offer_does_more_than_be_refused(lines: list[str]) -> None:
    try:
        found = offer.read("\r\n".join(["v=0", *lines]))
    except SdpError:
        return
    assert found.codec.name in offer.CODECS
