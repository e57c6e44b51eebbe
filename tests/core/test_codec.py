"""Records: facts in, bytes out and back; sealed ones need the key, and the chain tells every change."""

import pytest
from msgspec.structs import replace

from app.core import codec
from app.core.codec import KEY_BYTES, Codec, CodecError, Record
from app.core.effects import StartTool
from app.core.events import AnyEvent, Digit, SlotsProposed, Tick, ToolEnded, ToolOutcome, ToolRequest, ToolsRequested

KEY = bytes(range(KEY_BYTES))
EVENTS: list[AnyEvent] = [
    Tick(),
    Digit("7"),
    SlotsProposed(3, {"b": "x", "a": 1, "c": True, "d": 1.5}, "words"),
    ToolsRequested(3, (ToolRequest("i", "t", {"z": 1, "a": "2"}),)),
    ToolEnded(1, ToolOutcome.done, {"list": ["a", 1], "none": None}, ""),
]


def written(*, sealed: bool = True) -> list[Record]:
    writer = Codec(KEY, 1)
    return [writer.encode(seq, seq * 20, event, [], sealed=sealed) for seq, event in enumerate(EVENTS, 1)]


@pytest.mark.parametrize("sealed", [True, False])
def test_what_goes_in_comes_out(sealed: bool) -> None:
    reader = Codec(KEY, 1)
    assert [reader.decode(record) for record in written(sealed=sealed)] == EVENTS


def test_the_order_of_a_facts_parts_is_kept() -> None:
    """What was proposed first is set first, also in a replay."""
    reader = Codec(KEY, 1)
    decoded = [reader.decode(record) for record in written()][2]
    assert isinstance(decoded, SlotsProposed)
    assert list(decoded.slots) == ["b", "a", "c", "d"]


def test_a_sealed_body_gives_nothing_away() -> None:
    assert b"Digit" not in written()[1].body
    assert b"Digit" in written(sealed=False)[1].body


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CodecError, match="another key"):
        Codec(bytes(KEY_BYTES), 1).decode(written()[0])


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 9},
        {"ms": 9},
        {"epoch": 2},
        {"sealed": False},
        {"body": b"{}"},
        {"digest": bytes(16)},
        {"chain": bytes(32)},
    ],
)
def test_every_change_breaks_the_chain(change: dict[str, object]) -> None:
    with pytest.raises(CodecError, match="the chain is broken"):
        Codec(KEY, 1).decode(replace(written()[0], **change))


def test_a_record_that_is_left_out_breaks_the_chain() -> None:
    records = written()
    reader = Codec(KEY, 1)
    reader.decode(records[0])
    with pytest.raises(CodecError):
        reader.decode(records[2])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":"Nothing"}', b'{"type":"Digit"}', b"\xff"])
def test_a_body_that_is_no_event(body: bytes) -> None:
    chain = codec.link(bytes(32), 1, 1, 0, False, body, bytes(16))
    with pytest.raises(CodecError, match="not an event"):
        Codec(KEY, 1).decode(Record(1, 1, 0, False, body, bytes(16), chain))


def test_digests_are_keyed_and_cover_arguments() -> None:
    assert codec.digest([StartTool(1)], KEY) == codec.digest([StartTool(1)], KEY)
    assert codec.digest([StartTool(1)], KEY) != codec.digest([StartTool(2)], KEY)
    assert codec.digest([StartTool(1)], KEY) != codec.digest([StartTool(1)], bytes(KEY_BYTES))
    assert len(codec.digest([], KEY)) == 16
