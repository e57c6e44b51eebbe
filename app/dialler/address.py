"""What can be called: a phone number or a SIP address, in one spelling.

What the rules judge is what is dialled: `Address.dial` is built here from parts that were understood, never cut out
of the text that came in. A text that can be understood in two ways is refused.
"""

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address

MAX_TEXT_CHARS = 256
MAX_USER_CHARS = 64
MAX_HOST_CHARS = 253
MIN_INTERNATIONAL_DIGITS = 5  # country code included
MAX_NUMBER_DIGITS = 15  # ITU-T E.164 §6
MAX_LOCAL_DIGITS = 20
MAX_EXTENSION_DIGITS = 6
"""A longer number in no international form may be anything, depending on who reads it."""

EXIT_CODES = ("00", "011", "0011", "010", "810")
"""How the world dials out of a country. A denied number is looked for behind each of them."""

EMERGENCY = frozenset({"000", "110", "111", "112", "113", "115", "117", "118", "119", "911", "999"})
"""No prefix, host or "*" allows these: only a rule that names the number."""

_SCHEME = re.compile(r"(sips?|tel):", re.IGNORECASE)
_SEPARATORS = str.maketrans("", "", " -.()/")
_URI_SEPARATORS = str.maketrans("", "", "-.()")  # RFC 3966 §3, visual separators
_NUMBER = re.compile(r"\+?[0-9*#]+")
_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PARAMETER = re.compile(r"transport=(udp|tcp|tls)|user=phone", re.IGNORECASE)


class BadAddress(ValueError):
    """Nothing that can be called. `str()` of it holds nothing of the text."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """How numbers are read that are not international: of country `country` ("49"), national ones after `trunk`.

    Without a country only "+" and `international` make a number international.
    """

    country: str = ""
    trunk: str = "0"  # "" where national numbers have no prefix, or keep it
    international: str = "00"

    def __post_init__(self) -> None:
        for digits in (self.country, self.trunk, self.international):
            if digits and not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
                raise BadAddress("the country code and the dialling prefixes are a few digits each")
        if not self.international or self.country.startswith("0"):
            raise BadAddress("a country code begins with 1 to 9, and the international prefix is not empty")


@dataclass(frozen=True, slots=True)
class Address:
    dial: str  # what to place: "+4930123456", "110", "sip:bob@example.com;transport=tcp"
    number: str  # "+" and digits, or a local number as it is; "" where the user part is a name
    user: str = ""  # lower case; empty for a plain number
    host: str = ""  # lower case; empty for a plain number
    port: int = 0  # 0: none was given
    readings: frozenset[str] = frozenset()  # digits, without "+": what it may be taken for as an international number

    @property
    def key(self) -> str:
        """One per destination, whatever way leads there."""
        return f"{self.number or self.user}@{self.host}" if self.host else self.number

    @property
    def international(self) -> bool:
        return self.number.startswith("+")

    @property
    def ambiguous(self) -> bool:
        """Digits in no international form that may yet be somebody's number."""
        if self.international:
            return False
        return len(_digits_at_start(self.number or self.user)) > MAX_EXTENSION_DIGITS

    @property
    def unnamed(self) -> bool:
        """A service code or an emergency number, also behind the digit that gets an outside line."""
        local = "" if self.international else self.number
        digits = _digits_at_start(local or self.user)
        return (
            "*" in local
            or "#" in local
            or not EMERGENCY.isdisjoint({digits, digits.lstrip("0"), digits.removeprefix("9")})
        )


