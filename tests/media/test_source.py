"""Whose connection it is, whatever its header lines claim."""

from ipaddress import ip_network

import pytest

from media.source import MAX_NAME_CHARS, belongs, field_values, source

PROXIES = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("2001:db8:9::/48"))


@pytest.mark.parametrize(
    ("peer", "said", "whose"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "192.0.2.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "192.0.2.9,198.51.100.1,10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("127.0.0.1", "198.51.100.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("127.0.0.1", "198.51.100.1, ", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1:4000", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4, " * 700 + "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:9::1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2::1", "198.51.100.1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("", "198.51.100.1", ""),
        ("u" * 500, "", "u" * MAX_NAME_CHARS),
    ],
)
def test_only_proxies_speak_for_others_and_only_for_whom_they_heard(peer: str, said: str, whose: str) -> None:
    assert source(peer, {"x-forwarded-for": said} if said else {}, PROXIES) == whose


def test_with_no_proxies_nobody_speaks_for_others() -> None:
    assert source("127.0.0.1", {"x-forwarded-for": "198.51.100.1"}, ()) == "127.0.0.1"


def test_no_line_of_a_header_is_lost() -> None:
    lines = [(b"Host", b"here"), (b"ORIGIN", b"http://a"), (b"x", b"\xff"), (b"Origin", b"http://b")]
    assert field_values(lines) == {"host": "here", "origin": "http://a, http://b", "x": "\xff"}


def test_who_belongs_to_a_network() -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert belongs(peer, networks), peer
    for peer in ("11.0.0.1", "2001:db9::1", "", "unix", "10.1.2.3, 11.0.0.1"):
        assert not belongs(peer, networks), peer
    assert not belongs("10.1.2.3", [])
