"""Messages as they come from the world: our edge over `sipmessage` (RFC 3261, 7 and 20).

What it adds: folded and otherwise sloppy lines, limits, framing on streams (18.3), lists that are split only where a
comma separates, and errors of one type. What others wrote is given back as they wrote it, never printed anew.
"""

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
MAX_HOPS: Final = 70  # RFC 3261, 8.1.1.6
MAGIC: Final = "z9hG4bK"  # RFC 3261, 8.1.1.7
PORT: Final = 5060
TLS_PORT: Final = 5061
UNKNOWN: Final = "unknown"
"""The scheme of a Request-URI that cannot be read."""
SOFTWARE: Final = "Voicegate"

Message: TypeAlias = Request | Response

_ADDRESS: Final = re.compile(r'(?P<name>[^<"]*|\s*"(?:[^"\\]|\\.)*"\s*)<(?P<uri>[^<>]*)>(?P<rest>.*)', re.DOTALL)
_HOST: Final = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)\s*(?::\s*(?P<port>[0-9]{1,5}))?"
_URI: Final = re.compile(
    r'(?P<scheme>sips?):(?:(?P<user>[^@\s<>"]*)@)?' + _HOST + r'(?P<parameters>(?:;[^\s<>"?]*)?)', re.ASCII
)
_VIA: Final = re.compile(
    r"(?i)SIP\s*/\s*2\.0\s*/\s*(?P<transport>[A-Z]{2,10})\s+" + _HOST + r"\s*(?P<parameters>(?:;.*)?)", re.ASCII
)
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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.transport}"


# Reading


