"""Settings: `VOICEGATE_*` variables over an optional TOML file over the defaults. Every limit has a name and a unit.

Nothing here reads the process's environment by itself: `app.main` hands it in.
"""

import difflib
import hashlib
import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from app.core.events import DRAIN
from flows import patterns
from flows.values import MAX_PATTERN_VALUE_CHARS

PREFIX = "VOICEGATE_"
CONFIG_VARIABLE = "VOICEGATE_CONFIG"
DEFAULT_FILE = Path("voicegate.toml")
MAX_FILE_BYTES = 1024 * 1024
MIN_TOKEN_CHARS = 16
MIN_PASSWORD_CHARS = 10
OPTIONS = {"sip_port": "sip"}  # of `voicegate serve`, where its name is not the setting's


class SettingsError(Exception):
    """What is wrong with the settings, one line for each problem. It names variables and keys, never secret values."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(Exception):
    """The server cannot start as it is set up; `str()` is one clear line."""


class Role(StrEnum):
    viewer = "viewer"  # looks
    operator = "operator"  # looks and acts on calls
    admin = "admin"  # everything

    def covers(self, needed: "Role") -> bool:
        ranks = tuple(Role)
        return ranks.index(self) >= ranks.index(needed)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Token(_Part):
    """A bearer token: either itself or its SHA-256, which `printf %s TOKEN | sha256sum` gives."""

    name: str = Field(pattern=r"^[\w.@-]{1,64}$")
    role: Role
    token: SecretStr | None = None
    token_hash: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.name == DRAIN:
            raise ValueError(f"name must not be {DRAIN}: as such the server itself hangs up")
        if (self.token is None) == (self.token_hash is None):
            raise ValueError("needs either token or token_hash")
        if self.token is not None:
            text = self.token.get_secret_value()
            if len(text) < MIN_TOKEN_CHARS or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError(f"token must have at least {MIN_TOKEN_CHARS} printable ASCII characters and no space")
        return self

    def digest(self) -> bytes:
        """SHA-256 of the token."""
        if self.token_hash is not None:
            return bytes.fromhex(self.token_hash)
        assert self.token is not None
        return hashlib.sha256(self.token.get_secret_value().encode()).digest()


class Route(_Part):
    """Which flow answers: by the called number, the SIP user, or a regular expression over the whole of either."""

    flow: str = Field(min_length=1, max_length=200)
    called: str = Field(default="", max_length=100)
    user: str = Field(default="", max_length=100)
    pattern: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(map(bool, (self.called, self.user, self.pattern))) != 1:
            raise ValueError("needs exactly one of called, user and pattern")
        try:
            patterns.steps(self.pattern)
        except patterns.PatternError as error:
            raise ValueError(f"pattern {error}") from None
        return self

    def matches(self, called: str, user: str = "") -> bool:
        if self.pattern:
            names = (name for name in (called, user) if 0 < len(name) <= MAX_PATTERN_VALUE_CHARS)
            return any(re.fullmatch(self.pattern, name) for name in names)
        return bool(self.called and self.called == called) or bool(self.user and self.user == user)


class SipUser(_Part):
    """Somebody who may call by SIP from anywhere."""

    user: str = Field(pattern=r"^[\w.@+-]{1,64}$")
    password: SecretStr

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if len(self.password.get_secret_value()) < MIN_PASSWORD_CHARS:
            raise ValueError(f"password must have at least {MIN_PASSWORD_CHARS} characters: SIP ports are scanned")
        return self


class SipTrunk(_Part):
    """A provider or PBX through which numbers are called."""

    name: str = Field(pattern=r"^[\w.@-]{1,64}$")
    uri: str  # such as sip:provider.example;transport=tcp
    user: str = Field(default="", max_length=100)
    password: SecretStr = SecretStr("")
    caller: str = Field(default="", pattern=r"^[+\w.*#-]{0,64}$")  # the number that calls show
    register_: bool = Field(default=False, alias="register")  # so that its calls come to us
    srtp: Literal["none", "sdes", "dtls"] | None = None  # what our calls offer; None: as `sip_srtp` says

    @field_validator("uri")
    @classmethod
    def _a_host(cls, value: str) -> str:
        if not re.fullmatch(r"sips?:[^\s@<>]{1,200}", value):
            raise ValueError("must be sip: or sips: and a host, such as sip:provider.example.com;transport=tcp")
        return value

    @model_validator(mode="after")
    def _keys_are_hidden(self) -> Self:
        scheme, _, place = self.uri.lower().partition(":")
        if self.srtp == "sdes" and scheme != "sips" and "transport=tls" not in place.split(";")[1:]:
            raise ValueError("srtp: sdes puts keys into the signalling: the uri needs ;transport=tls or sips:")
        return self


class IceServer(_Part):
    """A STUN or TURN server, as browsers know it (W3C WebRTC, RTCIceServer)."""

    urls: Annotated[tuple[Annotated[str, Field(pattern=r"^(stun|turn)s?:\S{1,300}$")], ...], Field(min_length=1)]
    username: str = Field(default="", max_length=500)
    credential: SecretStr = SecretStr("")


def _listed(value: object) -> object:
    """A list from a variable: JSON, or plain names with commas between them."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [part for part in map(str.strip, value.split(",")) if part]
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is not valid JSON") from None


