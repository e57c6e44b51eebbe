"""WebSocket frames as clients send them, well or wrong, beside another implementation that reads the same bytes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from media.websocket import frames
from media.websocket.frames import PART, Control, FrameError, FrameReader, Message
from tests.support.line import MASK, sent

MAX_BYTES = 1000

TEXT, BINARY, MORE, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A


def read(pieces: Sequence[bytes]) -> list[Message | Control | int]:
    """All that is in them, at its end perhaps an error's code; whole messages may be looked for first."""
    found = _read(pieces, shortcut=False)
    assert _read(pieces, shortcut=True) == found
    return found


def _read(pieces: Sequence[bytes], *, shortcut: bool) -> list[Message | Control | int]:
    reader, out = FrameReader(MAX_BYTES), list[Message | Control | int]()
    try:
        for piece in pieces:
            message = reader.whole(piece) if shortcut else None
            if message is None:
                out.extend(reader.read(piece))
            else:
                out.append(message)
    except FrameError as error:
        out.append(error.code)
    return out


@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("size", [125, 126, MAX_BYTES, MAX_BYTES + 1])
def test_a_message_that_came_alone_is_found_at_once(first: int, size: int) -> None:
    reader, data = FrameReader(MAX_BYTES), sent(first, b"x" * size)
    found = reader.whole(data)
    assert (found is not None) == (126 <= size <= MAX_BYTES)
    assert reader.whole(data + b"x") is None
    assert reader.whole(data[:-1]) is None
    if size <= MAX_BYTES:
        assert list(reader.read(data[:9])) == []
        assert reader.whole(data) is None  # something came before it


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (sent(TEXT), [""]),
        (sent(BINARY), [b""]),
        (sent(TEXT, "žluťoučký".encode()), ["žluťoučký"]),
        (sent(BINARY, bytes(125)) + sent(BINARY, bytes(126)), [bytes(125), bytes(126)]),
        (sent(BINARY, bytes(MAX_BYTES)), [bytes(MAX_BYTES)]),
        (sent(TEXT, b"a", bytes(4)), ["a"]),
        (sent(0x01, b"a") + sent(0x00, b"b") + sent(MORE, b"c"), [PART, PART, "abc"]),
        (sent(0x02, b"a") + sent(PING, b"x") + sent(MORE, b"c"), [PART, Control(frames.PING, b"x"), b"ac"]),
        (sent(0x01, b"\xe2\x82") + sent(MORE, b"\xac"), [PART, "€"]),
        (sent(0x01) + sent(0x00) + sent(MORE), [PART, PART, ""]),
        (sent(0x02, bytes(MAX_BYTES)) + sent(PING, b"x"), [PART, Control(frames.PING, b"x")]),
        (sent(PING, bytes(125)), [Control(frames.PING, bytes(125))]),
        (sent(PONG), [Control(frames.PONG, b"")]),
        (sent(CLOSE, b"\x03\xe8"), [Control(frames.CLOSE, b"\x03\xe8")]),
        (bytes((TEXT, 0xFE, 0, 1)) + MASK + b"p", ["a"]),  # not its shortest form, which does no harm
    ],
)
def test_frames_of_good_clients(data: bytes, expected: list[Message | Control]) -> None:
    assert read([data]) == expected
    assert read([data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        *((sent(TEXT | bit, b"a"), 1002) for bit in (0x40, 0x20, 0x10)),
        *((sent(0x80 | opcode, b"a"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        *((sent(first, b"a", masked=False), 1002) for first in (TEXT, BINARY, CLOSE, PING, PONG)),
        *((sent(first & 0x7F, b"a"), 1002) for first in (CLOSE, PING, PONG)),
        *((sent(first, bytes(126)), 1002) for first in (CLOSE, PING, PONG)),
        (sent(MORE, b"a"), 1002),
        (sent(0x00, b"a"), 1002),
        (sent(0x01, b"a") + sent(TEXT, b"b"), 1002),
        (sent(0x01, b"a") + sent(0x02, b"b"), 1002),
        (sent(0x01, b"a") + sent(MORE, b"b") + sent(MORE, b"c"), 1002),
        (sent(BINARY, bytes(MAX_BYTES + 1)), 1009),
        (sent(0x02, bytes(MAX_BYTES)) + sent(MORE, b"a"), 1009),
        (sent(BINARY, size=1 << 16), 1009),
        (sent(BINARY, size=(1 << 63) - 1), 1009),
        (sent(BINARY, size=(1 << 64) - 1), 1009),
        (sent(TEXT, b"\xff"), 1007),
        (sent(TEXT, b"\xed\xa0\x80"), 1007),
        (sent(TEXT, b"\xf4\x90\x80\x80"), 1007),
        (sent(TEXT, b"a\xe2\x82"), 1007),
        (sent(0x01, b"\xe2") + sent(MORE, b"\x28\xa1"), 1007),
    ],
)
def test_a_wrong_frame_is_an_error_as_soon_as_it_can_be_seen(data: bytes, code: int) -> None:
    assert read([data])[-1] == code
    assert read([data[at : at + 1] for at in range(len(data))])[-1] == code


def test_a_giant_is_refused_by_its_head_alone() -> None:
    for size in (MAX_BYTES + 1, 1 << 20, 1 << 62):
        assert read([sent(BINARY, size=size)]) == [1009]


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1005), *((value.to_bytes(2) + b"why", value) for value in (1000, 1003, 1007, 1014, 3000, 4999))],
)
def test_what_a_close_frame_says(payload: bytes, code: int) -> None:
    assert frames.close_code(payload) == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        *((value.to_bytes(2), 1002) for value in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_what_a_close_frame_must_not_say(payload: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        frames.close_code(payload)
    assert caught.value.code == code


# Beside another implementation


def beside(data: bytes) -> list[Message | Control | int]:
    """As the library `websockets` reads it; what that calls a text it leaves to others to decode."""
    other = ServerProtocol(state=OPEN, max_size=None)
    other.receive_data(data)
    out: list[Message | Control | int] = []
    parts: list[bytes] = []
    text = False
    for event in other.events_received():
        assert isinstance(event, Frame)
        payload = bytes(event.data)
        if event.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            out.append(Control(int(event.opcode), payload))
            continue
        if event.opcode is not Opcode.CONT:
            parts, text = [], event.opcode is Opcode.TEXT
        parts.append(payload)
        if not event.fin:
            out.append(PART)
            continue
        try:
            out.append(b"".join(parts).decode() if text else b"".join(parts))
        except UnicodeDecodeError:
            return [*out, 1007]
    if other.parser_exc is not None:
        assert other.close_sent is not None
        out.append(other.close_sent.code)
    return out


def until_closed(found: list[Message | Control | int]) -> Iterator[Message | Control | int]:
    """The library reads nothing after a close frame, and an error where that is wrong or within a message."""
    within = False
    for item in found:
        if not isinstance(item, Control) or item is PART:
            within = item is PART
        if isinstance(item, Control) and item.opcode == frames.CLOSE:
            if within:
                yield frames.PROTOCOL_ERROR
                return
            try:
                frames.close_code(item.payload)
            except FrameError as error:
                yield error.code
                return
            yield item
            return
        yield item


def check_alike(data: bytes, at: Sequence[int]) -> None:
    """The same messages and the same error. Only that we see some errors by the frame's head, it by the whole frame."""
    found, other = list(until_closed(read(cut(data, at)))), beside(data)
    ours, theirs = ([item for item in some if not isinstance(item, int)] for some in (found, other))
    if found and found[-1] == 1009:
        assert ours == theirs[: len(ours)], "it has no limit here: to a control frame it would apply a message's"
        return
    assert ours == theirs
    if other and isinstance(other[-1], int):
        assert found[-1] in (other[-1], 1002), "a frame may be wrong in two ways"


firsts = st.one_of(st.sampled_from([0x01, 0x02, 0x00, MORE, TEXT, BINARY, CLOSE, PING, PONG]), st.integers(0, 255))
masks = st.binary(min_size=4, max_size=4)
payloads = st.one_of(st.binary(max_size=140), st.text(max_size=40).map(str.encode), st.just(bytes(MAX_BYTES)))
any_frame = st.builds(sent, firsts, payloads, masks, masked=st.sampled_from([True] * 9 + [False]))
places = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(any_frame, max_size=8), st.binary(max_size=30), places)
def test_whatever_comes_is_read_as_by_another_implementation(some: list[bytes], end: bytes, at: list[int]) -> None:
    check_alike(b"".join(some) + end, at)


@given(st.lists(any_frame, min_size=1, max_size=6), st.data(), places)
def test_a_bit_that_fell_over_is_read_as_by_another_implementation(
    some: list[bytes], data: st.DataObject, at: list[int]
) -> None:
    whole = bytearray(b"".join(some))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check_alike(bytes(whole), at)


@given(st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=400)), max_size=6), st.data())
def test_messages_in_parts_with_pings_between_come_whole(messages: list[Message], data: st.DataObject) -> None:
    stream = b""
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        parts = cut(payload, data.draw(places)) or [b""]
        opcode = frames.TEXT if isinstance(message, str) else frames.BINARY
        for number, part in enumerate(parts):
            first = (0x80 if number == len(parts) - 1 else 0) | (0 if number else opcode)
            stream += sent(first, part, data.draw(masks)) + sent(PING, b"still there?")
    found = read(cut(stream, data.draw(places)))
    assert [item for item in found if isinstance(item, str | bytes)] == messages


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.sampled_from([bytes(70_000), "x" * 70_000])))
def test_a_client_understands_what_is_sent(message: Message) -> None:
    client = ClientProtocol(parse_uri("ws://here/"), state=OPEN)
    client.receive_data(frames.message(message))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert event.opcode is (Opcode.TEXT if isinstance(message, str) else Opcode.BINARY)
    assert bytes(event.data) == (message.encode() if isinstance(message, str) else message)


@given(st.text(max_size=200))
def test_a_reason_is_cut_to_what_a_close_frame_holds(reason: str) -> None:
    client = ClientProtocol(parse_uri("ws://here/"), state=OPEN)
    client.receive_data(frames.close(4400, reason))
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == 4400
    assert reason.startswith(client.close_rcvd.reason)
    assert len(client.close_rcvd.reason.encode()) > min(len(reason.encode()), 123) - 4
