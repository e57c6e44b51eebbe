"""Records: facts in, bytes out and back; sealed ones need the key, and the chain tells every change."""

import pytest
from msgspec.structs import replace

from app.core import codec
from app.core.codec import CORE_VERSION, KEY_BYTES, CallHeader, Codec, CodecError, Record
from app.core.effects import StartTool
from app.core.events import AnyEvent, Digit, SlotsProposed, Tick, ToolEnded, ToolOutcome, ToolRequest, ToolsRequested

KEY = bytes(range(KEY_BYTES))
HEADER = CallHeader("c1", "f", "hash", CORE_VERSION, 1, "2030-01-01T10:00:00.000Z")
EVENTS: list[AnyEvent] = [
    Tick(),
    Digit("7"),
    SlotsProposed(3, {"b": "x", "a": 1, "c": True, "d": 1.5}, "words"),
    ToolsRequested(3, (ToolRequest("i", "t", {"z": 1, "a": "2"}),)),
    ToolEnded(1, ToolOutcome.done, {"list": ["a", 1], "none": None}, ""),
]


def written(*, sealed: bool = True) -> list[Record]:
    writer = Codec(KEY, HEADER)
    return [writer.encode(seq, seq * 20, event, [], sealed=sealed) for seq, event in enumerate(EVENTS, 1)]


@pytest.mark.parametrize("sealed", [True, False])
def test_what_goes_in_comes_out(sealed: bool) -> None:
    reader = Codec(KEY, HEADER)
    assert [reader.decode(record) for record in written(sealed=sealed)] == EVENTS


def test_the_order_of_a_facts_parts_is_kept() -> None:
    """What was proposed first is set first, also in a replay."""
    reader = Codec(KEY, HEADER)
    decoded = [reader.decode(record) for record in written()][2]
    assert isinstance(decoded, SlotsProposed)
    assert list(decoded.slots) == ["b", "a", "c", "d"]


def test_a_sealed_body_gives_nothing_away() -> None:
    assert b"Digit" not in written()[1].body
    assert b"Digit" in written(sealed=False)[1].body


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CodecError, match="another key"):
        Codec(bytes(KEY_BYTES), HEADER).decode(written()[0])


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
        Codec(KEY, HEADER).decode(replace(written()[0], **change))


@pytest.mark.parametrize("name", ["call", "flow", "flow_hash", "core_version", "started_at"])
def test_the_chain_begins_with_the_header(name: str) -> None:
    other = replace(HEADER, **{name: 7 if name == "core_version" else "other"})
    with pytest.raises(CodecError, match="the header was changed"):
        Codec(KEY, other).decode(written()[0])


def test_the_next_owner_reads_the_same_chain() -> None:
    assert Codec(KEY, replace(HEADER, epoch=2)).decode(written()[0]) == EVENTS[0]


@pytest.mark.parametrize(
    "change", [{"ms": -1}, {"ms": 2**64}, {"epoch": -1}, {"epoch": 2**32}, {"seq": -1}, {"seq": 2**64}]
)
def test_numbers_that_no_record_has_are_an_error_of_the_record(change: dict[str, int]) -> None:
    with pytest.raises(CodecError):
        Codec(KEY, HEADER).decode(replace(written()[0], **change))


@pytest.mark.parametrize("key", [b"", b"short", bytes(64)])
def test_what_cannot_be_a_key(key: bytes) -> None:
    with pytest.raises(CodecError, match="its key is damaged"):
        Codec(key, HEADER)


def test_a_record_that_is_left_out_breaks_the_chain() -> None:
    records = written()
    reader = Codec(KEY, HEADER)
    reader.decode(records[0])
    with pytest.raises(CodecError):
        reader.decode(records[2])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":"Nothing"}', b'{"type":"Digit"}', b"\xff"])
def test_a_body_that_is_no_event(body: bytes) -> None:
    chain = codec.link(codec.first_link(HEADER), 1, 1, 0, False, body, bytes(16))
    with pytest.raises(CodecError, match="not an event"):
        Codec(KEY, HEADER).decode(Record(1, 1, 0, False, body, bytes(16), chain))


def test_digests_are_keyed_and_cover_arguments() -> None:
    assert codec.digest([StartTool(1)], KEY) == codec.digest([StartTool(1)], KEY)
    assert codec.digest([StartTool(1)], KEY) != codec.digest([StartTool(2)], KEY)
    assert codec.digest([StartTool(1)], KEY) != codec.digest([StartTool(1)], bytes(KEY_BYTES))
    assert len(codec.digest([], KEY)) == 16
