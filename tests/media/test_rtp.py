"""RTP, RTCP and digits, against hostile bytes too."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import rtcp
from media.codec import Pcmu
from media.digits import END_REPEATS, DigitReader, DigitSender
from media.rtp import RtpError, RtpPacket, RtpReceiver, RtpSender, Stream, mean_opinion
from media.rtp_audio import RtpAudio


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\x80\x00" + data))
def test_any_bytes_are_a_packet_or_an_error(data: bytes) -> None:
    for parse in (RtpPacket.parse, rtcp.parse):
        with contextlib.suppress(RtpError):
            parse(data)
    RtpReceiver(8000).rtcp(data, 1, 7)


def test_padding_sources_and_extension_are_passed_over() -> None:
    head = bytes((0xB1, 0x80, 0, 7)) + (9).to_bytes(4) + (5).to_bytes(4)
    packet = RtpPacket.parse(head + b"CSRC" + b"\xbe\xde\x00\x01EXT." + b"voice" + b"\x00\x00\x03")
    assert (packet.payload, packet.sequence, packet.timestamp, packet.ssrc) == (b"voice", 7, 9, 5)
    assert packet.marker
    with pytest.raises(RtpError):
        RtpPacket.parse(head + b"CSRC\xbe\xde\x00\x01EXT.\xff")


def test_the_sender_numbers_through_the_wrap_and_silence() -> None:
    sender = RtpSender(1, 0, 8000, sequence=0xFFFF, timestamp=0xFFFFFFFF)
    sender.packet(b"a", 160)
    sender.skip(160)
    packet = RtpPacket.parse(sender.packet(b"b", 160))
    assert (packet.sequence, packet.timestamp) == (0, 319)


def test_reports_tell_loss_and_round_trip() -> None:
    ours, theirs = RtpSender(1, 0, 8000, cname="a"), RtpSender(2, 0, 8000, sequence=65_530, timestamp=0)
    hears_us, hears_them = RtpReceiver(8000), RtpReceiver(8000)
    for n in range(100):
        hears_us.received(RtpPacket.parse(ours.packet(b"x", 160)), 20 * n)
        packet = RtpPacket.parse(theirs.packet(b"x", 160))
        if n % 4 != 1:
            hears_them.received(packet, 20 * n)
    assert (hears_them.expected, hears_them.lost) == (100, 25)
    assert hears_us.rtcp(ours.report(2000, 1e9, hears_them), 2040, theirs.ssrc) is not None
    assert hears_us.rtcp(ours.report(2000, 1e9, hears_them), 2040, 999) is None, "of another stream"
    heard = hears_them.rtcp(theirs.report(2100, 1e9, hears_us), 2150, ours.ssrc)
    assert heard is not None
    assert heard.lost_percent == 0
    assert heard.round_trip_ms is not None
    assert abs(heard.round_trip_ms - 90) <= 1
    hears_them.rtcp(theirs.goodbye(2200, 1e9, hears_us), 2250, ours.ssrc)
    assert hears_them.said_goodbye


def test_a_report_whose_time_is_before_the_last_one_that_came_says_no_delay() -> None:
    """A clock that stands for a whole round of work is a little behind the one that packets are noted with."""
    ours, theirs = RtpSender(1, 0, 8000), RtpSender(2, 0, 8000)
    ours.packet(b"x", 160)
    hears_them = RtpReceiver(8000)
    hears_them.received(RtpPacket.parse(theirs.packet(b"x", 160)), 1000)
    hears_them.rtcp(theirs.report(1000, 1e9), 1003, ours.ssrc)
    (block,) = rtcp.parse(ours.report(1000, 1e9, hears_them)).blocks
    assert (block.ssrc, block.delay_65536ths_s) == (2, 0)
    assert block.last_report
    (block,) = rtcp.parse(ours.report(2003, 1e9, hears_them)).blocks
    assert block.delay_65536ths_s == 65_536


def test_one_digit_for_each_event_however_often_it_is_sent() -> None:
    sender = RtpSender(1, 0, 8000)
    digits, reader = DigitSender(sender, 101, 160), DigitReader()
    packets = [RtpPacket.parse(p) for digit in "1#1" for frame in digits.send(digit, 5) for p in frame]
    assert len(packets) == 21
    assert [d for p in packets + packets if (d := reader.received(p))] == ["1", "#", "1"]


def test_keys_are_no_loss_and_no_jitter() -> None:
    """Sound and keys share one sequence; a real telephone's keys made a flawless line look like one with 20 % lost."""
    now_ms = 0
    pressed: list[str] = []
    quiet: Any = lambda *given: None  # noqa: E731
    stream = RtpAudio(
        Pcmu(),
        0,
        frozenset({101}),
        ssrc=1,
        cname="x",
        heard=quiet,
        digit=pressed.append,
        transmit=quiet,
        transmit_report=quiet,
        now_ms=lambda: now_ms,
        lock=True,
    )
    peer = RtpSender(7, 0, 8000)
    digits = DigitSender(peer, 101, 160)
    lost_packets = 0
    for key in "31051980":
        for packets in (*([peer.packet(b"x" * 160, 160)] for _ in range(10)), *digits.send(key, 9)):
            now_ms += 20
            for packet in packets:
                stream.rtp(packet)
        peer.packet(b"never comes", 160)
        lost_packets += 1
        now_ms += 20
    stream.rtp(peer.packet(b"x" * 160, 160))
    assert "".join(pressed) == "31051980"
    assert stream.receiver.lost == lost_packets
    assert stream.receiver.packets == 8 * (10 + 9 + END_REPEATS - 1)  # the first only shows whose it is
    assert stream.receiver.jitter_ms < 5


def test_a_stream_is_the_first_that_proves_itself() -> None:
    stream = Stream(frozenset({0}))
    assert not stream.admit(RtpPacket(0, 900, 0, 9, b""))
    assert not stream.admit(RtpPacket(0, 1, 0, 1, b""))
    assert stream.admit(RtpPacket(0, 2, 0, 1, b""))
    assert not stream.admit(RtpPacket(0, 901, 0, 9, b""))
    assert not stream.admit(RtpPacket(8, 3, 0, 1, b""))
    assert stream.strays == 4


def test_opinion_falls_with_delay_and_loss() -> None:
    assert mean_opinion(20, 0) > 4.3
    assert mean_opinion(400, 0) < mean_opinion(150, 0)
    assert mean_opinion(20, 100) < 1.5 < mean_opinion(20, 5) < mean_opinion(20, 0)
