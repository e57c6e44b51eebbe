"""Sums over legs that come and go: they never fall, and nothing is lost or counted twice at a leg's end."""

from typing import Any

import numpy as np
import pytest

from media.clock import Ticker
from media.codec import Pcmu
from media.histogram import Histogram
from media.leg import Leg
from media.rtp_audio import RtpAudio
from media.traffic import Traffic
from tests.sip.caller import Source


class Quiet:
    """A handler and a wire that take whatever comes."""

    stalled = False

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None


class Telephone:
    """Ticked by its owner, as a session is."""

    def __init__(self, transport: str = "sip") -> None:
        quiet: Any = Quiet()
        self.leg: Leg | None = Leg("l", transport, 8000, quiet, quiet)
        self.audio_stream: RtpAudio | None = None
        self.now_ms = 1000
        self.answer()

    def answer(self) -> None:
        assert self.leg is not None
        self.audio_stream = RtpAudio(
            Pcmu(),
            0,
            frozenset(),
            ssrc=1,
            cname="x",
            heard=self.leg.receive,
            digit=self.leg.digit,
            transmit=lambda packet: None,
            transmit_report=lambda packet: None,
            now_ms=lambda: self.now_ms,
        )

    def hears(self, source: Source, packets: int) -> None:
        assert self.audio_stream is not None
        for _ in range(packets):
            self.audio_stream.rtp(source.packet())

    def says(self, frames: int) -> None:
        assert self.leg is not None
        self.leg.playout.begin(1)
        self.leg.playout.push(1, 0, np.ones(160 * frames, dtype=np.int16))
        for at in range(frames + 5):
            self.leg.playout.tick(at * 20)

    def tick(self, now_ms: int) -> None: ...


def ignore(error: Exception) -> None:
    raise AssertionError("nothing fails here") from error


def counted(traffic: Traffic) -> tuple[int, int]:
    sums = traffic.sums()["sip"]
    return sums.sent_frames, sums.received_packets


@pytest.fixture
def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
def traffic(ticker: Ticker) -> Traffic:
    return Traffic(ticker)


def test_legs_that_live_and_legs_that_ended_add_up(ticker: Ticker, traffic: Traffic) -> None:
    first, second = Telephone(), Telephone()
    for phone in (first, second):
        ticker.add(phone, ignore)
        phone.hears(Source(), 10)
        phone.says(4)
    assert counted(traffic) == (8, 20)
    ticker.discard(first)
    ticker.discard(first)
    assert counted(traffic) == (8, 20)
    assert traffic.quality["sip"].loss.count == 1
    assert traffic.now()["sip"].legs == 1
    ticker.discard(second)
    assert counted(traffic) == (8, 20)
    assert traffic.now() == {}


def test_losses_never_fall(ticker: Ticker, traffic: Traffic) -> None:
    phone, source = Telephone(), Source()
    ticker.add(phone, ignore)
    phone.hears(source, 5)
    delayed = source.packet()
    source.skip()
    phone.hears(source, 5)
    assert traffic.sums()["sip"].lost_packets == 2
    assert phone.audio_stream is not None
    phone.audio_stream.rtp(delayed)
    assert phone.audio_stream.receiver.lost == 1
    assert traffic.sums()["sip"].lost_packets == 2


def test_another_source_of_a_stream_adds_to_the_first(ticker: Ticker, traffic: Traffic) -> None:
    phone, source = Telephone(), Source(7)
    ticker.add(phone, ignore)
    phone.hears(source, 5)
    source.skip()
    phone.hears(source, 5)
    phone.hears(Source(8), 3)
    assert (traffic.sums()["sip"].received_packets, traffic.sums()["sip"].lost_packets) == (13, 1)


def test_another_stream_of_a_leg_ends_the_one_before(ticker: Ticker, traffic: Traffic) -> None:
    phone = Telephone()
    ticker.add(phone, ignore)
    phone.hears(Source(), 10)
    phone.says(4)
    assert counted(traffic) == (4, 10)
    phone.answer()
    phone.hears(Source(), 3)
    assert counted(traffic) == (4, 13)
    assert traffic.quality["sip"].opinion.count == 1
    ticker.discard(phone)
    assert counted(traffic) == (4, 13)
    assert traffic.quality["sip"].opinion.count == 2


def test_a_session_that_lost_its_leg_keeps_what_was_counted(ticker: Ticker, traffic: Traffic) -> None:
    phone = Telephone()
    ticker.add(phone, ignore)
    phone.hears(Source(), 10)
    traffic.sums()
    phone.leg = phone.audio_stream = None
    assert traffic.sums()["sip"].received_packets == 10
    ticker.discard(phone)
    assert traffic.sums()["sip"].received_packets == 10


def test_a_leg_is_ticked_by_itself_and_something_else_is_no_leg(ticker: Ticker, traffic: Traffic) -> None:
    phone = Telephone("audio")
    assert phone.leg is not None
    ticker.add(phone.leg, ignore)
    phone.says(4)
    quiet: Any = Quiet()
    quiet.leg = quiet.audio_stream = None
    ticker.add(quiet, ignore)
    sums = traffic.sums()
    assert sums.keys() == {"audio"}
    assert sums["audio"].sent_frames == 4
    assert not sums["audio"].rtp
    assert not traffic.now()
    ticker.discard(quiet)
    ticker.discard(phone.leg)
    assert traffic.sums() == sums
    assert not traffic.quality


def test_a_leg_that_heard_nothing_has_no_quality(ticker: Ticker, traffic: Traffic) -> None:
    phone = Telephone()
    ticker.add(phone, ignore)
    ticker.discard(phone)
    assert not traffic.quality


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert (histogram.count, histogram.sum) == (5, 14.0)
