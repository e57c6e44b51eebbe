"""Ports that are read together."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from media.sip.port import MAX_AT_ONCE, MediaPort, Poll

HOST = "127.0.0.1"
PACKET = bytes((0x80, 0)) + bytes(10)


class Peer:
    """A telephone, and our port that listens to it."""

    def __init__(self, poll: Poll) -> None:
        self.came: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 0))
        self.port = MediaPort(HOST, 0, 0, now_ms=lambda: 0, poll=poll)
        self.port.talk_to(HOST, self.socket.getsockname()[1], 0, mux=True)
        self.port.listen(self.received, lambda data: None)
        self.port.read(0)

    def received(self, packet: bytes, arrived_ms: int) -> bool:
        self.came.append(packet)
        return True

    def send(self, payload: bytes, times: int = 1) -> None:
        for _ in range(times):
            self.socket.sendto(PACKET + payload, (HOST, self.port.port))

    def close(self) -> None:
        self.port.close()
        self.socket.close()


@contextmanager
def peers(count: int) -> Iterator[list[Peer]]:
    poll = Poll()
    made = [Peer(poll) for _ in range(count)]
    try:
        yield made
    finally:
        for peer in made:
            peer.close()


async def test_each_port_gets_its_own_packets_in_order_when_it_asks() -> None:
    with peers(3) as (first, second, third):
        first.send(b"a")
        second.send(b"b")
        first.send(b"c")
        for peer in (second, first, third):
            peer.port.read(20)
        assert first.came == [PACKET + b"a", PACKET + b"c"]
        assert second.came == [PACKET + b"b"]
        assert third.came == []


async def test_a_flood_at_one_port_keeps_no_other_waiting_and_is_taken_in_pieces() -> None:
    with peers(2) as (flooded, quiet):
        flooded.send(b"x", MAX_AT_ONCE + 20)
        quiet.send(b"y")
        for peer in (flooded, quiet):
            peer.port.read(20)
        assert len(flooded.came) <= MAX_AT_ONCE
        assert quiet.came == [PACKET + b"y"]
        flooded.port.read(40)
        assert len(flooded.came) > MAX_AT_ONCE


async def test_ports_close_while_others_are_read() -> None:
    with peers(3) as (first, second, third):
        for peer in (first, second, third):
            peer.send(b"z")
        second.port.close()
        for peer in (first, third):
            peer.port.read(20)
        assert first.came == third.came == [PACKET + b"z"]


async def test_what_the_system_says_of_our_own_packets_is_no_packet() -> None:
    """Nobody is there any more: the error comes back by the socket."""
    with peers(1) as (peer,):
        peer.socket.close()
        for now_ms in (20, 40):
            peer.port.send(PACKET)
            peer.port.read(now_ms)
        assert peer.came == []
