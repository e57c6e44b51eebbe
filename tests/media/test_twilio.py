import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import pcm_to_ulaw
from media.leg import CloseCode
from media.websocket.protocol import CONTROL_BURST, Audio, Begun, DigitPressed, MarkPlayed, ProtocolError, Stopped
from media.websocket.twilio import MAX_MEDIA_BYTES, TwilioProtocol

SID = "MZ00000000000000000000000000000001"
CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


def start(**changes: Any) -> str:
    body = {
        "accountSid": "AC1",
        "streamSid": SID,
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": FORMAT,
        "customParameters": {"caller": "+15550100", "token": "secret", "shop": "7"},
    }
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": body | changes, "streamSid": SID})


def media(payload: bytes, chunk: int, *, sid: str = SID, track: str = "inbound") -> str:
    body = {"track": track, "chunk": str(chunk), "timestamp": "5", "payload": base64.b64encode(payload).decode()}
    return json.dumps({"event": "media", "sequenceNumber": "4", "media": body, "streamSid": sid})


def other(event: str, sid: str = SID, **fields: Any) -> str:
    return json.dumps({"event": event, "streamSid": sid, "sequenceNumber": "9", **fields})


def streaming() -> TwilioProtocol:
    protocol = TwilioProtocol()
    assert protocol.receive_text(CONNECTED, 0) == []
    protocol.receive_text(start(), 0)
    return protocol


def refused(protocol: TwilioProtocol, message: str) -> CloseCode:
    with pytest.raises(ProtocolError) as caught:
        protocol.receive_text(message, 0)
    return caught.value.code


def test_a_stream_introduces_itself() -> None:
    protocol = TwilioProtocol()
    protocol.receive_text(CONNECTED, 0)
    parameters = {"caller": "+15550100", "token": "secret", "shop": "7"}
    begun = Begun(rate_hz=8000, marks=True, token="secret", caller="+15550100", peer_call="CA1", parameters=parameters)
    assert protocol.receive_text(start(), 0) == [begun]


def test_every_message_of_a_stream() -> None:
    protocol = streaming()
    pcm = np.array([0, 1000, -1000], dtype=np.int16)
    [audio] = protocol.receive_text(media(pcm_to_ulaw(pcm), 1), 0)
    assert isinstance(audio, Audio)
    assert np.abs(audio.pcm.astype(int) - pcm).max() < 50
    assert protocol.receive_text(other("dtmf", dtmf={"track": "inbound_track", "digit": "5"}), 0) == [DigitPressed("5")]
    assert protocol.receive_text(other("dtmf", dtmf={"digit": "A"}), 0) == [], "a key that no flow knows"
    assert protocol.receive_text(other("mark", mark={"name": "1.0.4.9"}), 0) == [MarkPlayed("1.0.4.9")]
    assert protocol.receive_text(other("stop", stop={"accountSid": "AC1", "callSid": "CA1"}), 0) == [Stopped()]
    assert protocol.receive_text("{", 0) == [], "after a goodbye nothing counts"


def test_every_message_of_the_server() -> None:
    protocol = streaming()
    frame = np.arange(160, dtype=np.int16)
    sent = json.loads(protocol.audio(frame))
    assert sent["event"] == "media"
    assert sent["streamSid"] == SID
    assert base64.b64decode(sent["media"]["payload"]) == pcm_to_ulaw(frame)
    assert json.loads(protocol.mark('a"b')) == {"event": "mark", "streamSid": SID, "mark": {"name": 'a"b'}}
    assert json.loads(protocol.clear()) == {"event": "clear", "streamSid": SID}


def test_late_double_and_missing_media_are_handled_and_counted() -> None:
    protocol = streaming()
    frame = bytes(160)
    given_on = [len(protocol.receive_text(media(frame, chunk), 0)) for chunk in (1, 2, 2, 1, 5, 4, 6)]
    assert given_on == [1, 1, 0, 0, 1, 0, 1]
    assert (protocol.late_media, protocol.missing_media) == (3, 2)
    assert protocol.receive_text(media(frame, 7, track="outbound"), 0) == []
    assert protocol.receive_text(media(b"", 8), 0) == []


def test_a_kind_that_is_not_known_is_passed_over_within_limits() -> None:
    protocol = streaming()
    for _ in range(CONTROL_BURST - 2):
        assert protocol.receive_text(other("news"), 0) == []
    assert protocol.unknown_messages == CONTROL_BURST - 2
    assert refused(protocol, other("news")) == CloseCode.too_fast


@pytest.mark.parametrize(
    "message",
    [
        start(),
        media(b"1", 1),
        other("stop"),
        other("dtmf", dtmf={"digit": "5"}),
        other("mark", mark={"name": "x"}),
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"event":7}',
        '{"event":"%s"}' % ("x" * 65),
        "[" * 16_000,
        '{"event":"news","x":%s' % ("[" * 16_000),
    ],
)
def test_what_comes_before_connected_is_refused(message: str) -> None:
    assert refused(TwilioProtocol(), message) == CloseCode.bad_message


@pytest.mark.parametrize(
    "message",
    [
        CONNECTED,
        media(b"1", 1),
        start(streamSid='x","y":"'),
        start(streamSid="x" * 65),
        start(streamSid="x\n"),
        start(callSid=""),
        start(mediaFormat=FORMAT | {"encoding": "audio/l16"}),
        start(mediaFormat=FORMAT | {"sampleRate": 16000}),
        start(mediaFormat=FORMAT | {"channels": 2}),
        start(mediaFormat=None),
        start(customParameters={"x": "y" * 501}),
        start(customParameters={"x": [1]}),
        '{"event":"start"}',
    ],
)
def test_what_is_no_proper_start_is_refused(message: str) -> None:
    protocol = TwilioProtocol()
    protocol.receive_text(CONNECTED, 0)
    assert refused(protocol, message) == CloseCode.bad_message


@pytest.mark.parametrize(
    "message",
    [
        start(),
        CONNECTED,
        media(b"1", 1, sid="MZ2"),
        other("stop", sid="MZ2"),
        other("mark", sid="MZ2", mark={"name": "x"}),
        other("dtmf", sid="MZ2", dtmf={"digit": "5"}),
        other("mark", mark={"name": "x" * 101}),
        other("dtmf", dtmf={"digit": "55"}),
        other("media", media={"payload": "not base64!"}),
        other("media", media={"payload": 7}),
        other("media", media={"chunk": "x", "payload": ""}),
        '{"event":"stop"}',
    ],
)
def test_what_does_not_belong_to_the_stream_is_refused(message: str) -> None:
    assert refused(streaming(), message) == CloseCode.bad_message


def test_sizes_are_limited() -> None:
    assert refused(streaming(), media(bytes(MAX_MEDIA_BYTES + 1), 1)) == CloseCode.too_large
    assert refused(streaming(), " " * 20_000) == CloseCode.too_large
    protocol = TwilioProtocol()
    protocol.receive_text(CONNECTED, 0)
    assert refused(protocol, start(customParameters={str(at): "" for at in range(51)})) == CloseCode.too_large


def test_binary_messages_are_refused() -> None:
    with pytest.raises(ProtocolError):
        streaming().receive_binary(b"", 0)


KNOWN = st.sampled_from([CONNECTED, start(), media(b"1", 1), other("stop")])


@given(st.lists(st.one_of(st.text(), KNOWN), max_size=10))
def test_nothing_but_protocol_errors(messages: list[str]) -> None:
    protocol = TwilioProtocol()
    for message in messages:
        with contextlib.suppress(ProtocolError):
            protocol.receive_text(message, 0)
