"""RTCP packets (RFC 3550, 6): reports, names, goodbyes. The wire only; `media.rtp` does the counting."""

import struct
from dataclasses import dataclass, field
from typing import Final

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203

MAX_CNAME_BYTES: Final = 255
MAX_LOST: Final = 0x7FFFFF  # 24 bits, signed

_CNAME: Final = 1
_NTP_EPOCH_S: Final = 2_208_988_800  # 1900 to 1970
_HEADER: Final = struct.Struct("!BBH")
_SENDER: Final = struct.Struct("!IQIII")
_BLOCK: Final = struct.Struct("!IIIIII")


class RtpError(ValueError):
    """Not a packet of RTP or RTCP."""


@dataclass(frozen=True, slots=True)
class Block:
    """How one source is heard (RFC 3550, 6.4.1)."""

    ssrc: int
    lost_256ths: int  # since the last report
    lost: int  # in all; duplicates may make it negative
    highest: int  # sequence number, extended
    jitter_ticks: int
    last_report: int  # the middle 32 bits of an SR's NTP time, or 0
    delay_65536ths_s: int  # since that came

    def pack(self) -> bytes:
        lost = max(-MAX_LOST, min(self.lost, MAX_LOST)) & 0xFFFFFF
        return _BLOCK.pack(
            self.ssrc,
            self.lost_256ths << 24 | lost,
            self.highest & 0xFFFFFFFF,
            self.jitter_ticks & 0xFFFFFFFF,
            self.last_report,
            self.delay_65536ths_s,
        )


@dataclass(slots=True)
class Rtcp:
    """What a compound packet said. `ntp_middle` is None without a sender's report."""

    ssrc: int | None = None
    ntp_middle: int | None = None
    blocks: list[Block] = field(default_factory=list)
    goodbyes: list[int] = field(default_factory=list)


def ntp(unix_s: float) -> int:
    """64 bits: seconds since 1900, and the fraction (RFC 3550, 4)."""
    return int((unix_s + _NTP_EPOCH_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def sender_report(ssrc: int, ntp_time: int, timestamp: int, packets: int, octets: int, block: Block | None) -> bytes:
    body = _SENDER.pack(ssrc, ntp_time, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    return _packet(SENDER_REPORT, int(block is not None), body + (block.pack() if block else b""))


def receiver_report(ssrc: int, block: Block | None) -> bytes:
    return _packet(RECEIVER_REPORT, int(block is not None), ssrc.to_bytes(4) + (block.pack() if block else b""))


def source_description(ssrc: int, cname: str) -> bytes:
    name = cname.encode()[:MAX_CNAME_BYTES]
    item = bytes((_CNAME, len(name))) + name
    return _packet(SOURCE_DESCRIPTION, 1, ssrc.to_bytes(4) + item + bytes(4 - len(item) % 4))


def goodbye(ssrc: int) -> bytes:
    return _packet(GOODBYE, 1, ssrc.to_bytes(4))


def parse(data: bytes) -> Rtcp:
    """A compound packet; kinds not known here are passed over. Raises `RtpError`."""
    said = Rtcp()
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise RtpError("shorter than a header")
        first, kind, words = _HEADER.unpack_from(data, at)
        end = at + 4 * (words + 1)
        if first >> 6 != 2 or end > len(data):
            raise RtpError("not version 2, or cut off")
        _read(said, kind, first & 0x1F, data[at + _HEADER.size : end])
        at = end
    return said


def _read(said: Rtcp, kind: int, count: int, body: bytes) -> None:
    if kind in (SENDER_REPORT, RECEIVER_REPORT):
        start = _SENDER.size if kind == SENDER_REPORT else 4
        if len(body) < start + count * _BLOCK.size:
            raise RtpError("a report shorter than it says")
        said.ssrc = int.from_bytes(body[:4])
        if kind == SENDER_REPORT:
            said.ntp_middle = int.from_bytes(body[6:10])
        for number in range(count):
            ssrc, lost, *rest = _BLOCK.unpack_from(body, start + number * _BLOCK.size)
            total = (lost & 0xFFFFFF) - ((lost & 0x800000) << 1)
            said.blocks.append(Block(ssrc, lost >> 24, total, *rest))
    elif kind == GOODBYE:
        if len(body) < 4 * count:
            raise RtpError("a goodbye shorter than it says")
        said.goodbyes += struct.unpack_from(f"!{count}I", body)


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(2 << 6 | count, kind, len(body) // 4) + body
