"""The rule for outside programs: skipped with a reason, or failed where everything is required."""

import pytest

from tests.conftest import REQUIRE_ALL, needs

MISSING = "no-such-program-anywhere"


def test_what_is_there_is_found() -> None:
    assert needs("sh", "it is always there").endswith("sh")


def test_a_file_may_be_needed() -> None:
    assert needs(__file__, "it is this one") == __file__


def test_what_is_missing_is_skipped_with_its_name_and_a_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE_ALL, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{MISSING} is not installed: apt-get install it"):
        needs(MISSING, "apt-get install it")


def test_where_all_is_required_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE_ALL, "1")
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        needs(MISSING, "apt-get install it")
