"""baresip: a telephone with G.711, G.722, Opus, TLS and SRTP, told by JSON over TCP what to do.

It records both directions itself (module sndfile); `-dec` in a file's name is what it received. Two traps of 1.0.0:
the recording of what it received ends at the first hold, unless the recording of what it sends cannot be opened,
and a file's name has the second in it, so that a hold within the second of an earlier file writes over that.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from media.audio import Pcm, silence
from tests.clients import audio
from tests.clients.process import LOCALHOST, PATIENCE_S, POLL_S, Process, free_port, started

KEY_S = 0.3  # a key and the pause after it: RFC 4733 packets of 180 ms and three for the end
RECORDED_S = 600  # from the start, for which no recording of what is sent can be opened
RTP_PORTS = 16  # four calls at once, and room to choose
MODULES = ("g711", "g722", "opus", "aufile", "aubridge", "sndfile", "srtp", "dtls_srtp")
PATHS = ("/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules", "/usr/lib64/baresip/modules")
CONFIG = """\
sip_listen {host}:{port}
net_interface {host}
rtp_ports {rtp}-{last_rtp}
module_path {modules}
audio_player aubridge,nowhere
audio_alert aubridge,bell
audio_source aufile,speech.wav
ausrc_srate {rate_hz}
ausrc_channels 1
auplay_channels 1
jitter_buffer_delay 0-0
opus_stereo no
opus_sprop_stereo no
snd_path heard
statmode_default off
call_local_timeout 300
ctrl_tcp_listen {host}:{control}
"""

Event = dict[str, Any]


class Control(asyncio.Protocol):
    """ctrl_tcp: netstrings with one JSON object each, commands one way, responses and events the other way."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.responses: dict[str, Event] = {}
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (at := self._rest.find(b":")) >= 0:
            end = at + 1 + int(self._rest[:at])
            if len(self._rest) <= end:
                return
            message = json.loads(self._rest[at + 1 : end])
            self._rest = self._rest[end + 1 :]
            if message.get("event"):
                self.events.append(message)
            else:
                self.responses[message["token"]] = message

    def send(self, command: str, params: str, token: str) -> None:
        assert self._transport is not None
        data = json.dumps({"command": command, "params": params, "token": token}).encode()
        self._transport.write(b"%d:%s," % (len(data), data))


