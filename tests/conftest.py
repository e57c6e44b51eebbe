"""What all tests share: outside programs that a test may need, and slow tests first."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

REQUIRE_ALL = "REQUIRE_ALL"


def needs(program: str, how_to_install: str) -> str:
    """The path of a program or file. Skips the test where it is missing; with REQUIRE_ALL=1 the test fails instead."""
    path = shutil.which(program)
    if path is not None:
        return path
    if Path(program).is_absolute() and Path(program).exists():
        return program
    reason = f"{program} is not installed: {how_to_install}"
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("untimed", deadline=None)  # tests do not time
    settings.load_profile("untimed")
    config.addinivalue_line("markers", "slow: takes long by nature; started first, so that others run beside it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
