"""Who is let in, who is counted, who is banned, and that none of it grows."""

import ipaddress
from collections.abc import Iterator

import pytest

from media.sip import guard as guards
from media.sip.guard import (
    BAN_MS,
    KNOWN_MS,
    MAX_BANS,
    MAX_KNOWN_PER_S,
    MAX_OFFENCES,
    MAX_PER_S,
    MAX_SOURCES,
    MAX_UNKNOWN_IN_ALL_PER_S,
    MAX_UNKNOWN_PER_S,
    OFFENCES_MS,
    STREAM_MESSAGES,
    Guard,
    Reason,
    Trust,
)

FRIEND, STRANGER, OTHER = "192.0.2.7", "198.51.100.1", "198.51.100.2"
NET = ipaddress.ip_network("192.0.2.0/24")


@pytest.fixture
def guard() -> Guard:
    return Guard([NET], sign_in=True)


def hosts() -> Iterator[str]:
    return (str(ipaddress.IPv4Address(int(ipaddress.IPv4Address("10.0.0.0")) + n)) for n in range(1 << 24))


def offend(guard: Guard, host: str, now_ms: int = 0, times: int = MAX_OFFENCES, *, stream: bool = False) -> None:
    for _ in range(times):
        guard.offended(host, now_ms, stream=stream)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        (FRIEND, True),
        (f"::ffff:{FRIEND}", True),
        ("192.0.3.7", False),
        (f"::ffff:{STRANGER}", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
        ("192.0.2.7 ", False),
    ],
)
def test_who_is_allowed(guard: Guard, host: str, allowed: bool) -> None:
    assert guard.allows(host) is allowed
    assert guard.admits(host, 0) is (Trust.allowed if allowed else Trust.unknown)
    assert Guard([NET], sign_in=False).admits(host, 0) is (Trust.allowed if allowed else Trust.dropped)


def test_whom_we_call_may_answer_and_is_no_friend() -> None:
    guard = Guard([], sign_in=False, expects=lambda host: host == STRANGER)
    assert guard.admits(STRANGER, 0) is Trust.unknown
    assert guard.welcomes(STRANGER, 0) is Trust.unknown
    assert not guard.allows(STRANGER)
    assert guard.admits(OTHER, 0) is Trust.dropped
    assert guard.welcomes(OTHER, 0) is Trust.dropped
    assert guard.drops == {Reason.stranger: 2}
    assert guard.dropped == 2


@pytest.mark.parametrize(("host", "most"), [(FRIEND, MAX_PER_S), (STRANGER, MAX_UNKNOWN_PER_S)])
def test_an_address_has_so_many_messages_in_each_second(guard: Guard, host: str, most: int) -> None:
    for second in range(3):
        now_ms = second * 1000
        assert sum(guard.admits(host, now_ms) is not Trust.dropped for _ in range(most * 2)) == most
    assert guard.drops == {Reason.flood: 3 * most}


def test_all_strangers_together_have_so_many(guard: Guard) -> None:
    admitted = sum(guard.admits(host, 0) is Trust.unknown for _, host in zip(range(5000), hosts(), strict=False))
    assert admitted == MAX_UNKNOWN_IN_ALL_PER_S
    assert guard.admits(FRIEND, 0) is Trust.allowed


@pytest.mark.parametrize(("host", "most"), [(FRIEND, MAX_PER_S), (STRANGER, MAX_UNKNOWN_PER_S)])
def test_a_stream_counts_as_several_messages_of_its_address(guard: Guard, host: str, most: int) -> None:
    assert sum(guard.welcomes(host, 0) is not Trust.dropped for _ in range(most)) == most // STREAM_MESSAGES
    assert guard.admits(host, 0, stream=True) is Trust.dropped
    assert guard.admits(host, 0) is not Trust.dropped
    assert guard.welcomes(host, 1000) is not Trust.dropped


def test_streams_of_all_strangers_are_so_many_and_leave_datagrams_alone(guard: Guard) -> None:
    welcomed = sum(guard.welcomes(host, 0) is Trust.unknown for _, host in zip(range(5000), hosts(), strict=False))
    assert welcomed == MAX_UNKNOWN_IN_ALL_PER_S // STREAM_MESSAGES
    assert guard.admits(STRANGER, 0, stream=True) is Trust.dropped
    assert guard.admits(STRANGER, 0) is Trust.unknown
    guard.signed_in(OTHER, 0, stream=True)
    assert guard.welcomes(OTHER, 0) is Trust.unknown


def test_a_flood_of_datagrams_shuts_no_stream_out(guard: Guard) -> None:
    for _, host in zip(range(5000), hosts(), strict=False):
        guard.admits(host, 0)
    assert guard.welcomes(STRANGER, 0) is Trust.unknown


