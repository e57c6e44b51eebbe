"""linphonec: another telephone, told by its pipe what to do.

It records what it receives; a recording has its header once it is over, so a new one is begun to look into the last.
As its address it takes the machine's first, unless told of a NAT.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from media.audio import Pcm, silence
from tests.clients import audio
from tests.clients.process import LOCALHOST, PATIENCE_S, SHOWN_BYTES, Process, free_port, started

RTP_PORTS = 8
CODECS = (
    ("opus", 48000, 2),
    ("PCMU", 8000, 1),
    ("PCMA", 8000, 1),
    ("G722", 8000, 1),
    ("GSM", 8000, 1),
    ("G729", 8000, 1),
    ("speex", 32000, 1),
    ("speex", 16000, 1),
    ("speex", 8000, 1),
)
END = re.compile(r"Call \d+ with .*( error\.| ended \()")
REGISTERED = re.compile(r"moving from state \[\w+\] to \[LinphoneRegistration(Ok|Failed)\]")
ESTABLISHED = "Media streams established"
CONFIG = """\
[sip]
sip_port={port}
sip_tcp_port={port}
sip_tls_port={tls}
bind_address={host}
contact="{user}" <sip:{user}@{host}>
guess_hostname=0
use_ipv6=0
media_encryption={encryption}
media_encryption_mandatory={mandatory}
verify_server_certs={verify}
verify_server_cn=0
root_ca={trusted}
default_proxy=0
[net]
firewall_policy=1
nat_address={host}
[rtp]
audio_rtp_port={rtp}-{last_rtp}
bind_address={host}
[sound]
echocancellation=0
"""
ACCOUNT = """\
[proxy_0]
reg_proxy=<sip:{registrar};transport={transport}>
reg_identity=sip:{user}@{registrar}
reg_expires=60
reg_sendregister=1
[auth_info_0]
username={auth_user}
passwd={auth_pass}
"""


class Linphone:
    """One telephone with one account. What it tells of its calls is text, in which `told` looks."""

    def __init__(self, process: Process, uri: str, port: int) -> None:
        self.uri = uri
        """Where it is called at."""
        self.port = port
        """UDP and TCP."""
        self.process = process
        self._told = 0
        self._recorded = 0

    @property
    def log(self) -> str:
        """What it showed."""
        return self.process.log

    @property
    def trace(self) -> str:
        """Its debug log, with all SIP messages."""
        file = self.process.folder / "debug.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    async def told(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Until it shows `text`, after what was waited for before: "ringing", "is now paused", "Receiving tone 7"."""
        await self.process.until(lambda: text in self.log[self._told :], repr(text), timeout_s)
        self._told = self.log.index(text, self._told) + len(text)

    async def dial(self, uri: str, timeout_s: float = PATIENCE_S) -> None:
        """Returns when the sound goes both ways. See `command` for not waiting."""
        self.command(f"call {uri}")
        await self.told(ESTABLISHED, timeout_s)

    async def answered(self, timeout_s: float = PATIENCE_S) -> None:
        """A call that came has its sound."""
        await self.told(ESTABLISHED, timeout_s)

    async def registered(self, timeout_s: float = PATIENCE_S) -> None:
        """Its registrar has accepted it; fails at once where it did not."""
        await self.process.until(lambda: REGISTERED.search(self.trace), "its registration", timeout_s)
        outcome = REGISTERED.search(self.trace)
        assert outcome is not None
        assert outcome[1] == "Ok", f"the registrar refused:\n{self.trace[-SHOWN_BYTES:]}"

    async def ended(self, timeout_s: float = PATIENCE_S) -> None:
        """A call is over, or did not come about."""
        await self.process.until(lambda: END.search(self.log, self._told), "the end of a call", timeout_s)
        found = END.search(self.log, self._told)
        assert found is not None
        self._told = found.end()

    def key(self, key: str) -> None:
        """RFC 4733; one at a time."""
        assert len(key) == 1
        self.command(key)

    async def hold(self) -> None:
        self.command("pause")
        await self.told("is now paused")

    async def resume(self) -> None:
        self.command("resume")
        await self.told(ESTABLISHED)

    def transfer(self, uri: str) -> None:
        """Blind, by REFER."""
        self.command(f"transfer {uri}")

    def hangup(self) -> None:
        self.command("terminate")

    def command(self, line: str) -> None:
        """Any that it knows (`help`, `help advanced`)."""
        self.process.write(line)

    async def heard(self, rate_hz: int = audio.RATE_HZ) -> Pcm:
        """All that was received so far, in all calls."""
        if self._in_call():
            await self._next_recording()
        return np.concatenate([silence(rate_hz, 0), *(audio.read(file, rate_hz) for file in self._recordings())])

    async def hears(self, duration_ms: int, timeout_s: float = PATIENCE_S) -> Pcm:
        """The `duration_ms` that are received from now on, in a call."""
        begin = len(await self.heard())
        before = self._recordings()[-2]
        await self.process.until(
            lambda: audio.duration_ms(self._recordings()[-1], like=before) >= duration_ms,
            f"{duration_ms} ms of sound",
            timeout_s,
        )
        return (await self.heard())[begin:][: audio.RATE_HZ * duration_ms // 1000]

    def _in_call(self) -> bool:
        last = self._recordings()[-1]
        return last.exists() and not audio.complete(last)

    def _recordings(self) -> list[Path]:
        return [self.process.folder / f"heard-{number}.wav" for number in range(self._recorded + 1)]

    async def _next_recording(self) -> None:
        last = self._recordings()[-1]
        self._recorded += 1
        self.command(f"record heard-{self._recorded}.wav")
        await self.process.until(lambda: audio.complete(last) and self._recordings()[-1].exists(), "a recording")


@asynccontextmanager
async def linphone(
    folder: Path,
    *,
    speech: Path | None = None,
    user: str = "linphone",
    transport: str = "udp",
    codecs: Sequence[str] = ("PCMU",),
    media_encryption: str = "",
    registrar: str = "",
    auth_user: str = "",
    auth_pass: str = "",
    answers: bool = True,
    port: int | None = None,
    trusted: Path | None = None,
    config: str = "",
) -> AsyncIterator[Linphone]:
    """A telephone on 127.0.0.1 that is ready to call and be called.

    Arguments:
        speech: mono, 16-bit; said from when a call begins, and silence after it.
        transport: `udp`, `tcp` or `tls`, of what it registers; it can be called over UDP and TCP.
        codecs: names out of `CODECS`.
        media_encryption: `srtp` (SDES) or `dtls`, and then nothing else.
        registrar: `host:port`; it registers there at once (`registered`).
        answers: at once; otherwise it rings until `command("answer")`.
        trusted: a PEM file of CAs, where one must have signed the peer's certificate; names are not compared, since
            its TLS library knows of no addresses in certificates.
        config: further sections.
    """
    port = port or free_port()
    rtp = free_port(RTP_PORTS)
    text = CONFIG.format(
        host=LOCALHOST,
        port=port,
        tls=-1 if transport == "tls" else 0,
        rtp=rtp,
        last_rtp=rtp + RTP_PORTS - 1,
        user=user,
        encryption=media_encryption or "none",
        mandatory=int(bool(media_encryption)),
        verify=int(trusted is not None),
        trusted=trusted or "",
    )
    if registrar:
        text += ACCOUNT.format(
            registrar=registrar, transport=transport, user=user, auth_user=auth_user or user, auth_pass=auth_pass
        )
    for number, (mime, rate_hz, channels) in enumerate(CODECS):
        enabled = int(mime.lower() in {name.lower() for name in codecs})
        text += f"[audio_codec_{number}]\nmime={mime}\nrate={rate_hz}\nchannels={channels}\nenabled={enabled}\n"
    await asyncio.to_thread(_prepare, folder, speech, text + config)
    arguments = ["-c", "config", "-d", "6", "-l", "debug.txt", "-S"]
    async with started("linphonec", "linphone-cli", arguments, folder, pipe=True) as process:
        phone = Linphone(process, f"sip:{user}@{LOCALHOST}:{port}", port)
        await phone.told("linphonec> ")
        for line in ("soundcard use files", "play speech.wav", "record heard-0.wav"):
            phone.command(line)
            await phone.told("linphonec> ")
        if answers:
            phone.command("autoanswer enable")
            await phone.told("Auto answer enabled.")
        yield phone


def _prepare(folder: Path, speech: Path | None, config: str) -> None:
    (folder / ".local" / "share" / "linphone").mkdir(parents=True)
    audio.padded(speech, folder / "speech.wav")
    (folder / "config").write_text(config)
