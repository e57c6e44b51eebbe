"""sipp: calls as a scenario file has them, message by message, one or hundreds.

Version 3.6.1 as Debian has it: UDP and TCP without TLS, one RTP port for all calls of a run.
"""

import asyncio
import csv
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from media.audio import pcm_to_ulaw
from tests.clients import audio
from tests.clients.process import LOCALHOST, PATIENCE_S, Process, free_port, started

SCENARIOS = Path(__file__).parent / "scenarios"
TIMEOUT_S = 30.0
STOP_S = 5.0  # for sipp's own timeout, before ours
DURATION_MS = 500
RATE_HZ = 8000
TONE_HZ = 440
SHOWN_BYTES = 3000
KEYS = {"session_expires": "90", "refer_to": f"sip:nobody@{LOCALHOST}", "redirect_to": f"sip:nobody@{LOCALHOST}"}
TOLERANT = {"retransmissions", "refer"}
"""In these a message may come just when sipp is about to send: it is to be ignored, since it comes again."""
MESSAGE = re.compile(r"^-{20,} [\d-]+[ \t]+([\d:.]+).*\n\w+ message (sent|received) [(\[].*\n\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Message:
    """A SIP message as it went over the wire."""

    sent: bool
    at: str
    """Time of day."""
    text: str

    @property
    def start(self) -> str:
        return self.text.partition("\n")[0].strip()

    @property
    def method(self) -> str:
        """Of the request, or of the one that this answers."""
        found = re.search(r"^CSeq:\s*\d+\s+(\w+)", self.text, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Result:
    """What is left of a run that went well: all calls as the scenario has them."""

    statistics: Mapping[str, str]
    """The last row of its statistics; `SuccessfulCall(C)`, `Retransmissions(C)`..."""
    messages: tuple[Message, ...]
    """In the order of the wire, retransmissions included. Empty without `trace`."""
    folder: Path

    @property
    def successful(self) -> int:
        return int(self.statistics["SuccessfulCall(C)"])

    def received(self, start: str, method: str = "") -> list[Message]:
        """Messages whose first line begins so: `received("SIP/2.0 200", "INVITE")`."""
        return self._those(start, method, sent=False)

    def sent(self, start: str, method: str = "") -> list[Message]:
        return self._those(start, method, sent=True)

    def _those(self, start: str, method: str, *, sent: bool) -> list[Message]:
        return [
            message
            for message in self.messages
            if message.sent is sent and message.start.startswith(start) and method in ("", message.method)
        ]


class Sipp:
    """A running sipp."""

    def __init__(self, process: Process, port: int, media_port: int, timeout_s: float) -> None:
        self.process = process
        self.port = port
        self.media_port = media_port
        self.uri = f"sip:service@{LOCALHOST}:{port}"
        self._timeout_s = timeout_s

    @property
    def messages(self) -> tuple[Message, ...]:
        """So far."""
        return _messages(self.process.folder / "messages.txt")

    async def seen(self, start: str, timeout_s: float = PATIENCE_S) -> None:
        """Until a message came or went whose first line begins so."""
        await self.process.until(
            lambda: any(message.start.startswith(start) for message in self.messages), repr(start), timeout_s
        )

    async def result(self) -> Result:
        """At the end. Fails unless all calls went as the scenario has them."""
        try:
            status = await self.process.ended(self._timeout_s + STOP_S)
        except TimeoutError:
            status = -1
        folder = self.process.folder
        if status != 0:
            errors = _text(folder / "errors.txt")[-SHOWN_BYTES:]
            last = "\n".join(f"{'>' if message.sent else '<'} {message.start}" for message in self.messages[-20:])
            raise AssertionError(f"sipp ended with {status}\n{errors or self.process.tail()}\n{last}")
        with (folder / "statistics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        return Result(rows[-1], self.messages, folder)


@asynccontextmanager
async def running(
    scenario: Path | str,
    folder: Path,
    *,
    target: str = "",
    calls: int = 1,
    rate: float = 10,
    limit: int | None = None,
    transport: str = "u1",
    user: str = "service",
    auth: tuple[str, str] | None = None,
    speech: Path | None = None,
    media: bool = True,
    echo: bool = False,
    duration_ms: int = DURATION_MS,
    keys: Mapping[str, str] | None = None,
    port: int | None = None,
    trace: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Sipp]:
    """sipp at work, as caller, or without `target` as callee, for `calls` calls.

    Arguments:
        scenario: a file, or the name of one in `scenarios`.
        folder: it gets one of its own within.
        target: `host:port`, where everything is sent to.
        rate: new calls a second; `limit` is how many may stand at once.
        transport: `u1` or `t1` (one socket), `un` or `tn` (one for each call).
        user: who is called.
        auth: name and password, for a challenge.
        speech: mono, 16-bit; said again and again. A tone without it, silence with `media=False`.
        echo: RTP that comes goes back.
        duration_ms: of a scenario's pauses that have no length of their own.
        keys: what stands in brackets in the scenario.
        trace: keep all messages; not for many calls.
    """
    port = port or free_port()
    media_port = free_port(4)
    path = SCENARIOS / f"{scenario}.xml" if isinstance(scenario, str) else scenario
    own = folder / f"sipp-{path.stem}-{port}"
    await asyncio.to_thread(_prepare, own, path, speech, media)
    arguments = [
        *([target] if target else []),
        *("-sf", str(path.resolve()), "-m", str(calls), "-r", f"{rate:g}", "-t", transport, "-s", user),
        *("-i", LOCALHOST, "-p", str(port), "-mi", LOCALHOST, "-mp", str(media_port), "-cp", str(free_port())),
        *("-d", str(duration_ms), "-timeout", f"{timeout_s:g}s", "-timeout_error", "-nostdin"),
        *("-trace_stat", "-stf", "statistics.csv", "-trace_err", "-error_file", "errors.txt"),
        *(["-trace_msg", "-message_file", "messages.txt"] if trace else []),
        *(["-l", str(limit)] if limit else []),
        *(["-au", auth[0], "-ap", auth[1]] if auth else []),
        *(["-rtp_echo"] if echo else []),
        *(["-default_behaviors", "all,-abortunexp"] if path.stem in TOLERANT else []),
    ]
    for name, value in {**KEYS, **(keys or {})}.items():
        arguments += ["-key", name, value]
    async with started("sipp", "sip-tester", arguments, own) as process:
        if not target:
            await process.until(lambda: _bound(port, transport), f"port {port}")
        yield Sipp(process, port, media_port, timeout_s)


async def sipp(
    scenario: Path | str,
    target: str,
    folder: Path,
    *,
    calls: int = 1,
    rate: float = 10,
    limit: int | None = None,
    transport: str = "u1",
    user: str = "service",
    auth: tuple[str, str] | None = None,
    speech: Path | None = None,
    media: bool = True,
    echo: bool = False,
    duration_ms: int = DURATION_MS,
    keys: Mapping[str, str] | None = None,
    trace: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> Result:
    """Runs a caller's scenario to its end; arguments as of `running`. Fails unless all calls went well."""
    async with running(
        scenario,
        folder,
        target=target,
        calls=calls,
        rate=rate,
        limit=limit,
        transport=transport,
        user=user,
        auth=auth,
        speech=speech,
        media=media,
        echo=echo,
        duration_ms=duration_ms,
        keys=keys,
        trace=trace,
        timeout_s=timeout_s,
    ) as caller:
        return await caller.result()


def needs_raw_socket() -> None:
    """Skips a test with `rfc4733_dtmf` or a capture file where sipp may not send them."""
    if os.geteuid() != 0:
        pytest.skip("sipp sends captured packets by a raw socket, for which it must be root")


def _prepare(folder: Path, scenario: Path, speech: Path | None, media: bool) -> None:
    assert scenario.is_file(), f"no scenario {scenario}"
    folder.mkdir(parents=True)
    if speech is not None:
        pcm = audio.read(speech, RATE_HZ)
    else:
        pcm = audio.tone(TONE_HZ, 10_000, RATE_HZ, level=8000 if media else 0)
    (folder / "speech.ulaw").write_bytes(pcm_to_ulaw(pcm))


def _bound(port: int, transport: str) -> bool:
    """The kernel's table has a socket there (proc(5), /proc/net)."""
    table = Path("/proc/net/udp" if transport.startswith("u") else "/proc/net/tcp").read_text()
    return f":{port:04X} " in table


def _messages(file: Path) -> tuple[Message, ...]:
    pieces = MESSAGE.split(_text(file))
    return tuple(
        Message(way == "sent", at, text.strip())
        for at, way, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)
    )


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
