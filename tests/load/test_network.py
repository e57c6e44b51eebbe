"""Bad networks: how much is lost and in which bursts, what is delayed, and that nothing overtakes."""

import itertools
import random

import pytest

from app.load.network import MAX_JITTERS, RETRANSMITTED_S, Chance, Hearing, Sending
from app.load.steps import Network

FRAMES = 50_000


def chance(**network: float) -> Chance:
    jitter_ms = int(network.pop("jitter_ms", 0))
    return Chance(Network(**network, jitter_ms=jitter_ms), random.Random(1))


@pytest.mark.parametrize(("loss", "burst"), [(0.02, 1), (0.05, 3), (0.3, 10), (0.0, 1), (0.5, 1)])
def test_loss_and_bursts_are_as_written_in_the_mean(loss: float, burst: float) -> None:
    one = chance(loss=loss, burst=burst)
    lost = [one.lost() for _ in range(FRAMES)]
    assert sum(lost) / FRAMES == pytest.approx(loss, rel=0.15)
    runs = [len(list(run)) for was_lost, run in itertools.groupby(lost) if was_lost]
    if runs:
        assert sum(runs) / len(runs) == pytest.approx(burst, rel=0.15)


def test_frames_leave_late_in_order_and_all_of_them() -> None:
    sending = Sending(chance(jitter_ms=40))
    left: list[tuple[int, bytes]] = []
    for at in range(1000):
        left += [(at, each) for each in sending.frame(at.to_bytes(2), at * 0.02)]
    numbers = [int.from_bytes(each) for _, each in left]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 980
    delays = [at - number for (at, _), number in zip(left, numbers, strict=True)]
    assert 0 < max(delays) * 0.02 <= MAX_JITTERS * 0.04 + 0.02
    assert len(set(delays)) > 2


def test_a_lost_frame_keeps_its_place() -> None:
    sending = Sending(chance(loss=0.5, burst=1))
    out = [each for at in range(200) for each in sending.frame(b"x", at * 0.02)]
    assert len(out) == 200
    assert 60 < out.count(b"") < 140


def test_packets_are_lost_and_streams_only_late() -> None:
    packets, stream = Hearing(chance(loss=0.3)), Hearing(chance(loss=0.3))
    through = [packets.arrives_s(at * 0.02, packet=True) for at in range(1000)]
    assert 200 < through.count(None) < 400
    late = [stream.arrives_s(at * 0.02, packet=False) for at in range(1000)]
    assert None not in late
    times = [at_s for at_s in late if at_s is not None]
    assert times == sorted(times)
    assert max(at_s - at * 0.02 for at, at_s in enumerate(times)) == pytest.approx(RETRANSMITTED_S)