def parse(data: bytes) -> Message:
    """A whole datagram, or what a `Framer` gave. Raises `MessageError`.

    What every layer relies on is checked here: Via, From, To, Call-ID and CSeq are there once (Via at least once) and
    can be read.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"more than {MAX_MESSAGE_BYTES} bytes")
    head, blank, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not blank:
        head, blank, body = data.lstrip(b"\r\n").partition(b"\n\n")
    if not blank:
        raise MessageError("no empty line ends the headers")
    first, *lines = _unfolded(head)
    message = _start(first)
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip()
        if not colon or not name or " " in name:
            raise MessageError("a header without a name", _answerable(message))
        message.headers.add(COMPACT_FORMS.get(name.lower(), name), value.strip())
    _check(message)
    message.body = _body(message, body)
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


def _start(line: str) -> Message:
    first, _, rest = line.partition(" ")
    if first.upper() == "SIP/2.0":
        code, _, phrase = rest.partition(" ")
        if not (len(code) == 3 and code.isascii() and code.isdigit() and "100" <= code <= "699"):
            raise MessageError("a response without a code")
        return Response(int(code), phrase)
    target, _, version = rest.strip().rpartition(" ")
    if version.upper() != "SIP/2.0" or not re.fullmatch(r"[A-Za-z]{1,20}", first):
        raise MessageError("neither a request nor a response")
    try:
        return Request(first.upper(), uri_of(target.strip()))
    except MessageError:
        # It still has to be answered, by whoever looks at the scheme (RFC 3261, 8.2.2.1).
        return Request(first.upper(), Written(UNKNOWN, "invalid", text=target.strip()))


def _check(message: Message) -> None:
    headers = message.headers
    for name in ("From", "To", "Call-ID", "CSeq"):
        if len(headers.getlist(name)) != 1:
            raise MessageError(f"{name} is missing, or there twice", _answerable(message))
    try:
        vias = values(message, "Via")
        if not vias:
            raise MessageError("no Via")
        via = top_via(message)
        cseq = CSeq.parse(headers["CSeq"])
        branch = via.parameters.get("branch") or ""
        for name in ("From", "To"):
            address = address_of(headers[name])
            if len(address.parameters.get("tag") or "") > MAX_ID_CHARS:
                raise MessageError(f"the tag of {name} is too long")
        if not 0 < len(message.call_id) <= MAX_ID_CHARS or len(branch) > MAX_ID_CHARS:
            raise MessageError("an id is too long")
        if cseq.sequence > MAX_SEQUENCE:
            raise MessageError("CSeq is too large")
        if isinstance(message, Request):
            if cseq.method != message.method:
                raise MessageError("CSeq names another method")
            if not from_tag(message) and branch.startswith(MAGIC):
                raise MessageError("From has no tag")
    except MessageError as error:
        raise MessageError(str(error), _answerable(message)) from None
    except (ValueError, TypeError):
        raise MessageError("a header that cannot be read", _answerable(message)) from None


def _body(message: Message, body: bytes) -> bytes:
    """As long as Content-Length says (RFC 3261, 18.3)."""
    said = message.headers.get("Content-Length")
    if said is None:
        return body
    if not (said.isascii() and said.isdigit()) or int(said[:10]) > len(body):
        raise MessageError("the body is not as long as Content-Length says", _answerable(message))
    return body[: int(said)]


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


def uri_of(text: str) -> Written:
    """A URI, without the headers that may stand after its `?` (19.1.1). Raises `MessageError`."""
    if len(text) > MAX_URI_CHARS:
        raise MessageError(f"a URI of more than {MAX_URI_CHARS} characters")
    scheme, _, rest = text.partition(":")
    user, at, host = rest.rpartition("@")
    text = f"{scheme.lower()}:{user}{at}{host.partition('?')[0]}"
    found = _URI.fullmatch(text)
    try:
        if found is None:
            uri = URI.parse(text)  # tel, or nothing that we know
            return Written(uri.scheme, uri.host, uri.user, None, None, uri.parameters, text)
        name, _, password = (found["user"] or "").partition(":")
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port < 1 << 16:
            raise MessageError("a URI with an impossible port")
        parameters = Parameters.parse(found["parameters"].rstrip(";"))
        return Written(
            found["scheme"], found["host"], unquote(name) or None, unquote(password) or None, port, parameters, text
        )
    except MessageError:
        raise
    except (ValueError, TypeError):
        raise MessageError("a URI that cannot be read") from None


def uri_headers(text: str) -> str:
    """What stands after the `?`: in a Refer-To the headers of the request that is asked for."""
    return text.rpartition("@")[2].partition("?")[2]


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
    try:
        parameters = Parameters.parse(f";{rest.strip().strip(';')}" if rest.strip(" ;") else "")
    except (ValueError, TypeError):
        tag = re.search(r"(?i)(?:^|;)\s*tag\s*=\s*([^\s;,\"]+)", rest)  # all of them that has to be understood
        parameters = Parameters(tag=tag[1]) if tag else Parameters()
    return Address(uri_of(uri.strip()), name, parameters)


def values(message: Message, name: str) -> list[str]:
    """All values of a header that is a list, as they were written, in order."""
    return [part for line in message.headers.getlist(name) for part in split_list(line)]


def split_list(line: str) -> Iterator[str]:
    """At commas outside quotes and angle brackets (7.3.1)."""
    start = 0
    quoted = angled = escaped = False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            angled = char == "<"
        elif char == "," and not angled:
            if part := line[start:at].strip():
                yield part
            start = at + 1
    if part := line[start:].strip():
        yield part


def top_via(message: Message) -> Via:
    """Raises `MessageError`."""
    found = _VIA.fullmatch(next(iter(values(message, "Via")), ""))
    if found is None:
        raise MessageError("no Via that can be read")
    try:
        parameters = Parameters.parse(found["parameters"].strip().rstrip(";"))
    except (ValueError, TypeError):
        raise MessageError("no Via that can be read") from None
    return Via(found["transport"].upper(), found["host"], int(found["port"]) if found["port"] else None, parameters)


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
    found = re.match(r"\d{1,9}(?![\d])", message.headers.get(name) or "")
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
    return re.search(r"(?i);\s*tag\s*=", text.rpartition(">")[2]) is not None


def write(message: Message) -> bytes:
    message.headers.set("Content-Length", str(len(message.body)))
    return bytes(message)


def received_from(message: Request, hop: Hop) -> None:
    """Says in the top Via where the request really came from (18.2.1, RFC 3581)."""
    vias = values(message, "Via")
    top = re.sub(r"(?i);\s*received\s*=[^;]*", "", vias[0])
    top, asked = re.subn(r"(?i);\s*rport(\s*=[^;]*)?(?=\s*(;|$))", f";rport={hop.port}", top)
    if asked or top_via(message).host.strip("[]") != hop.host:
        top += f";received={hop.host}"
    message.headers.setlist("Via", [top, *vias[1:]])


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

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises `MessageError`; nothing can be read after that."""
        self._data += data
        while self._data:
            if self._data.startswith(b"\r\n\r\n"):
                del self._data[:4]
                yield b""
            elif b"\r\n\r\n".startswith(bytes(self._data[:4])):
                return  # perhaps the rest of a keep-alive is on its way
            elif self._data.startswith(b"\r\n"):
                del self._data[:2]
            elif (whole := self._whole()) is not None:
                yield whole
            else:
                return

    def _whole(self) -> bytes | None:
        end = self._data.find(b"\r\n\r\n")
        size = end + 4 + self._length(bytes(self._data[:end])) if end >= 0 else len(self._data)
        if size > MAX_MESSAGE_BYTES:
            raise MessageError(f"more than {MAX_MESSAGE_BYTES} bytes")
        if end < 0 or len(self._data) < size:
            return None
        whole = bytes(self._data[:size])
        del self._data[:size]
        return whole

    def _length(self, head: bytes) -> int:
        found = re.findall(rb"(?im)^(?:content-length|l)[ \t]*:[ \t]*(\d{1,9})[ \t]*\r?$", head)
        if len(set(found)) > 1:
            raise MessageError("two lengths")
        return int(found[0]) if found else 0
