"""What a call needs besides CPU and memory: network, disk, records, file descriptors and UDP ports.

`python -m tests.bench.sizing [--calls 20] [--hold 20]`. Network is what the loopback interface carried, so nothing else
may use it meanwhile; `unshare -n sh -c 'ip link set lo up; python -m tests.bench.sizing'` has one for itself. Printed,
never asserted.
"""

import argparse
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from app.load import figures, scenario
from app.load.dial import Dial
from app.load.record import Record
from app.load.run import Moment, Plan, Run
from app.main import JOURNAL_FILE
from tests.bench import machine
from tests.bench.server import Server, running
from tests.bench.sip import free_port

SCENARIO: Final = "talk"
ETHERNET_BYTES: Final = 14  # that loopback counts for each packet
ADDRESSES: Final = {
    "plain, 16 kHz": "ws://{at}/ws/audio",
    "Twilio": "ws://{at}/ws/twilio",
    "SIP G.711": "sip:talk@127.0.0.1:{sip_port}",
    "WebRTC Opus": "http://{at}/webrtc",
}


@dataclass(frozen=True, slots=True)
class Need:
    """Of one call."""

    kbit_per_s: float  # both ways, with the headers of IP, UDP and TCP and TCP's acknowledgements
    packets_per_s: float
    records_per_s: float
    disk_mb_per_h: float
    files: float
    udp_ports: float


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    up: int
    bytes: int
    packets: int
    files: int
    udp: int


class Watch:
    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.looks: list[_Look] = []

    def note(self, moment: Moment | None) -> None:
        carried, packets = _loopback()
        at_s, up = (moment.at_s, moment.up) if moment is not None else (0.0, 0)
        self.looks.append(_Look(at_s, up, carried, packets, _files(self._pid), _udp(self._pid)))


def measure(address: str, calls: int, hold_s: float) -> Need:
    sip_port = free_port()
    limits = {"MAX_CALLS": 2 * calls, "MAX_CALLS_PER_ADDRESS": 2 * calls, "SIP_PORT": sip_port}
    extra = {f"VOICEGATE_{name}": str(value) for name, value in limits.items()}
    with running(extra=extra) as server:
        watch = Watch(server.pid)
        watch.note(None)
        store = server.data / JOURNAL_FILE
        empty_bytes = _checkpointed(store)
        record = uvloop.run(_play(address, server, sip_port, calls, hold_s, watch))
        grown_bytes, records = _checkpointed(store) - empty_bytes, _records(store)
    seconds = figures.summary(record.calls).call_seconds
    first, *looks = watch.looks
    most = max(look.up for look in looks)
    full = [look for look in looks if look.up == most]
    begun, ended = full[0], full[-1]
    passed_s = (ended.at_s - begun.at_s) * most
    return Need(
        kbit_per_s=(ended.bytes - begun.bytes) * 8 / 1000 / passed_s,
        packets_per_s=(ended.packets - begun.packets) / passed_s,
        records_per_s=records / seconds,
        disk_mb_per_h=grown_bytes / 1e6 / seconds * 3600,
        files=(ended.files - first.files) / most,
        udp_ports=(ended.udp - first.udp) / most,
    )


async def _play(address: str, server: Server, sip_port: int, calls: int, hold_s: float, watch: Watch) -> Record:
    plan = Plan(
        dial=Dial(address.format(at=f"{server.host}:{server.port}", sip_port=sip_port)),
        scenarios=(scenario.find(SCENARIO),),
        names=(SCENARIO,),
        calls=calls,
        ramp_per_s=20,
        hold_s=hold_s,
        cache=Path(tempfile.gettempdir()) / "voicegate-bench-sounds",
    )
    return await Run(plan, watch.note).run()


def _loopback() -> tuple[int, int]:
    """Bytes of IP packets, and packets, so far."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    carried, packets = (int(word) for word in line.partition(":")[2].split()[:2])
    return carried - ETHERNET_BYTES * packets, packets


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _udp(pid: int) -> int:
    """Sockets of the process that are UDP's."""
    ours = {_link(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    lines = [line.split() for name in ("udp", "udp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return sum(f"socket:[{line[9]}]" in ours for line in lines)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _checkpointed(store: Path) -> int:
    """Its size with all that was written."""
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store.stat().st_size


def _records(store: Path) -> int:
    with sqlite3.connect(store) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def show(out: Console, found: dict[str, Need]) -> None:
    table = Table("a call", *found, box=None)
    rows: Sequence[tuple[str, str, int]] = (
        ("network, kbit/s, both ways", "kbit_per_s", 0),
        ("packets a second, both ways", "packets_per_s", 0),
        ("records a second", "records_per_s", 1),
        ("disk, MB an hour", "disk_mb_per_h", 1),
        ("file descriptors", "files", 1),
        ("UDP ports", "udp_ports", 1),
    )
    for words, name, digits in rows:
        table.add_row(words, *(f"{getattr(need, name):.{digits}f}" for need in found.values()))
    out.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sizing", description=__doc__)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--hold", type=float, default=20.0, help="seconds")
    given = parser.parse_args()
    os.chdir(Path(__file__).parents[2])
    out = Console(highlight=False, width=max(100, Console().width))
    machine.take_turn()
    machine.pin(os.getpid(), machine.LOAD_CORE)
    machine.prefer(os.getpid())
    for line in machine.describe():
        out.print(line)
    show(out, {name: measure(address, given.calls, given.hold) for name, address in ADDRESSES.items()})


if __name__ == "__main__":
    main()