def _structured(value: object) -> object:
    if isinstance(value, str) and value.strip() and not value.lstrip().startswith("["):
        raise ValueError("must be a JSON list of objects")
    return _listed(value)


def _mapped(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a JSON object") from None


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        plain = parts.hostname and parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        plain = False
    if not plain or parts.scheme not in ("http", "https"):
        raise ValueError("must be an address such as https://voice.example.com")
    return value.rstrip("/")


def _public_address(value: str) -> str:
    if value and urlsplit(_web_address(value)).path.strip("/"):
        raise ValueError("must have no path: an address such as https://voice.example.com")
    return value.rstrip("/")


def _origin(value: str) -> str:
    return _public_address(value).lower()


def _network(value: object) -> object:
    """Says what is meant where an address with its mask stands for its network."""
    if not isinstance(value, str):
        return value
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or a network such as 192.168.1.0/24") from None
    if "/" in value and ipaddress.ip_interface(value).ip != meant.network_address:
        raise ValueError(f"is an address within a network: write {meant} for all of it")
    return value


def _address(value: str) -> str:
    if value:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address") from None
    return value


def _port_range(value: object) -> object:
    """`"40000-40999"`, or a pair."""
    if value in ("", None):
        return None
    parts = value.split("-") if isinstance(value, str) else value
    try:
        first, last = map(int, parts)  # type: ignore[call-overload]  # what is no pair of numbers raises
    except (TypeError, ValueError):
        raise ValueError("must be a range such as 40000-40999") from None
    if not 1024 <= first <= last <= 65535:
        raise ValueError("must be a range within 1024-65535, the lower first")
    return first, last


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", value):
        raise ValueError("must be a variable's name, or a beginning of names followed by *")
    if value.startswith(PREFIX) or (value.endswith("*") and PREFIX.startswith(value[:-1])):
        raise ValueError(f"must not give {PREFIX} variables to flows")
    return value


Networks = Annotated[tuple[Annotated[IPvAnyNetwork, BeforeValidator(_network)], ...], BeforeValidator(_listed)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], BeforeValidator(_listed)]
VariableNames = Annotated[tuple[Annotated[str, AfterValidator(_variable_name)], ...], BeforeValidator(_listed)]


SipCodecs = Annotated[
    tuple[Literal["opus", "g722", "pcmu", "pcma", "l16"], ...], BeforeValidator(_listed), Field(min_length=1)
]