def parse(text: str, numbering: Numbering, homes: frozenset[str] = frozenset()) -> Address:
    """Read a phone number, a `tel:`, `sip:` or `sips:` URI, or `user@host`.

    At one of `homes` (hosts of our own trunk, lower case) a number is the plain number. Raises `BadAddress`.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise BadAddress(f"a destination has at most {MAX_TEXT_CHARS} characters")
    if not (text.isascii() and text.isprintable()):
        raise BadAddress("a destination is printable ASCII: no control characters, no other digits than 0 to 9")
    if "%" in text:
        raise BadAddress("a destination has no %-escapes")
    text = text.strip(" ")
    scheme = ""
    if found := _SCHEME.match(text):
        scheme = found[1].lower()
        text = text[found.end() :]
    if scheme in ("sip", "sips") or (not scheme and "@" in text):
        return _sip(scheme or "sip", text, numbering, homes)
    number = read_number(text, numbering)
    return Address(number, number, readings=_readings(number, numbering))


def read_number(text: str, numbering: Numbering) -> str:
    """A number without its separators: international where that is sure, else as it is. Raises `BadAddress`."""
    bare = text.translate(_SEPARATORS)
    if not _NUMBER.fullmatch(bare):
        raise BadAddress("neither a phone number nor a SIP address")
    if bare.startswith(("+", numbering.international)) and "(0)" in text:
        country, _, rest = text.partition("(0)")  # the national prefix, told in passing
        country = country.translate(_SEPARATORS)
        if "(0)" in rest or not 1 <= len(country.removeprefix("+").removeprefix(numbering.international)) <= 3:
            raise BadAddress("(0) comes once, after the country code")
        bare = country + rest.translate(_SEPARATORS)
    if "*" in bare or "#" in bare:
        if bare.startswith("+") or len(bare) > MAX_LOCAL_DIGITS:
            raise BadAddress("a service code is short and has no +")
        return bare
    digits = ""
    if bare.startswith("+"):
        digits = bare[1:]
    elif bare.startswith(numbering.international):
        digits = bare.removeprefix(numbering.international)
    elif numbering.country and bare.startswith(numbering.trunk) and len(bare) > MAX_EXTENSION_DIGITS:
        digits = numbering.country + bare.removeprefix(numbering.trunk)
    if not digits:
        if len(bare) > MAX_LOCAL_DIGITS:
            raise BadAddress(f"a number has at most {MAX_LOCAL_DIGITS} digits")
        return bare
    if digits.startswith("0") or not MIN_INTERNATIONAL_DIGITS <= len(digits) <= MAX_NUMBER_DIGITS:
        raise BadAddress(
            f"an international number has {MIN_INTERNATIONAL_DIGITS} to {MAX_NUMBER_DIGITS} digits, the first not 0"
        )
    return "+" + digits


def read_host(text: str) -> str:
    """A domain name, IPv4 address or [IPv6 address], in lower case, without a last dot. Raises `BadAddress`."""
    host = text.lower().removesuffix(".")
    try:
        if host.startswith("[") and host.endswith("]"):
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        labels = host.split(".")
        # RFC 3261 §25.1: a name's last label begins with a letter, so 127.1 and 0x7f.1 are none.
        if labels[-1][:1].isalpha():
            if len(host) <= MAX_HOST_CHARS and all(_LABEL.fullmatch(label) for label in labels):
                return host
        else:
            return str(IPv4Address(host))
    except AddressValueError:
        pass
    raise BadAddress("the host is neither a domain name nor an IP address")


def split_port(text: str) -> tuple[str, int]:
    """The host and the port of "host:port", 0 where there is none. Raises `BadAddress`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return read_host(text), 0
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise BadAddress("the port is not a number from 1 to 65535")
    return read_host(host), int(port)


def _sip(scheme: str, text: str, numbering: Numbering, homes: frozenset[str]) -> Address:
    user, at, rest = text.partition("@")
    if not at or "@" in rest:
        raise BadAddress("a SIP address is user@host")
    place, *parameters = rest.split(";")
    for parameter in parameters:
        if not _PARAMETER.fullmatch(parameter):
            raise BadAddress("a SIP address takes no parameters but transport=udp, tcp or tls, and user=phone")
    if len(parameters) != len({parameter.lower().partition("=")[0] for parameter in parameters}):
        raise BadAddress("a parameter of the SIP address comes twice")
    host, port = split_port(place)
    if not user or len(user) > MAX_USER_CHARS:
        raise BadAddress(f"the user part of a SIP address has 1 to {MAX_USER_CHARS} characters")
    number = ""
    bare = user.translate(_URI_SEPARATORS)
    if _NUMBER.fullmatch(bare):
        if host in homes:
            number = read_number(user, numbering)
            return Address(number, number, readings=_readings(number, numbering))
        # Elsewhere the digits stay, and are in no country: only the host knows what its prefixes mean.
        number = read_number(user, replace(numbering, country=""))
        user = number if bare.startswith("+") else bare
    elif not _NAME.fullmatch(user):
        raise BadAddress("the user part of a SIP address has characters that are not taken")
    readings = _readings(user, numbering)
    dial = f"{scheme}:{user}@{host}{f':{port}' if port else ''}{''.join(f';{p.lower()}' for p in parameters)}"
    return Address(dial, number, user.lower(), host, port, readings)


def _readings(dialled: str, numbering: Numbering) -> frozenset[str]:
    """All that `dialled` may mean to a trunk or an exchange: more rather than fewer."""
    digits = _digits_at_start(dialled)
    found = {digits}
    if not dialled.startswith("+"):
        found |= {digits.removeprefix(code) for code in EXIT_CODES}
        found.add(digits.lstrip("0"))
        if numbering.country and digits:
            found |= {numbering.country + digits, numbering.country + digits.removeprefix(numbering.trunk)}
    # +49 (0)900 and +49 0900 reach +49900 on many lines.
    found |= {reading[:n] + reading[n:].lstrip("0") for reading in tuple(found) for n in (1, 2, 3)}
    if not dialled.startswith("+"):
        found = {reading for reading in found if len(reading) > MAX_EXTENSION_DIGITS}
    return frozenset(found - {""})


def _digits_at_start(text: str) -> str:
    bare = re.sub("[^0-9A-Za-z]", "", text)
    return bare[: len(bare) - len(bare.lstrip("0123456789"))]
