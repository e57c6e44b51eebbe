"""Opens the sockets of one leg's RTP and RTCP (RFC 3550, 11)."""

import socket
import sys
from typing import Final

PORT_TRIES: Final = 100
RECEIVE_BUFFER_BYTES: Final = 64 * 1024

_SO_TIMESTAMPNS: Final = 35  # Linux: the kernel notes when a packet came; Python has no name for it


class NoPort(OSError):
    """No pair of ports is free."""


def open_pair(host: str, first_port: int, last_port: int, start: int) -> tuple[socket.socket, socket.socket]:
    """An even port for RTP and the next one for RTCP, out of a range; the system chooses where `last_port` is 0.

    `start`: where in the range the search begins. Raises `NoPort`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    evens = range(first_port + first_port % 2, last_port, 2) if last_port else range(0)
    for attempt in range(PORT_TRIES if not last_port else len(evens)):
        port = evens[(start + attempt) % len(evens)] if last_port else 0
        rtp, rtcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((host, port))
            port = rtp.getsockname()[1]
            if port % 2 or port == 65535:
                raise OSError("odd")
            rtcp.bind((host, port + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        for one in (rtp, rtcp):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if sys.platform == "linux":
            rtp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        return rtp, rtcp
    raise NoPort("no UDP port is free for media")
