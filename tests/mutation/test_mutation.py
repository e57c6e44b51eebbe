"""Remove any one fence, and a test fails."""

import pytest

from tests.mutation.mutations import MUTATIONS
from tests.mutation.runner import judge_all


@pytest.mark.timeout(240)
def test_no_fence_can_be_taken_away_unnoticed() -> None:
    left = [
        f"{result.mutation.name}: {result.verdict}" for result in judge_all(MUTATIONS) if result.verdict != "killed"
    ]
    assert left == []
