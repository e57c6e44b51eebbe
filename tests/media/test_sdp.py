"""Session descriptions as they are read: what counts, what is passed over, and what no text can do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import sdp
from media.sdp import MAX_LINES, MAX_SDP_BYTES, MAX_SECTIONS, Description, Format, SdpError

TEXT = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 192.0.2.1/127\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 126 13 999 x\r\nc=IN IP6 2001:db8::1\r\n"
    "a=rtpmap:111 OPUS/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
    "a=rtpmap:126 telephone-event/8000\r\na=rtpmap:13 CN/nonsense\r\na=mid:0\r\na=rtcp-mux\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n"
)


def test_lines_and_attributes_come_to_their_places() -> None:
    description = sdp.parse(TEXT)
    assert description.origin == "- 1 2 IN IP4 127.0.0.1"
    assert description.address == "192.0.2.1"
    assert description.attributes.all("group") == ["BUNDLE 0 1"]
    audio, channel = description.media
    assert (audio.kind, audio.port, audio.profile, audio.address) == ("audio", 9, "UDP/TLS/RTP/SAVPF", "2001:db8::1")
    assert "rtcp-mux" in audio.attributes
    assert audio.attributes.first("mid") == "0"
    assert audio.attributes.first("ptime") is None
    assert channel.formats == ("webrtc-datachannel",)


def test_formats_come_in_the_order_of_preference_and_nonsense_is_left_out() -> None:
    assert list(sdp.formats(sdp.parse(TEXT).media[0])) == [
        Format(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1"),
        Format(0, "pcmu", 8000),
        Format(8, "pcma", 8000),
        Format(126, "telephone-event", 8000),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with v=0"),
        ("m=audio 9 RTP/AVP 0\n", "does not begin with v=0"),
        ("v=0\nm=audio\n", "m= line"),
        ("v=0\nm=audio x RTP/AVP 0\n", "m= line"),
        ("v=0\nm=audio 70000 RTP/AVP 0\n", "m= line"),
        ("v=0\nm=audio 99999999999999999999 RTP/AVP 0\n", "m= line"),
        ("v=0\nm=audio 000000999999 RTP/AVP 0\n", "m= line"),
        (f"v=0\nm=audio {'9' * 5000} RTP/AVP 0\n", "m= line"),
        ("v=0\nm=audio -1 RTP/AVP 0\n", "m= line"),
        ("v=0\n" + "m=audio 9 RTP/AVP 0\n" * (MAX_SECTIONS + 1), "media"),
        ("v=0\n" + "a=x\n" * MAX_LINES, "lines"),
        ("v=0\n" + "x" * MAX_SDP_BYTES, "bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(text: str, words: str) -> None:
    with pytest.raises(SdpError, match=words):
        sdp.parse(text)


@pytest.mark.parametrize("number", ["9" * 5000, "000000999999", "-8", "*", "\u0663", "8.0", ""])
def test_numbers_that_make_no_sense_are_left_out(number: str) -> None:
    text = f"v=0\nm=audio 9 RTP/AVP {number} 96 0\na=rtpmap:96 pcma/{number}\na=rtpmap:{number} pcma/8000\n"
    assert list(sdp.formats(sdp.parse(text).media[0])) == [Format(0, "pcmu", 8000)]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(TEXT.split("\r\n")),
            st.text(max_size=40),
            st.tuples(st.sampled_from("vomsact"), st.text(max_size=30)).map("=".join),
        )
    )
)
def test_no_text_does_more_than_be_refused(lines: list[str]) -> None:
    try:
        description = sdp.parse("\r\n".join(["v=0", *lines]))
    except SdpError:
        return
    assert isinstance(description, Description)
    for media in description.media:
        for found in sdp.formats(media):
            assert 0 <= found.payload_type < 128
            assert 0 < found.clock_hz <= 192_000
