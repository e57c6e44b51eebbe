"""Messages as they come from the world: our edge over `sipmessage` (RFC 3261, 7 and 20).

What it adds: folded and otherwise sloppy lines, limits, framing on streams (18.3), lists that are split only where a
comma separates, and errors of one type. What others wrote is given back as they wrote it, never printed anew.
"""

import functools
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote

from sipmessage import URI, Address, CSeq, Parameters, Request, Response, Via
from sipmessage.message import COMPACT_FORMS

MAX_MESSAGE_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 128
MAX_HEADER_CHARS: Final = 4096  # of one, unfolded
MAX_URI_CHARS: Final = 1024
MAX_ID_CHARS: Final = 256  # of a Call-ID, a tag, a branch
MAX_SEQUENCE: Final = (1 << 31) - 1  # RFC 3261, 8.1.1.5
READ_AGAIN: Final = 256  # values kept as they were read: each layer reads the same From, To and Via once more
MAX_HOPS: Final = 70  # RFC 3261, 8.1.1.6
MAGIC: Final = "z9hG4bK"  # RFC 3261, 8.1.1.7
PORT: Final = 5060
TLS_PORT: Final = 5061
UNKNOWN: Final = "unknown"
"""The scheme of a Request-URI that cannot be read."""
SOFTWARE: Final = "Voicegate"
CALL_NAME: Final = "X-Voicegate-Call"  # in a 2xx to INVITE: the call's name in our records

Message: TypeAlias = Request | Response

_ADDRESS: Final = re.compile(r'(?P<name>[^<"]*|\s*"(?:[^"\\]|\\.)*"\s*)<(?P<uri>[^<>]*)>(?P<rest>.*)', re.DOTALL)
_HOST: Final = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
_URI: Final = re.compile(
    r'(?P<scheme>sips?):(?:(?P<user>[^@\s<>"]*)@)?'
    + _HOST
    + r'(?::(?P<port>[0-9]{1,5}))?(?P<parameters>(?:;[^\s<>"?]*)?)',
    re.ASCII,
)
_TEL: Final = re.compile(
    r"tel:(?P<user>(?=[-.()+]*[0-9A-F*#])\+?[-.()0-9A-F*#]+)(?P<parameters>(?:;[^\s<>\"?]*)?)", re.I
)
_VIA: Final = re.compile(
    r"(?i)SIP\s*/\s*2\.0\s*/\s*(?P<transport>[A-Z][A-Z0-9-]{1,15})\s+"
    + _HOST
    + r"\s*+(?::\s*(?P<port>[0-9]{1,5})\s*+)?(?P<parameters>(?:;.*)?)",
    re.ASCII,
)
_PARAMETER: Final = re.compile(
    r'(?P<name>[^"<>=]+)(?:=\s*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>[^"<>]*)))?', re.DOTALL
)
_METHOD: Final = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,32}")
_VERSION: Final = re.compile(r"(?i)SIP/[0-9]{1,3}\.[0-9]{1,3}")
_BLANK: Final = re.compile(rb"\r?\n\r?\n")
_LENGTH: Final = re.compile(rb"(?im)^(?:content-length|l)[ \t]*:(.*(?:\n[ \t].*)*)")
_LISTS: Final = {
    separator: re.compile(rf'(?:[^{separator}"<]++|"(?:[^"\\]|\\.)*"?|<[^>]*>?)+', re.DOTALL) for separator in ",;"
}
_PHRASES: Final = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted", 400: "Bad Request",
    401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    407: "Proxy Authentication Required", 408: "Request Timeout", 413: "Request Entity Too Large",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 421: "Extension Required",
    422: "Session Interval Too Small", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist",
    482: "Loop Detected", 483: "Too Many Hops", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 500: "Server Internal Error",
    501: "Not Implemented", 503: "Service Unavailable", 505: "Version Not Supported", 513: "Message Too Large",
    603: "Decline",
}  # fmt: skip


class MessageError(ValueError):
    """Not a message that can be used. `request` is what to answer, where it was a request that can be answered."""

    def __init__(self, reason: str, request: Request | None = None) -> None:
        super().__init__(reason)
        self.request = request