def test_who_signed_in_is_heard_in_a_flood_of_strangers(guard: Guard) -> None:
    guard.signed_in(STRANGER, 0)
    for _, host in zip(range(5000), hosts(), strict=False):
        guard.admits(host, 1)
    assert sum(guard.admits(STRANGER, 1) is Trust.unknown for _ in range(1000)) == MAX_KNOWN_PER_S
    assert guard.admits(OTHER, 1) is Trust.dropped


def test_a_ban_begins_with_the_tenth_offence_and_ends(guard: Guard) -> None:
    offend(guard, STRANGER, times=MAX_OFFENCES - 1)
    assert guard.admits(STRANGER, 0) is Trust.unknown
    offend(guard, STRANGER, times=1)
    assert (guard.bans, guard.offences) == (1, MAX_OFFENCES)
    assert guard.admits(STRANGER, BAN_MS - 1) is Trust.dropped
    assert guard.drops == {Reason.banned: 1}
    assert guard.admits(OTHER, BAN_MS - 1) is Trust.unknown
    assert guard.admits(STRANGER, BAN_MS) is Trust.unknown


def test_old_offences_are_forgiven(guard: Guard) -> None:
    offend(guard, STRANGER, times=MAX_OFFENCES - 1)
    offend(guard, STRANGER, OFFENCES_MS + 1, times=MAX_OFFENCES - 1)
    assert guard.admits(STRANGER, OFFENCES_MS + 1) is Trust.unknown


def test_the_allowed_are_never_banned(guard: Guard) -> None:
    offend(guard, FRIEND, times=1000)
    assert guard.admits(FRIEND, 0) is Trust.allowed
    assert guard.bans == 0


def test_who_signed_in_is_not_banned_for_what_others_send_in_its_name(guard: Guard) -> None:
    guard.signed_in(STRANGER, 0)
    offend(guard, STRANGER, times=1000)
    assert guard.admits(STRANGER, 0) is Trust.unknown
    offend(guard, STRANGER, KNOWN_MS)
    assert guard.admits(STRANGER, KNOWN_MS) is Trust.dropped


def test_signing_in_ends_a_ban(guard: Guard) -> None:
    offend(guard, STRANGER)
    guard.signed_in(STRANGER, 1)
    assert guard.admits(STRANGER, 1) is Trust.unknown


def test_datagrams_whose_source_may_be_forged_ban_no_stream(guard: Guard) -> None:
    offend(guard, STRANGER)
    assert guard.admits(STRANGER, 1) is Trust.dropped
    assert guard.admits(STRANGER, 1, stream=True) is Trust.unknown
    assert guard.welcomes(STRANGER, 1) is Trust.unknown
    offend(guard, STRANGER, stream=True)
    assert guard.welcomes(STRANGER, 1) is Trust.dropped


def test_a_flood_of_datagrams_in_a_friends_name_leaves_its_streams_alone(guard: Guard) -> None:
    for _ in range(MAX_PER_S * 2):
        guard.admits(FRIEND, 0)
    assert guard.admits(FRIEND, 0) is Trust.dropped
    assert guard.admits(FRIEND, 0, stream=True) is Trust.allowed


def test_a_network_of_ipv6_is_one_source(guard: Guard) -> None:
    offend(guard, "2001:db8:1:2::1")
    assert guard.admits("2001:db8:1:2:ffff::9", 0) is Trust.dropped
    assert guard.admits("2001:db8:1:3::1", 0) is Trust.unknown


def test_an_address_has_one_ban_however_it_is_written(guard: Guard) -> None:
    offend(guard, STRANGER)
    assert guard.admits(f"::ffff:{STRANGER}", 0) is Trust.dropped


def test_the_tables_are_bounded(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_SOURCES", 100)
    monkeypatch.setattr(guards, "MAX_BANS", 50)
    for n, host in zip(range(1000), hosts(), strict=False):
        guard.admits(host, n * 1000)
        guard.signed_in(host, n * 1000)
        offend(guard, f"172.16.{n >> 8}.{n & 255}", n * 1000)
    assert len(guard._sources) <= 100
    assert len(guard._known) <= 100
    assert len(guard._banned) <= 50


def test_no_flood_makes_a_ban_forgotten(guard: Guard) -> None:
    offend(guard, STRANGER)
    for n, host in zip(range(MAX_SOURCES + 100), hosts(), strict=False):
        guard.admits(host, 1 + n * 1000 // MAX_UNKNOWN_IN_ALL_PER_S)
    assert guard.admits(STRANGER, BAN_MS - 1) is Trust.dropped
    assert MAX_BANS * MAX_OFFENCES >= MAX_UNKNOWN_IN_ALL_PER_S * BAN_MS // 1000


def test_strangers_whose_number_is_up_cost_no_memory(guard: Guard) -> None:
    for _, host in zip(range(MAX_SOURCES), hosts(), strict=False):
        guard.admits(host, 0)
    assert len(guard._sources) == MAX_UNKNOWN_IN_ALL_PER_S