class Settings(_Part):
    """All settings. `Settings()` is the defaults; `load_settings` reads the environment and the file."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: Annotated[str, AfterValidator(_public_address)] = ""  # as the outside reaches us; Twilio needs it
    data_dir: Path = Path("var")

    flows: Names = ()  # files or names of shipped flows; the first answers where nothing else decides
    routes: Annotated[tuple[Route, ...], BeforeValidator(_structured)] = ()
    tokens: Annotated[tuple[Token, ...], BeforeValidator(_structured)] = ()
    # Their X-Forwarded-For says whom limits count, and nothing else. By default what runs on this machine.
    trusted_proxies: Networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
    metrics_allow: Networks = ()  # who may read /metrics without a token, besides whoever needs none anyway
    trust_loopback: bool | None = None  # may programs on this machine do all without a token? None: see below

    speech: Literal["embedded", "scripted"] = "embedded"
    model: str = Field(default="rules", pattern=r"^(rules|scripted|openai:\S{1,200})$")  # where the flow names none
    openai_base_url: Annotated[str, AfterValidator(_web_address)] = "https://api.openai.com/v1"
    openai_api_key: SecretStr = SecretStr("")
    twilio_auth_token: SecretStr = SecretStr("")

    ice_servers: Annotated[tuple[IceServer, ...], BeforeValidator(_structured)] = ()
    turn_secret: SecretStr = SecretStr("")  # shared with TURN servers that have no credential above
    allowed_origins: Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_listed)] = ()
    media_host: Annotated[str, AfterValidator(_address)] = ""  # of the media sockets; empty: each of this machine's
    media_public_address: Annotated[str, AfterValidator(_address)] = ""  # what a one-to-one NAT shows for it
    media_ports: Annotated[tuple[int, int] | None, BeforeValidator(_port_range)] = None  # None: the system chooses

    sip_port: int | None = Field(default=None, ge=0, le=65535)  # UDP and TCP; None: no SIP
    sip_host: Annotated[str, AfterValidator(_address)] = ""  # empty: as `host`
    sip_tls_port: int = Field(default=5061, ge=0, le=65535)
    sip_tls_certificate: Path | None = None  # PEM, with its chain; None: no TLS
    sip_tls_key: Path | None = None
    sip_allow: Networks = ()  # who may call without a password, besides this machine
    sip_users: Annotated[tuple[SipUser, ...], BeforeValidator(_structured)] = ()
    sip_realm: str = Field(default="voicegate", pattern=r'^[^"\\\x00-\x1f]{1,100}$')
    sip_digests: Annotated[tuple[Literal["sha-256", "md5"], ...], BeforeValidator(_listed), Field(min_length=1)] = (
        "md5",
    )  # how passwords are asked for, the strongest first; some telephones give up where they are asked in two ways
    sip_codecs: SipCodecs = ("opus", "g722", "pcmu", "pcma", "l16")  # as offered; of an offer the first that is here
    sip_srtp: Literal["off", "optional", "required"] = "optional"
    sip_ring_ms: int = Field(default=0, ge=0, le=60_000)  # before a call is answered

    sip_trunks: Annotated[tuple[SipTrunk, ...], BeforeValidator(_structured)] = ()  # numbers go to the first one

    dial_allow: Names = ()  # who may be called: "+49", "@example.com", "sip:desk@192.168.1.7", "*"
    dial_deny: Names = ()  # and who may not in any case
    dial_country: str = Field(default="", pattern=r"^[0-9]{0,3}$")  # of numbers that are not international
    dial_per_day: int = Field(default=100, ge=0, le=1_000_000)
    dial_per_destination: int = Field(default=5, ge=0, le=10_000)  # a day
    dial_per_s: float = Field(default=1.0, gt=0, le=1000)
    dial_concurrent: int = Field(default=10, ge=0, le=10_000)
    dial_max_s: int = Field(default=600, ge=1, le=86_400)  # the longest call
    dial_rates: Annotated[dict[str, float], BeforeValidator(_mapped)] = {}  # what a minute costs, by pattern
    dial_spend_per_day: float | None = Field(default=None, ge=0)  # None: not limited, and no rates are needed
    dial_spend_per_call: float | None = Field(default=None, ge=0)
    dial_zone: str = Field(default="UTC", max_length=64)  # whose days are counted

    tool_env: VariableNames = ("FLOW_*",)  # variables that flows may use as {env.NAME}
    python_tool_modules: Names = ()  # modules whose functions flows may call

    max_calls: int = Field(default=100, ge=1, le=100_000)
    max_calls_per_address: int = Field(default=0, ge=0, le=100_000)  # 0: all of them
    max_load: float = Field(default=0.85, ge=0, le=64)  # of a core; beyond it no new calls are taken; 0: not looked at
    max_lag_ms: float = Field(default=10.0, ge=0, le=1000)  # mean lateness of the 20 ms clock; likewise
    drain_s: int = Field(default=30, ge=0, le=86_400)
    retention_days: int = Field(default=30, ge=0, le=36_500)  # 0: for ever
    recordings: bool = True  # false: none, whatever flows ask for

    stt_workers: int = Field(default=2, ge=1, le=256)
    tts_helpers: int = Field(default=1, ge=1, le=256)

    stt_partial_ms: int = Field(default=300, ge=0, le=60_000)  # these seven are the scripted providers' latencies
    stt_final_ms: int = Field(default=50, ge=0, le=60_000)
    llm_first_token_ms: int = Field(default=50, ge=0, le=60_000)
    llm_token_ms: int = Field(default=10, ge=0, le=60_000)
    llm_tokens: int = Field(default=39, ge=1, le=10_000)
    tts_first_audio_ms: int = Field(default=50, ge=0, le=60_000)
    tts_speed: float = Field(default=5.0, gt=0, le=10_000)  # seconds of audio made per second

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.twilio_auth_token.get_secret_value() and not self.public_url:
            raise ValueError("twilio_auth_token needs public_url: Twilio signs the address that it called")
        if self.sip_srtp == "required" and any(trunk.srtp == "none" for trunk in self.sip_trunks):
            raise ValueError("a trunk's srtp cannot be none where sip_srtp is required")
        for what in ("name", "digest"):
            found = [token.name if what == "name" else token.digest() for token in self.tokens]
            if len(set(found)) < len(found):
                raise ValueError(f"tokens must differ: two have the same {'name' if what == 'name' else 'value'}")
        return self

    @property
    def sip_address(self) -> str:
        """Where SIP listens."""
        host = self.sip_host or self.host
        return "127.0.0.1" if host.lower() == "localhost" else host

    @property
    def loopback_is_trusted(self) -> bool:
        """A public address means a proxy or tunnel, which makes outside clients look like local ones."""
        return self.trust_loopback if self.trust_loopback is not None else not self.public_url

    def flow_for(self, called: str, user: str = "") -> str | None:
        """The flow of the first route that matches."""
        return next((route.flow for route in self.routes if route.matches(called, user)), None)

    def tool_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The variables that flows may see."""
        exact = {name for name in self.tool_env if not name.endswith("*")}
        begins = tuple(name[:-1] for name in self.tool_env if name.endswith("*"))
        return {name: value for name, value in environment.items() if name in exact or name.startswith(begins)}


