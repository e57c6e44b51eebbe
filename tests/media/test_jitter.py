"""The jitter buffer in virtual time: packets come when the test says so."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.jitter import MAX_GAP_MS, MAX_PACKETS, MAX_WAIT_MS, MIN_WAIT_MS, Due, JitterBuffer
from media.rtp import RtpPacket

TICKS = 160
START_MS = 10_000


def packet(number: int, *, ssrc: int = 1, sequence: int = 65_500, timestamp: int = 0xFFFFF000) -> RtpPacket:
    stamp = (timestamp + number * TICKS) & 0xFFFFFFFF
    return RtpPacket(0, (sequence + number) & 0xFFFF, stamp, ssrc, b"%08d" % number)


def run(buffer: JitterBuffer, arrivals: list[tuple[float, RtpPacket]], pulls: int) -> list[list[Due]]:
    """What was given at each of the pulls, which come 5 ms after each 20 ms."""
    given = []
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    at = 0
    for pull in range(pulls):
        now_ms = START_MS + 20 * pull + 5
        while at < len(waiting) and waiting[at][0] <= now_ms:
            buffer.push(waiting[at][1], int(waiting[at][0]))
            at += 1
        given.append(list(buffer.due(now_ms)))
    return given


def steady(count: int, delays: dict[int, int] | None = None) -> list[tuple[float, RtpPacket]]:
    return [(START_MS + 20 * n + (delays or {}).get(n, 0), packet(n)) for n in range(count)]


def numbers(given: list[list[Due]]) -> list[int]:
    return [int(one.payload) for at_once in given for one in at_once if one.payload is not None]


def missing(given: list[list[Due]]) -> int:
    return sum(one.payload is None for at_once in given for one in at_once)


def delays_ms(given: list[list[Due]]) -> dict[int, int]:
    """By packet, how long after it was spoken it was given."""
    return {
        int(one.payload): 20 * pull + 5 - 20 * int(one.payload)
        for pull, at_once in enumerate(given)
        for one in at_once
        if one.payload is not None
    }


def test_a_steady_stream_through_both_wraps_waits_for_nothing() -> None:
    given = run(JitterBuffer(8000, TICKS), steady(200), 200)
    assert numbers(given) == list(range(200))
    assert set(delays_ms(given).values()) == {5}
    assert missing(given) == 0


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_what_is_lost_is_filled_and_the_stream_is_on_time_again(count: int) -> None:
    gone = set(range(50, 50 + count))
    given = run(JitterBuffer(8000, TICKS), [a for n, a in enumerate(steady(200)) if n not in gone], 200)
    assert numbers(given) == [n for n in range(200) if n not in gone]
    assert missing(given) == count
    late = delays_ms(given)
    assert all(late[n] == 5 for n in range(50 + count + 3, 200))


def test_the_packet_behind_a_loss_comes_along_for_its_repair() -> None:
    given = run(JitterBuffer(8000, TICKS), [a for n, a in enumerate(steady(60)) if n != 30], 60)
    flat = [one for at_once in given for one in at_once]
    at = next(n for n, one in enumerate(flat) if one.payload is None)
    assert flat[at].following == b"%08d" % 31
    assert flat[at + 1].payload == b"%08d" % 31


@pytest.mark.parametrize("burst_ms", [60, 100, 200, 300])
def test_a_burst_of_jitter_loses_nothing_and_leaves_no_delay(burst_ms: int) -> None:
    stalled = {n: burst_ms - 20 * (n - 100) for n in range(100, 100 + burst_ms // 20)}
    buffer = JitterBuffer(8000, TICKS)
    given = run(buffer, steady(400, stalled), 400)
    assert numbers(given) == list(range(400))
    late = delays_ms(given)
    assert all(late[n] == 5 for n in range(100 + burst_ms // 20 + 1, 400))
    assert buffer.wait_ms < MIN_WAIT_MS + 1


def test_a_gap_is_waited_for_longer_while_the_network_is_restless_and_within_two_seconds_no_more() -> None:
    chance = random.Random(2)
    restless = {n: chance.randrange(0, 80) for n in range(100, 200)}
    buffer = JitterBuffer(8000, TICKS)
    arrivals = steady(400, restless)
    run(buffer, arrivals[:200], 200)
    assert 2 * MIN_WAIT_MS < buffer.wait_ms <= MAX_WAIT_MS
    for n in range(200, 300):
        buffer.push(arrivals[n][1], int(arrivals[n][0]))
    assert buffer.wait_ms < MIN_WAIT_MS + 2


def test_one_straggler_delays_the_others_for_one_wait_only() -> None:
    buffer = JitterBuffer(8000, TICKS)
    given = run(buffer, steady(300, {100: 450}), 330)
    assert 100 not in numbers(given)
    assert buffer.late == 1
    late = delays_ms(given)
    assert max(late.values()) <= MIN_WAIT_MS + 45
    assert all(late[n] == 5 for n in range(104, 300))


def test_a_way_that_has_become_longer_is_not_filled_for_ever() -> None:
    given = run(JitterBuffer(8000, TICKS), steady(400, dict.fromkeys(range(100, 400), 150)), 410)
    assert numbers(given) == list(range(400))
    assert missing(given) <= 150 // 20 + 2


def test_reordered_and_doubled_packets_are_given_once_in_order() -> None:
    chance = random.Random(1)
    arrivals = [(at + chance.choice((0, 0, 0, 30)), one) for at, one in steady(400)]
    buffer = JitterBuffer(8000, TICKS)
    given = run(buffer, arrivals + arrivals, 410)
    assert numbers(given) == list(range(400))
    assert buffer.missing == 0


@pytest.mark.parametrize("drift", [-0.001, 0.001])
def test_a_drifting_clock_is_followed(drift: float) -> None:
    arrivals = [(START_MS + 20 * n * (1 + drift), packet(n)) for n in range(6000)]
    given = run(JitterBuffer(8000, TICKS), arrivals, 6010)
    assert numbers(given) == list(range(6000))
    assert missing(given) <= 20  # with those after the end


def test_a_pause_of_the_sender_s_goes_on_as_silence() -> None:
    buffer = JitterBuffer(8000, TICKS)
    arrivals = []
    for n in range(100):
        spoken = n if n < 50 else n + 100
        one = packet(n)
        one.timestamp = packet(spoken).timestamp
        arrivals.append((START_MS + 20.0 * spoken, one))
    given = run(buffer, arrivals, 200)
    assert len(numbers(given)) == 100
    assert 97 <= missing(given) <= 100
    assert all(len(at_once) == 1 for at_once in given[53:150])


def test_another_source_and_a_stream_that_starts_over_begin_anew() -> None:
    buffer = JitterBuffer(8000, TICKS)
    other = [(START_MS + 20.0 * n, packet(n, ssrc=2, sequence=7, timestamp=99)) for n in range(50, 100)]
    again = [(START_MS + 20.0 * n, packet(n, ssrc=2, sequence=20_000, timestamp=5)) for n in range(100, 150)]
    assert numbers(run(buffer, steady(50) + other + again, 160)) == list(range(150))


def test_memory_and_the_filling_of_a_gap_are_bounded() -> None:
    buffer = JitterBuffer(8000, TICKS)
    buffer.push(packet(0), START_MS)
    list(buffer.due(START_MS))
    for n in range(2, 900):
        buffer.push(packet(n), START_MS)
        given = list(buffer.due(START_MS))
        assert len(given) <= MAX_PACKETS + MAX_GAP_MS // 20 + 2
    buffer.push(RtpPacket(0, packet(950).sequence, (packet(950).timestamp + 8000 * 60) & 0xFFFFFFFF, 1, b"0"), START_MS)
    assert len(list(buffer.due(START_MS + 1000))) <= MAX_GAP_MS // 20 + 2


@pytest.mark.parametrize("length_ms", [10, 20, 30, 40, 60])
def test_packets_of_any_length_keep_the_time(length_ms: int) -> None:
    buffer = JitterBuffer(8000, TICKS)
    ticks, at, whole = 8 * length_ms, 0, 0
    for pull in range(300):
        now_ms = START_MS + 20 * pull + 5
        while START_MS + length_ms * at <= now_ms:
            buffer.push(RtpPacket(0, at, ticks * at, 1, b"x"), START_MS + length_ms * at)
            at += 1
        whole += sum(one.payload is not None for one in buffer.due(now_ms))
    assert whole == at
    assert buffer.missing == buffer.late == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 2), st.integers(0, 3000)),
        max_size=60,
    )
)
def test_no_packets_do_harm(arrivals: list[tuple[int, int, int, int]]) -> None:
    buffer = JitterBuffer(48_000, 960)
    now_ms = START_MS
    for sequence, timestamp, ssrc, later_ms in arrivals:
        now_ms += later_ms
        buffer.push(RtpPacket(111, sequence, timestamp, ssrc, b"x"), now_ms)
        assert len(list(buffer.due(now_ms))) <= MAX_PACKETS + MAX_GAP_MS // 20 + 2
        assert MIN_WAIT_MS <= buffer.wait_ms <= MAX_WAIT_MS


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 1, 7, 30, 45, 90, 250]), st.sampled_from([1, 1, 1, 1, 0, 2])),
        min_size=5,
        max_size=80,
    )
)
def test_what_passes_at_once_is_what_would_have_been_given(fates: list[tuple[int, int]]) -> None:
    """Delays, losses and doubles: the quick way changes neither what is given nor when."""
    arrivals = [(START_MS + 20.0 * n + late, packet(n)) for n, (late, times) in enumerate(fates) for _ in range(times)]
    stored, quick = JitterBuffer(8000, TICKS), JitterBuffer(8000, TICKS)
    expected = run(stored, arrivals, len(fates) + 20)
    arrivals.sort(key=lambda arrival: arrival[0])
    for pull, due in enumerate(expected):
        now_ms = START_MS + 20 * pull + 5
        passed: list[Due] = []
        while arrivals and arrivals[0][0] <= now_ms:
            at_ms, one = arrivals.pop(0)
            if quick.passes(one.ssrc, one.sequence, one.timestamp, int(at_ms)):
                passed.append(Due(one.payload))
            else:
                quick.push(one, int(at_ms))
        assert [*passed, *quick.due(now_ms)] == due
    assert (quick.late, quick.missing, quick.wait_ms) == (stored.late, stored.missing, stored.wait_ms)
