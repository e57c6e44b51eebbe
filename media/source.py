"""Whose connection it is: the address that limits count by, and the header lines that say so."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

MAX_NAME_CHARS: Final = 64  # of a peer that has no address, such as a Unix socket
IPV6_SITE_BITS: Final = 64  # a customer has at least that network (RFC 6177), so it counts as one address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def field_values(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header lines as one value for each name, the names in lower case.

    Several lines of one name are one list (RFC 9110, 5.3). So none is overlooked, and what has to be a single value
    fits nothing when it comes twice.
    """
    values: dict[str, list[str]] = {}
    for name, value in lines:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {name: ", ".join(several) for name, several in values.items()}


def source(peer: str, headers: Mapping[str, str], proxies: Sequence[Network]) -> str:
    """The address that limits count by: the peer's own, or the client's whom `proxies` name in `X-Forwarded-For`.

    Each proxy puts whom it heard from at the end, so the list is believed from there as far as proxies wrote it.
    """
    address = _address(peer)
    if address is None:
        return peer[:MAX_NAME_CHARS]
    said = headers.get("x-forwarded-for", "").split(",")
    while said and any(address in network for network in proxies):
        further = _address(said.pop())
        if further is None:
            break
        address = further
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, IPV6_SITE_BITS), strict=False))
    return str(address)


def belongs(peer: str, networks: Sequence[Network]) -> bool:
    """Whether this address is in one of them."""
    address = _address(peer)
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