def with_dotenv(environment: Mapping[str, str], file: Path = Path(".env")) -> dict[str, str]:
    """The environment over what a `.env` file says. Raises `SettingsError`."""
    try:
        if not file.is_file():
            return dict(environment)
        _check_size(file)
        found = dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: cannot be read ({type(error).__name__})"]) from error
    return {name: value for name, value in found.items() if value is not None} | dict(environment)


def load_settings(environment: Mapping[str, str], file: Path | None = None, **overrides: object) -> Settings:
    """`overrides` (from the command line; None counts as not given) over variables over the file over the defaults.

    The file is `file`, else what VOICEGATE_CONFIG names, else `voicegate.toml` if there is one. An empty variable is
    not set. Raises `SettingsError`.
    """
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    from_file = _read_toml(file) if file else {}
    variables = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and value
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate({**from_file, **variables, **given})
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            name, *rest = [str(part) for part in problem["loc"]] or [""]
            if name in given:
                where = "--" + OPTIONS.get(name, name).replace("_", "-")
            elif name in variables:
                where = PREFIX + name.upper()
            else:
                where = f"{file}: {name}" if name and file else "settings"
            inner = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest)
            problems.append(f"{where}{inner}: {_explain(problem['type'], problem['msg'], name, rest)}")
        raise SettingsError(problems) from None


def check_exposure(settings: Settings) -> None:
    """Refuse to be reachable from elsewhere with nobody named who may call. Raises `SettingsError`."""
    if settings.sip_port is not None and not (
        is_loopback(settings.sip_address) or settings.sip_allow or settings.sip_users or settings.sip_trunks
    ):
        raise SettingsError(
            [
                f"VOICEGATE_SIP_HOST: {settings.sip_address} can be reached from other machines, and none may call:"
                " set VOICEGATE_SIP_ALLOW, VOICEGATE_SIP_USERS or VOICEGATE_SIP_TRUNKS"
            ]
        )
    if settings.tokens:
        return
    if not is_loopback(settings.host):
        raise SettingsError(
            [f"VOICEGATE_HOST: {settings.host} can be reached from other machines: set VOICEGATE_TOKENS first"]
        )
    if settings.public_url:
        raise SettingsError(["VOICEGATE_PUBLIC_URL: a public address needs tokens: set VOICEGATE_TOKENS first"])


def is_loopback(host: str) -> bool:
    """Whether an address, or the name "localhost", is this machine's own. Names are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def _explain(kind: str, message: str, name: str, rest: Sequence[str]) -> str:
    if kind == "extra_forbidden":
        near = [] if rest else difflib.get_close_matches(name, Settings.model_fields, 1)
        return "there is no such setting" + (f", did you mean {near[0]}?" if near else "")
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        _check_size(file)
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}"]) from error
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{file}: {error}"]) from None


def _check_size(file: Path) -> None:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise SettingsError([f"{file}: larger than {MAX_FILE_BYTES} bytes"])
