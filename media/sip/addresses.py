"""By which address of ours a peer can reach us."""

import ipaddress
import socket
from typing import Final

from media.sip.options import SipOptions

MAX_ROUTES_KNOWN: Final = 10_000  # peers whose way out of this machine is remembered

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal(host: str) -> IpAddress | None:
    """None: it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class OwnAddresses:
    def __init__(self, options: SipOptions) -> None:
        self._options = options
        self._toward: dict[str, str] = {}

    def toward(self, peer: str) -> str:
        """What the peer at this host knows us by."""
        found = self._toward.get(peer)
        if found is None:
            if len(self._toward) >= MAX_ROUTES_KNOWN:
                self._toward.clear()
            found = self._toward[peer] = self._find(peer)
        return found

    def _find(self, peer: str) -> str:
        options, address = self._options, literal(peer)
        if address is None:
            return options.public_address or self._bound()
        if options.public_address and not address.is_private:
            return options.public_address
        if not ipaddress.ip_address(options.host).is_unspecified:
            return options.host
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((peer, 9))  # sends nothing; the system chooses the way
            except OSError:
                return self._bound()
            return str(probe.getsockname()[0])

    def _bound(self) -> str:
        host = self._options.media_host or self._options.host
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
