"""How often values fell between bounds: what a page of metrics is made of."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence


class Histogram:
    """Observing is a search in a few bounds and two additions, so it may be done for each tick."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise, in the values' own unit; what lies above the last one is counted too."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """How many values were at most as large as each bound, and then, with infinity, all of them."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield bound, total
