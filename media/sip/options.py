"""What SIP is told once, at the start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from media.sip.auth import Credentials
from media.sip.message import Written, uri_of
from media.sip.negotiation import DEFAULT_CODECS, Keying, Security
from media.source import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """A provider or PBX through which numbers are called."""

    name: str
    uri: Written  # such as sip:provider.example;transport=tcp
    credentials: Credentials | None = None
    caller: str = ""  # the number that calls show
    register: bool = False
    keying: Keying | None = None  # what our calls there offer; None: as for everybody

    @property
    def place(self) -> str:
        """Host, port and parameters."""
        return str(self.uri).partition(":")[2].rpartition("@")[2]

    @property
    def account(self) -> Written:
        user = self.credentials.user if self.credentials is not None else self.caller
        return uri_of(f"{self.uri.scheme}:{user}@{self.place}" if user else str(self.uri))


@dataclass(frozen=True, slots=True, kw_only=True)
class SipOptions:
    """Where it listens, who may call, and what is spoken."""

    host: str = "127.0.0.1"
    port: int = 5060  # UDP and TCP; 0: the system chooses
    tls_port: int = 5061
    tls_certificate: Path | None = None  # PEM, with its chain; None: no TLS
    tls_key: Path | None = None
    tls_authorities: Path | None = None  # who vouches for others; None: the system's
    media_host: str = ""
    public_address: str = ""  # what peers beyond a one-to-one NAT know us by
    media_ports: tuple[int, int] = (0, 0)
    allow: Sequence[Network] = ()
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # passwords
    realm: str = "voicegate"
    digests: Sequence[str] = ("MD5",)  # the strongest first
    codecs: Sequence[str] = DEFAULT_CODECS
    security: Security = Security.optional
    ring_ms: int = 0  # before the answer
    trunks: Sequence[Trunk] = ()
