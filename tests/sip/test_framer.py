"""Streams (RFC 3261, 18.3): however they are cut, the same messages come out."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.sip import message as sip
from media.sip.message import Framer, MessageError

HEAD = b"INFO sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
HEAD += b"Call-ID: 1\r\nCSeq: 1 INFO\r\n"


def framed(*chunks: bytes) -> tuple[list[bytes], bool]:
    """What comes out, and whether the stream broke."""
    framer = Framer()
    found: list[bytes] = []
    for chunk in chunks:
        try:
            found.extend(framer.feed(chunk))
        except MessageError:
            return found, True
    return found, False


def with_length(body: bytes, line: bytes) -> bytes:
    return HEAD + line + b"\r\n\r\n" + body


lengths = st.sampled_from(
    [
        b"Content-Length: %d",
        b"CONTENT-LENGTH :%d",
        b"l:\t%d ",
        b"Content-Length:\r\n  %d",
        b"l: %d\r\nContent-Length: %d",
    ]
)
whole = st.builds(
    lambda body, line: with_length(body, line.replace(b"%d", str(len(body)).encode())),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n\r\n", b"\n\n", HEAD, b"l: 7\r\n\r\n"])),
    lengths,
)
alone = st.sampled_from([HEAD + b"\r\n", HEAD.replace(b"\r\n", b"\n") + b"\n"])
keep_alive = st.just(b"\r\n\r\n")
pieces = st.lists(st.one_of(whole, alone, keep_alive), max_size=6)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@given(pieces, st.lists(st.integers(0, 1 << 20), max_size=12))
def test_any_cut_gives_the_same_messages(sent: list[bytes], at: list[int]) -> None:
    expected = [b"" if piece == b"\r\n\r\n" else piece for piece in sent]
    assert framed(*cut(b"".join(sent), at)) == (expected, False)
    for piece in expected:
        if piece:
            sip.parse(piece)


@given(pieces)
def test_byte_by_byte(sent: list[bytes]) -> None:
    data = b"".join(sent)
    assert framed(*(data[at : at + 1] for at in range(len(data)))) == framed(data)


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"l:", b"1", b" ", b"x", b"Content-Length: 2", b"\r\n\r\n"]), max_size=30),
    st.lists(st.integers(0, 1 << 20), max_size=12),
)
def test_any_cut_of_rubbish_gives_the_same_rubbish(sent: list[bytes], at: list[int]) -> None:
    data = b"".join(sent)
    assert framed(*cut(data, at)) == framed(data)


def test_line_ends_between_messages_are_skipped() -> None:
    one = with_length(b"x", b"l: 1")
    assert framed(b"\r\n" + one + b"\n\r\r\n" + one + b"\r\n") == ([one, one], False)


def test_a_single_line_end_waits_for_the_rest_of_a_keep_alive() -> None:
    assert framed(b"\r\n") == ([], False)
    assert framed(b"\r\n", b"\r", b"\n\r\n") == ([b""], False)


def test_what_came_before_a_break_is_still_given() -> None:
    one = with_length(b"x", b"l: 1")
    assert framed(b"\r\n\r\n" + one + with_length(b"", b"l: many")) == ([b"", one], True)


@pytest.mark.parametrize(
    "line",
    [
        b"l: -1",
        b"l: 1, 1",
        b"l: five",
        b"l:",
        b"l: 0x1",
        b"l: 1\r\nContent-Length: 2",
        b"l: 1\r\n 2",
        b"l: 12345678901",
        b"l: " + b"0" * 5000,
        b"l: 32769",
        b"Content-Length: 1\r\ncontent-length:\r\n 2",
        "l: ١".encode(),
    ],
)
def test_a_length_that_says_nothing_breaks_the_stream(line: bytes) -> None:
    """What follows could not be told apart from the body."""
    assert framed(with_length(b"x" * 10, line)) == ([], True)


def test_headers_without_end_break_the_stream() -> None:
    limit = sip.MAX_MESSAGE_BYTES
    assert framed(b"x" * limit) == ([], False)
    assert framed(b"x" * limit, b"x") == ([], True)
    assert framed(*[b"x"] * limit, b"x") == ([], True)


def test_the_largest_message_passes() -> None:
    head = with_length(b"", b"Content-Length: 32000")
    one = head + b"x" * 32_000
    assert len(one) <= sip.MAX_MESSAGE_BYTES
    assert framed(one * 3) == ([one] * 3, False)


def test_headers_are_searched_once() -> None:
    """Fed in small pieces, a large body costs no second look at what stands before it."""

    class Counting(Framer):
        looks = 0

        def _announced(self) -> int | None:
            self.looks += 1
            return super()._announced()

    framer = Counting()
    one = with_length(b"x" * 5000, b"l: 5000")
    head = one.index(b"\r\n\r\n") + 4
    found = [whole for at in range(len(one)) for whole in framer.feed(one[at : at + 1])]
    assert found == [one]
    assert framer.looks == head