@dataclass(frozen=True)
class Written(URI):
    """A URI that is given back as its owner wrote it."""

    text: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a message came from or goes to. `connection` names the stream that it has to take; 0: any."""

    transport: str  # "udp", "tcp", "tls"
    host: str  # an address; where a message is to go also a name
    port: int
    connection: int = 0

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}/{self.transport}"


def bracketed(host: str) -> str:
    """As it stands before a port (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# Reading


def parse(data: bytes) -> Message:
    """A whole datagram, or what a `Framer` gave. Raises `MessageError`.

    What every layer relies on is checked here: Via, From, To, Call-ID and CSeq are there once (Via at least once) and
    can be read.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"more than {MAX_MESSAGE_BYTES} bytes")
    data = data.lstrip(b"\r\n")
    blank = _BLANK.search(data)
    if blank is None:
        raise MessageError("no empty line ends the headers")
    first, *lines = _unfolded(data[: blank.start()])
    message, wrong = _start(first)
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip()
        if not colon or not name or " " in name:
            wrong = wrong or "a header without a name"
        else:
            message.headers.add(COMPACT_FORMS.get(name.lower(), name), value.strip())
    if wrong:  # said only now, so that it can be answered
        raise MessageError(wrong, _answerable(message))
    _check(message)
    message.body = _body(message, data[blank.end() :])
    return message


def _unfolded(head: bytes) -> list[str]:
    """Lines, with those that begin with a space joined to the one before (RFC 3261, 7.3.1)."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    if "\0" in text:
        raise MessageError("a zero byte")
    lines: list[str] = []
    for line in text.split("\n"):
        line = line.rstrip("\r").replace("\r", " ").replace("\t", " ")
        if line.startswith(" ") and len(lines) > 1:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
        if len(lines) > MAX_HEADERS:
            raise MessageError(f"more than {MAX_HEADERS} headers")
        if len(lines[-1]) > MAX_HEADER_CHARS:
            raise MessageError(f"a header of more than {MAX_HEADER_CHARS} characters")
    return lines


def _start(line: str) -> tuple[Message, str]:
    """And what is wrong with it. Raises `MessageError` where it begins no message at all."""
    first, _, rest = line.partition(" ")
    if first.upper() == "SIP/2.0":
        code, _, phrase = rest.strip().partition(" ")
        if not (len(code) == 3 and code.isascii() and code.isdigit() and "100" <= code <= "699"):
            raise MessageError("a response without a code")
        return Response(int(code), phrase), ""
    target, _, version = rest.strip().rpartition(" ")
    if not _VERSION.fullmatch(version) or not _METHOD.fullmatch(first):
        raise MessageError("neither a request nor a response")
    wrong = "" if version.upper() == "SIP/2.0" else "a version that is not 2.0"
    try:
        return Request(first, uri_of(target.strip())), wrong
    except MessageError:
        # It still has to be answered, by whoever looks at the scheme (RFC 3261, 8.2.2.1).
        return Request(first, Written(UNKNOWN, "invalid", text=target.strip())), wrong


def _check(message: Message) -> None:
    headers = message.headers
    for name in ("From", "To", "Call-ID", "CSeq"):
        if len(headers.getlist(name)) != 1:
            raise MessageError(f"{name} is missing, or there twice", _answerable(message))
    try:
        via = top_via(message)
        cseq = CSeq.parse(headers["CSeq"])
        branch = via.parameters.get("branch") or ""
        from_, to = (address_of(headers[name]).parameters for name in ("From", "To"))
        for name, said in (("From", from_), ("To", to)):
            if "tag" in said and not 0 < len(said["tag"] or "") <= MAX_ID_CHARS:
                raise MessageError(f"the tag of {name} is empty or too long")
        if not 0 < len(message.call_id) <= MAX_ID_CHARS or len(branch) > MAX_ID_CHARS:
            raise MessageError("an id is too long")
        if cseq.sequence > MAX_SEQUENCE:
            raise MessageError("CSeq is too large")
        if isinstance(message, Request):
            if cseq.method != message.method:
                raise MessageError("CSeq names another method")
            if "tag" not in from_ and branch.startswith(MAGIC):
                raise MessageError("From has no tag")
    except MessageError as error:
        raise MessageError(str(error), _answerable(message)) from None
    except (ValueError, TypeError):
        raise MessageError("a header that cannot be read", _answerable(message)) from None


def _body(message: Message, body: bytes) -> bytes:
    """As long as Content-Length says (RFC 3261, 18.3)."""
    said = message.headers.getlist("Content-Length")
    if not said:
        return body
    try:
        size = _size({value.encode() for value in said})
    except MessageError as error:
        raise MessageError(str(error), _answerable(message)) from None
    if size > len(body):
        raise MessageError("the body is not as long as Content-Length says", _answerable(message))
    return body[:size]


def _size(said: set[bytes]) -> int:
    """What all Content-Lengths of one message say. Raises `MessageError`."""
    if len(said) > 1:
        raise MessageError("two lengths")
    value = said.pop()
    if not value.isdigit() or len(value) > 10:
        raise MessageError("a length that cannot be read")
    return int(value)


def _answerable(message: Message) -> Request | None:
    """A request whose response finds its way: it has what a response repeats."""
    if not isinstance(message, Request) or message.method == "ACK":
        return None
    repeated = all(message.headers.get(name) for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    try:
        top_via(message)
    except MessageError:
        return None
    return message if repeated else None


@functools.lru_cache(READ_AGAIN)
def uri_of(text: str) -> Written:
    """A URI, without the headers that may stand after its `?` (19.1.1). Raises `MessageError`."""
    if len(text) > MAX_URI_CHARS:
        raise MessageError(f"a URI of more than {MAX_URI_CHARS} characters")
    scheme, _, rest = text.partition(":")
    user, at, host = rest.rpartition("@")
    text = f"{scheme.lower()}:{user}{at}{host.partition('?')[0]}"
    if (tel := _TEL.fullmatch(text)) is not None:
        return Written("tel", "", tel["user"], None, None, parameters_of(tel["parameters"]), text)
    found = _URI.fullmatch(text)
    if found is None:
        raise MessageError("a URI that cannot be read")
    name, _, password = (_decoded(part) for part in (found["user"] or "").partition(":"))
    port = _port(found["port"])
    return Written(
        found["scheme"], found["host"], name or None, password or None, port, parameters_of(found["parameters"]), text
    )


def _decoded(text: str) -> str:
    """Without its escapes, unless they hide line ends or the like."""
    plain = unquote(text)
    return plain if plain.isprintable() else text


def _port(text: str | None) -> int | None:
    if text is not None and not 0 < int(text) < 1 << 16:
        raise MessageError("an impossible port")
    return int(text) if text else None


def parameters_of(text: str) -> Parameters:
    """All after the first `;`: names in lower case, values as they were written (7.3.1). Raises `MessageError`."""
    found: dict[str, str | None] = {}
    for part in split_list(text, ";") if text else ():
        read = _PARAMETER.fullmatch(part)
        if read is None:
            raise MessageError("a parameter that cannot be read")
        value = read["quoted"] if read["plain"] is None else read["plain"].strip()
        found.setdefault(read["name"].rstrip().lower(), value)
    found.pop("self", None)  # which `Parameters` cannot hold
    return Parameters(**found)


def uri_headers(text: str) -> str:
    """What stands after the `?`: in a Refer-To the headers of the request that is asked for."""
    return text.rpartition("@")[2].partition("?")[2]


@functools.lru_cache(READ_AGAIN)
def address_of(text: str) -> Address:
    """A name-addr or addr-spec with its parameters (20.10). Raises `MessageError`."""
    named = _ADDRESS.fullmatch(text)
    if named is not None:
        name, uri, rest = named["name"].strip(), named["uri"], named["rest"]
    else:
        uri, _, rest = text.partition(";")  # without brackets they are the header's, not the URI's
        name = ""
    if name.startswith('"') and name.endswith('"'):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Address(uri_of(uri.strip()), name, parameters_of(rest))


def values(message: Message, name: str) -> list[str]:
    """All values of a header that is a list, as they were written, in order."""
    return [part for line in message.headers.getlist(name) for part in split_list(line)]


def split_list(line: str, separator: str = ",") -> Iterator[str]:
    """At commas, or semicolons, outside quotes and angle brackets (7.3.1)."""
    for found in _LISTS[separator].finditer(line):
        if part := found[0].strip():
            yield part


def top_via(message: Message) -> Via:
    """Raises `MessageError`."""
    return _via_of(message.headers.get("Via") or "")


@functools.lru_cache(READ_AGAIN)
def _via_of(line: str) -> Via:
    """The first in it. Each message's is asked for a dozen times."""
    found = _VIA.fullmatch(next(split_list(line), ""))
    if found is None:
        raise MessageError("no Via that can be read")
    return Via(found["transport"].upper(), found["host"], _port(found["port"]), parameters_of(found["parameters"]))


def from_tag(message: Message) -> str:
    return address_of(message.headers["From"]).parameters.get("tag") or ""


def to_tag(message: Message) -> str:
    return address_of(message.headers["To"]).parameters.get("tag") or ""


def sequence(message: Message) -> int:
    return CSeq.parse(message.headers["CSeq"]).sequence


def tokens(message: Message, name: str) -> list[str]:
    """Of Require, Supported, Allow: lower case."""
    return [value.lower() for value in values(message, name)]


def number(message: Message, name: str) -> int | None:
    """The whole number that a header begins with, such as Expires; None where there is none that makes sense."""
    found = re.match(r"[0-9]{1,10}(?![0-9])", message.headers.get(name) or "")
    return int(found[0]) if found else None


def content_type(message: Message) -> str:
    """Lower case, without its parameters."""
    return (message.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


# Writing


def new_tag() -> str:
    return secrets.token_hex(8)


def new_branch() -> str:
    return MAGIC + secrets.token_hex(12)


def request(method: str, uri: URI | str) -> Request:
    """Without headers: whoever makes it adds them."""
    target = uri if isinstance(uri, URI) else uri_of(uri)
    return Request(method, target)


def copied(of: Request) -> Request:
    made = Request(of.method, of.uri, of.body)
    for name in of.headers.keys():  # noqa: SIM118  # no mapping
        made.headers.setlist(name, list(of.headers.getlist(name)))
    return made


def phrase(code: int) -> str:
    return _PHRASES.get(code, "Unknown")


def response(to: Request, code: int, reason: str = "", *, tag: str = "") -> Response:
    """With what a response repeats (8.2.6.2). `tag` is put in To where it has none."""
    made = Response(code, reason or phrase(code))
    made.headers.setlist("Via", values(to, "Via"))
    made.headers.set("From", to.headers["From"])
    said = to.headers["To"]
    made.headers.set("To", said if not tag or _has_tag(said) else f"{said};tag={tag}")
    made.headers.set("Call-ID", to.headers["Call-ID"])
    made.headers.set("CSeq", to.headers["CSeq"])
    made.headers.set("Server", SOFTWARE)
    return made


def _has_tag(text: str) -> bool:
    try:
        return "tag" in address_of(text).parameters
    except MessageError:
        return True  # nothing can be added to what cannot be read


def write(message: Message) -> bytes:
    message.headers.set("Content-Length", str(len(message.body)))
    return bytes(message)


def received_from(message: Request, hop: Hop) -> None:
    """Says in the top Via where the request really came from (18.2.1, RFC 3581)."""
    via = top_via(message)
    first, *others = values(message, "Via")
    sent_by, *said = split_list(first, ";")
    kept = [part for part in said if part.partition("=")[0].strip().lower() not in ("received", "rport")]
    asked = "rport" in via.parameters
    if asked:
        kept.append(f"rport={hop.port}")
    if asked or via.host.strip("[]") != hop.host:
        kept.append(f"received={hop.host}")
    message.headers.setlist("Via", [";".join([sent_by, *kept]), *others])


def reply_hop(message: Request, hop: Hop) -> Hop:
    """Where the response goes (18.2.2, RFC 3581, 4)."""
    via = top_via(message)
    if hop.reliable or "rport" in via.parameters:
        return hop
    return Hop(hop.transport, hop.host, via.port or PORT)


def hop_of(uri: URI, *, secure: bool = False) -> Hop:
    """Where a request for this URI goes, when nothing else is known. The host may be a name."""
    asked = (uri.parameters.get("transport") or "udp").lower()
    tls = secure or uri.scheme == "sips" or asked == "tls"
    transport = "tls" if tls else asked if asked in ("udp", "tcp") else "udp"
    return Hop(transport, uri.host.strip("[]"), uri.port or (TLS_PORT if tls else PORT))


# Streams


class Framer:
    """Cuts a stream into messages by their Content-Length (18.3). Keep-alives come out as `b""` (RFC 5626, 4.4.1)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # no empty line begins before
        self._size: int | None = None  # of the message that comes, once its headers are here

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises `MessageError`; nothing can be read after that."""
        self._data += data
        while self._data:
            if self._data.startswith(b"\r\n\r\n"):
                del self._data[:4]
                yield b""
            elif b"\r\n\r\n".startswith(bytes(self._data[:4])):
                return  # perhaps the rest of a keep-alive is on its way
            elif self._data[0] in b"\r\n":
                del self._data[:1]
            elif (whole := self._whole()) is not None:
                yield whole
            else:
                return

    def _whole(self) -> bytes | None:
        if self._size is None:
            self._size = self._announced()
        if (self._size or len(self._data)) > MAX_MESSAGE_BYTES:
            raise MessageError(f"more than {MAX_MESSAGE_BYTES} bytes")
        if self._size is None or len(self._data) < self._size:
            return None
        whole = bytes(self._data[: self._size])
        del self._data[: self._size]
        self._size, self._searched = None, 0
        return whole

    def _announced(self) -> int | None:
        blank = _BLANK.search(self._data, self._searched)
        if blank is None:
            self._searched = max(len(self._data) - 3, 0)
            return None
        said = {value.strip() for value in _LENGTH.findall(self._data[: blank.start()])}
        return blank.end() + (_size(said) if said else 0)
