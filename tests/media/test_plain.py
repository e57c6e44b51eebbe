import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.leg import MAX_TURN_CHARS, CloseCode
from media.websocket.frames import MAX_CONTROL_BYTES
from media.websocket.plain import PlainProtocol
from media.websocket.protocol import (
    AUDIO_BURST,
    CLOSE_NUMBERS,
    CONTROL_BURST,
    MAX_AUDIO_BYTES,
    MAX_TEXT_CHARS,
    Audio,
    Begun,
    DigitPressed,
    MarkPlayed,
    ProtocolError,
    Stopped,
    TextTyped,
)


def started(**fields: Any) -> PlainProtocol:
    protocol = PlainProtocol()
    protocol.receive_text(json.dumps({"type": "start", **fields}), 0)
    return protocol


def receive(protocol: PlainProtocol, message: str | bytes) -> None:
    if isinstance(message, str):
        protocol.receive_text(message, 0)
    else:
        protocol.receive_binary(message, 0)


def refused(protocol: PlainProtocol, message: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        receive(protocol, message)
    assert caught.value.code in CLOSE_NUMBERS
    assert len(caught.value.reason.encode()) <= MAX_CONTROL_BYTES - 2
    return caught.value


def test_start_has_defaults_and_all_its_fields() -> None:
    assert PlainProtocol().receive_text('{"type":"start"}', 0) == [Begun(rate_hz=16000, marks=False)]
    everything = {
        "type": "start",
        "rate": 8000,
        "token": "t",
        "resume": "r",
        "caller": "a",
        "called": "b",
        "buffer_ms": 100,
        "marks": True,
        "of a later version": [1],
    }
    begun = Begun(rate_hz=8000, marks=True, buffer_ms=100, token="t", resume="r", caller="a", called="b")
    assert PlainProtocol().receive_text(json.dumps(everything), 0) == [begun]


def test_every_message_of_a_client() -> None:
    protocol = started()
    assert protocol.receive_text('{"type":"digit","digit":"#"}', 0) == [DigitPressed("#")]
    assert protocol.receive_text('{"type":"mark","name":"1.0.4.9"}', 0) == [MarkPlayed("1.0.4.9")]
    assert protocol.receive_text('{"type":"text","text":"hello"}', 0) == [TextTyped("hello")]
    [audio] = protocol.receive_binary(b"\x01\x00\xff\xff", 0)
    assert isinstance(audio, Audio)
    assert audio.pcm.tolist() == [1, -1]
    assert protocol.receive_binary(b"", 0) == []
    assert protocol.receive_text('{"type":"stop"}', 0) == [Stopped()]
    assert protocol.receive_text("{", 0) == []
    assert protocol.receive_binary(b"1", 0) == [], "after a goodbye nothing counts"


def test_every_message_of_the_server() -> None:
    protocol = started(rate=24000)
    assert json.loads(protocol.started("c", "r")) == {
        "type": "started",
        "call": "c",
        "rate": 24000,
        "frame_ms": 20,
        "resume": "r",
    }
    assert protocol.audio(np.array([1, -1], dtype=np.int16)) == b"\x01\x00\xff\xff"
    assert json.loads(protocol.mark('a"b')) == {"type": "mark", "name": 'a"b'}
    assert json.loads(protocol.clear()) == {"type": "clear"}
    assert json.loads(protocol.ended("hangup", "booked")) == {"type": "ended", "cause": "hangup", "outcome": "booked"}
    error = {"type": "error", "code": "busy", "reason": "no"}
    assert json.loads(protocol.error(CloseCode.busy, "no")) == error


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        '"start"',
        "{}",
        '{"type":7}',
        '{"type":"nope"}',
        '{"type":"start","rate":11025}',
        '{"type":"start","rate":"16000"}',
        '{"type":"start","rate":null}',
        '{"type":"start","buffer_ms":-1}',
        '{"type":"start","buffer_ms":2001}',
        '{"type":"start","buffer_ms":1e99}',
        '{"type":"start","marks":1}',
        '{"type":"start","token":"%s"}' % ("x" * 513),
        '{"type":"start","caller":"%s"}' % ("x" * 101),
        '{"type":"start","token":"\\ud800"}',
        '{"type":"digit","digit":"5"}',
        '{"type":"stop"}',
        "[" * 16_000,
        '{"x":' * 3_000,
        b"\x00\x00",
    ],
)
def test_a_first_message_that_is_not_a_start_is_refused(message: str | bytes) -> None:
    assert refused(PlainProtocol(), message).code == CloseCode.bad_message


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"start"}',
        '{"type":"digit","digit":"55"}',
        '{"type":"digit","digit":"A"}',
        '{"type":"digit","digit":"5\\n"}',
        '{"type":"digit"}',
        '{"type":"text","text":""}',
        '{"type":"text","text":"%s"}' % ("x" * (MAX_TURN_CHARS + 1)),
        '{"type":"mark","name":"%s"}' % ("x" * 101),
        b"\x00",
    ],
)
def test_later_messages_that_are_wrong_are_refused(message: str | bytes) -> None:
    assert refused(started(), message).code == CloseCode.bad_message


def test_sizes_are_limited() -> None:
    assert refused(started(), " " * (MAX_TEXT_CHARS + 1)).code == CloseCode.too_large
    assert refused(started(), bytes(MAX_AUDIO_BYTES + 2)).code == CloseCode.too_large


def test_rates_are_limited_and_recover() -> None:
    protocol = started()
    for _ in range(AUDIO_BURST):
        protocol.receive_binary(b"\0\0", 0)
    assert refused(protocol, b"\0\0").code == CloseCode.too_fast
    assert protocol.receive_binary(b"\0\0", 1000)
    for _ in range(CONTROL_BURST - 1):
        protocol.receive_text('{"type":"digit","digit":"5"}', 0)
    assert refused(protocol, '{"type":"digit","digit":"5"}').code == CloseCode.too_fast


def test_a_reason_quotes_nothing_of_the_message() -> None:
    for message in ('{"type":"secret"}', '{"type":"start","rate":"secret"}', '{"type":"start","marks":"secret"}'):
        assert "secret" not in refused(PlainProtocol(), message).reason


@given(st.lists(st.one_of(st.text(), st.binary()), max_size=10))
def test_nothing_but_protocol_errors(messages: list[str | bytes]) -> None:
    protocol = started()
    for message in messages:
        with contextlib.suppress(ProtocolError):
            receive(protocol, message)
