"""Which addresses a flow's tools may reach. Asked for every socket, so a name that changes its address gains nothing.

Sources: the IANA special-purpose address registries (RFC 6890), RFC 6598 (100.64.0.0/10), the IANA IPv6 address space
registry (only 2000::/3 is given out as global unicast), and the cloud vendors' pages on instance metadata.
"""

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16"))
)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
BROADCAST = IPv4Address("255.255.255.255")
GLOBAL_UNICAST = IPv6Network("2000::/3")
UNIQUE_LOCAL = IPv6Network("fc00::/7")
SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))
"""RFC 6890, RFC 7526 and RFC 9637: some versions of `ipaddress` take them for global."""

Address = IPv4Address | IPv6Address
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class AddressForbidden(OSError):
    """An `OSError`, so that the next address of the name is tried, with an errno that survives being combined."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "this address is not admitted")


def admitted(text: str, *, private: bool) -> bool:
    """Whether a numeric address may be reached; `private` is for hosts that the flow allows.

    Even for those, link-local, metadata and multicast addresses stay closed: no tool lives there.
    """
    try:
        address = _unwrap(ip_address(text))
    except ValueError:
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address in METADATA or address == BROADCAST:
        return False
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return private and (address.is_loopback or address in UNIQUE_LOCAL)
    return private or (address.is_global and not any(address in network for network in SPECIAL))


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if any."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def public_socket(info: AddrInfo) -> socket.socket:
    """A socket for this address, made just before it connects. Raises `AddressForbidden`."""
    return _socket(info, private=False)


def private_socket(info: AddrInfo) -> socket.socket:
    """The same for hosts that the flow allows."""
    return _socket(info, private=True)


def _socket(info: AddrInfo, *, private: bool) -> socket.socket:
    family, kind, proto, _, address = info
    if not admitted(str(address[0]), private=private):
        raise AddressForbidden
    return socket.socket(family, kind, proto)


def allows(entries: Iterable[str], host: str, port: int) -> bool:
    """Whether one of the entries (a host, host:port or a URL) names this host, and this port if it names one."""
    return any(_matches(entry.strip(), _plain(host), port) for entry in entries)


def _matches(entry: str, host: str, port: int) -> bool:
    try:
        return _plain(str(ip_address(entry))) == host
    except ValueError:
        pass
    try:
        parts = urlsplit(entry if "://" in entry else f"//{entry}")
        wanted = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return False
    return bool(parts.hostname) and _plain(parts.hostname or "") == host and wanted in (None, port)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
