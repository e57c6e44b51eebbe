"""The jitter buffer in virtual time: packets come when the test says so."""

import random

import pytest

from media.jitter import MAX_DELAY_MS, MAX_PACKETS, JitterBuffer, Taken
from media.rtp import RtpPacket

TICKS = 160
START_MS = 10_000


def packet(number: int, *, ssrc: int = 1, sequence: int = 65_500, timestamp: int = 0xFFFFF000) -> RtpPacket:
    stamp = (timestamp + number * TICKS) & 0xFFFFFFFF
    return RtpPacket(0, (sequence + number) & 0xFFFF, stamp, ssrc, b"%08d" % number)


def run(buffer: JitterBuffer, arrivals: list[tuple[float, RtpPacket]], pulls: int) -> list[Taken]:
    """Pushes what came by then, then pulls, each 20 ms."""
    taken = []
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    at = 0
    for pull in range(pulls):
        now_ms = START_MS + 20 * pull + 5
        while at < len(waiting) and waiting[at][0] <= now_ms:
            buffer.push(waiting[at][1], int(waiting[at][0]))
            at += 1
        taken.append(buffer.pull(now_ms))
    return taken


def steady(count: int, delays: dict[int, int] | None = None) -> list[tuple[float, RtpPacket]]:
    return [(START_MS + 20 * n + (delays or {}).get(n, 0), packet(n)) for n in range(count)]


def numbers(taken: list[Taken]) -> list[int]:
    return [int(one.payload) for one in taken if one.payload is not None]


def delay_of(taken: list[Taken], pull: int) -> int:
    """How long ago the frame that played at this pull was spoken."""
    payload = taken[pull].payload
    assert payload is not None
    return 20 * pull + 5 - 20 * int(payload)


def test_a_steady_stream_through_both_wraps_plays_whole() -> None:
    taken = run(JitterBuffer(8000, TICKS), steady(200), 205)
    assert numbers(taken) == list(range(200))
    assert delay_of(taken, 100) <= 45


@pytest.mark.parametrize("gone", [{50}, {50, 51, 52, 53, 54}])
def test_what_is_lost_is_concealed_and_costs_no_delay(gone: set[int]) -> None:
    taken = run(JitterBuffer(8000, TICKS), [a for n, a in enumerate(steady(200)) if n not in gone], 200)
    assert numbers(taken)[:140] == [n for n in range(200) if n not in gone][:140]
    assert sum(one.lost for one in taken) >= len(gone)
    assert delay_of(taken, 150) <= 45


@pytest.mark.parametrize("burst_ms", [60, 100, 200, 300])
def test_after_a_burst_of_jitter_the_delay_is_normal_within_two_seconds(burst_ms: int) -> None:
    stalled = {n: burst_ms - 20 * (n - 100) for n in range(100, 100 + burst_ms // 20)}
    taken = run(JitterBuffer(8000, TICKS), steady(400, stalled), 400)
    back = 100 + burst_ms // 20 + 2000 // 20
    assert all(delay_of(taken, pull) <= 65 for pull in range(back, 395))


def test_one_straggler_delays_nothing() -> None:
    buffer = JitterBuffer(8000, TICKS)
    taken = run(buffer, steady(300, {100: 150}), 300)
    assert 100 not in numbers(taken)
    assert buffer.late == 1
    assert all(delay_of(taken, pull) <= 65 for pull in range(110, 295))


def test_a_long_stall_never_leaves_more_than_the_most_delay() -> None:
    stalled = {n: 900 - 20 * (n - 100) for n in range(100, 145)}
    taken = run(JitterBuffer(8000, TICKS), steady(400, stalled), 400)
    played = [pull for pull in range(148, 395) if taken[pull].payload is not None]
    assert all(delay_of(taken, pull) <= MAX_DELAY_MS + 45 for pull in played)


def test_reordered_and_doubled_packets_play_once_in_order() -> None:
    chance = random.Random(1)
    arrivals = [(at + chance.choice((0, 0, 0, 30)), one) for at, one in steady(400)]
    taken = run(JitterBuffer(8000, TICKS), arrivals + arrivals, 410)
    assert numbers(taken) == sorted(set(numbers(taken)))
    assert len(numbers(taken)) > 380


@pytest.mark.parametrize("drift", [-0.001, 0.001])
def test_a_drifting_clock_is_followed(drift: float) -> None:
    arrivals = [(START_MS + 20 * n * (1 + drift), packet(n)) for n in range(6000)]
    buffer = JitterBuffer(8000, TICKS)
    run(buffer, arrivals, 6000)
    assert buffer.waiting <= 5
    assert buffer.late + buffer.left_out < 60


def test_a_pause_of_the_senders_is_silence_not_loss() -> None:
    buffer = JitterBuffer(8000, TICKS)
    arrivals = []
    for n in range(100):
        spoken = n if n < 50 else n + 100
        one = packet(n)
        one.timestamp = packet(spoken).timestamp
        arrivals.append((START_MS + 20.0 * spoken, one))
    taken = run(buffer, arrivals, 210)
    assert len(numbers(taken)) == 100
    assert buffer.lost == 0
    assert not any(one.lost for one in taken[60:150])


def test_another_source_begins_anew() -> None:
    buffer = JitterBuffer(8000, TICKS)
    other = [(START_MS + 20.0 * n, packet(n, ssrc=2, sequence=7, timestamp=99)) for n in range(50, 100)]
    assert numbers(run(buffer, steady(50)[:40] + other, 110))[-40:] == list(range(60, 100))


def test_memory_is_bounded() -> None:
    buffer = JitterBuffer(8000, TICKS)
    for n in range(5000):
        buffer.push(packet(n), START_MS)
        assert buffer.waiting <= MAX_PACKETS


@pytest.mark.parametrize("length_ms", [10, 20, 30, 40, 60])
def test_packets_of_any_length_keep_the_time(length_ms: int) -> None:
    buffer = JitterBuffer(8000, TICKS, len)
    ticks, at, had = 8 * length_ms, 0, 0
    for pull in range(300):
        now_ms = START_MS + 20 * pull + 5
        while START_MS + length_ms * at <= now_ms:
            buffer.push(RtpPacket(0, at, ticks * at, 1, bytes(ticks)), START_MS + length_ms * at)
            at += 1
        while True:
            taken = buffer.pull(now_ms)
            had += taken.ticks
            if not taken.more:
                break
    assert abs(had - 300 * TICKS) <= ticks
    assert buffer.lost == buffer.late == 0
