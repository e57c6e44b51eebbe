"""What counts as a lost word."""

import pytest

from app.load.words import lost


@pytest.mark.parametrize(
    ("said", "understood", "found"),
    [
        (["On Monday, please!"], ["on monday please"], (0, 3)),
        (["on monday please"], [], (3, 3)),
        (["on monday", "no wait"], ["on", "wait on monday"], (2, 4)),
        (["it's mine"], ["it's", "yes", "mine"], (0, 2)),
        ([], ["hello"], (0, 0)),
    ],
    ids=["case", "nothing", "order", "added", "silent"],
)
def test_words_are_compared_in_their_order(said: list[str], understood: list[str], found: tuple[int, int]) -> None:
    assert lost(said, understood) == found