class Baresip:
    """One telephone with one account. Events come in order; each is given once by `event`."""

    def __init__(self, process: Process, control: Control, uri: str, port: int) -> None:
        self.uri = uri
        """Where it is called at, its transport included."""
        self.port = port
        """UDP and TCP; TLS is one above."""
        self.process = process
        self.events = control.events
        """All that came so far, as ctrl_tcp gives them: `type`, `param`, `peeruri`, `id`..."""
        self._control = control
        self._given: Counter[str] = Counter()
        self._tokens = 0
        self._said = 0

    @property
    def log(self) -> str:
        """With all SIP messages, both ways."""
        return self.process.log

    async def dial(self, uri: str, timeout_s: float = PATIENCE_S) -> None:
        """Returns when the call is answered, fails when it is refused. `command("dial", uri)` waits for neither.

        Its event, and all earlier ones of that kind, are then given already.
        """
        begin = len(self.events)
        await self.command("dial", uri)
        await self._until(lambda: self._outcome(begin) is not None, f"an answer of {uri}", timeout_s)
        outcome = self._outcome(begin)
        assert outcome is not None
        self._given[outcome["type"]] = self._seen(outcome["type"])
        if outcome["type"] == "CALL_CLOSED":
            raise AssertionError(f"{uri} did not answer: {outcome.get('param')}\n{self.process.tail()}")

    async def key(self, keys: str) -> None:
        """One key after the other, as RFC 4733 or as the account's `dtmfmode` says."""
        for one in keys:
            await self.command("sndcode", one)
            await asyncio.sleep(KEY_S)  # no event tells the end of a key

    async def hold(self) -> None:
        await self._another_second()
        await self.command("hold")

    async def resume(self) -> None:
        await self._another_second()
        await self.command("resume")

    async def transfer(self, uri: str) -> None:
        """Blind, by REFER."""
        await self.command("transfer", uri)

    async def hangup(self) -> None:
        await self.command("hangup")

    async def say(self, speech: Path) -> None:
        """From now on, instead of what is being said; in a call only. The rate must be that of the first speech."""
        self._said += 1
        name = f"speech-{self._said}.wav"
        await asyncio.to_thread(audio.padded, speech, self.process.folder / name)
        await self.command("ausrc", f"aufile,{name}")

    def heard(self, rate_hz: int = audio.RATE_HZ) -> Pcm:
        """All that was received so far, also while the call goes on. Nothing stands for what did not come."""
        return np.concatenate([silence(rate_hz, 0), *(audio.read(file, rate_hz) for file in self._recordings())])

    @property
    def heard_ms(self) -> int:
        """How much `heard` would give."""
        return sum(audio.duration_ms(file) for file in self._recordings())

    async def hears(self, duration_ms: int, timeout_s: float = PATIENCE_S) -> Pcm:
        """The `duration_ms` that are received from now on."""
        begin_ms = self.heard_ms
        end_ms = begin_ms + duration_ms
        await self._until(lambda: self.heard_ms >= end_ms, f"{duration_ms} ms of sound", timeout_s)
        return self.heard()[audio.RATE_HZ * begin_ms // 1000 : audio.RATE_HZ * end_ms // 1000]

    async def event(self, kind: str, timeout_s: float = PATIENCE_S) -> Event:
        """The next of its kind that was not yet given: CALL_ESTABLISHED, CALL_CLOSED, CALL_DTMF_START, REGISTER_OK...

        The kinds are those of `uag_event_str` in baresip's `src/event.c`.
        """
        await self._until(lambda: self._seen(kind) > self._given[kind], kind, timeout_s)
        self._given[kind] += 1
        return [event for event in self.events if event["type"] == kind][self._given[kind] - 1]

    async def command(self, name: str, params: str = "") -> str:
        """Any command of its menu; what it answers. Fails where it refuses."""
        self._tokens += 1
        token = str(self._tokens)
        self._control.send(name, params, token)
        await self._until(lambda: token in self._control.responses, f"the response to {name}", PATIENCE_S)
        response = self._control.responses.pop(token)
        assert response["ok"], f"{name} {params}: {response['data']}\n{self.process.tail()}"
        return str(response["data"])

    def _outcome(self, begin: int) -> Event | None:
        """Of a call that was dialled after `begin` events."""
        return next(
            (
                event
                for event in self.events[begin:]
                if event["type"] in ("CALL_ESTABLISHED", "CALL_CLOSED") and event["direction"] == "outgoing"
            ),
            None,
        )

    def _seen(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.events)

    async def _until(self, true: Callable[[], bool], what: str, timeout_s: float) -> None:
        await self.process.until(true, f"{what} (had {[event['type'] for event in self.events]})", timeout_s)

    async def _another_second(self) -> None:
        while self._recordings() and _second_of(time.time()) in self._recordings()[-1].name:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    def _recordings(self) -> list[Path]:
        return sorted((self.process.folder / "heard").glob("*-dec.wav"))


@asynccontextmanager
async def baresip(
    folder: Path,
    *,
    speech: Path | None = None,
    user: str = "phone",
    transport: str = "udp",
    codecs: Sequence[str] = ("PCMU",),
    media_encryption: str = "",
    registrar: str = "",
    auth_user: str = "",
    auth_pass: str = "",
    outbound: str = "",
    answers: bool = True,
    port: int | None = None,
    certificate: Path | None = None,
    trusted: Path | None = None,
    account: str = "",
    config: str = "",
) -> AsyncIterator[Baresip]:
    """A telephone on 127.0.0.1 that is ready to call and be called.

    Arguments:
        speech: mono, 16-bit, 8, 16 or 48 kHz; said from when a call begins, and silence after it.
        transport: `udp`, `tcp` or `tls`, of what it registers and how it says that it is reached.
        codecs: with the rate where there is a choice, the dearest first: `opus/48000/2`, `G722/16000/1`, `PCMA`.
        media_encryption: `srtp` (SDES), `srtp-mand`, `srtp-mandf` or `dtls_srtp`.
        registrar: `host:port`; it registers there at once (events REGISTER_OK and REGISTER_FAIL).
        outbound: the proxy for all it sends, as `sip:host:port;transport=tcp`.
        answers: at once; otherwise it rings until `command("accept")`.
        certificate: a PEM file with key and certificate, to be called over TLS.
        trusted: a PEM file of CAs: without it a peer's certificate is not looked at.
        account: further parameters, each begun with `;` (`;dtmfmode=info`, `;ptime=40`, `;sipnat=outbound`).
        config: further lines.
    """
    port = port or free_port(2)
    control = free_port()
    lines = (f"sip_certificate {certificate}\n" if certificate else "") + (f"sip_cafile {trusted}\n" if trusted else "")
    await asyncio.to_thread(_prepare, folder, speech, port, control, lines + config)
    parameters = {
        "regint": "60" if registrar else "0",
        "answermode": "auto" if answers else "manual",
        "audio_codecs": ",".join(codecs),
        "mediaenc": media_encryption,
        "auth_user": auth_user,
        "auth_pass": auth_pass,
        "outbound": f'"{outbound}"' if outbound else "",
    }
    domain = registrar or f"{LOCALHOST}:{port + (transport == 'tls')}"
    given = "".join(f";{name}={value}" for name, value in parameters.items() if value)
    uri = f"sip:{user}@{LOCALHOST}:{port + (transport == 'tls')};transport={transport}"
    async with started("baresip", "baresip-core", ["-v", "-s", "-f", "."], folder) as process:
        await process.says("baresip is ready.")
        loop = asyncio.get_running_loop()
        connection, listener = await loop.create_connection(Control, LOCALHOST, control)
        try:
            phone = Baresip(process, listener, uri, port)
            # Not from the file: it would register before anybody listens to its events.
            await phone.command("uanew", f"<sip:{user}@{domain};transport={transport}>{given}{account}")
            yield phone
        finally:
            connection.close()


def _prepare(folder: Path, speech: Path | None, port: int, control: int, lines: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rate_hz = audio.padded(speech, folder / "speech.wav")
    rtp = free_port(RTP_PORTS)
    modules = next((path for path in PATHS if Path(path).is_dir()), PATHS[0])
    (folder / "config").write_text(
        CONFIG.format(
            host=LOCALHOST,
            port=port,
            control=control,
            rtp=rtp,
            last_rtp=rtp + RTP_PORTS - 1,
            rate_hz=rate_hz,
            modules=modules,
        )
        + "".join(f"module {name}.so\n" for name in MODULES)
        + "module_app account.so\nmodule_app menu.so\nmodule ctrl_tcp.so\n"
        + lines
    )
    (folder / "accounts").touch()
    _no_recording_of_what_is_sent(folder / "heard")


def _second_of(time_s: float) -> str:
    now = time.gmtime(time_s)
    return f"{now.tm_year}-{now.tm_mon:02}-{now.tm_mday:02}-{now.tm_hour:02}-{now.tm_min:02}-{now.tm_sec:02}"


def _no_recording_of_what_is_sent(heard: Path) -> None:
    """A folder stands wherever such a file would (see the module)."""
    heard.mkdir()
    begin_s = time.time()
    for second in range(-1, RECORDED_S):
        (heard / f"dump-{_second_of(begin_s + second)}-enc.wav").mkdir()
