"""Reading and writing single messages: RFC 3261, 7 and 20; the ideas of RFC 4475 and RFC 5118."""

import contextlib
import time
from collections.abc import Callable

import pytest
from sipmessage import Request, Response

from media.sip import auth, bodies, refer, refresh
from media.sip import message as sip
from media.sip.message import Hop, MessageError
from media.sip.transaction import server_key

BASE = {
    "Via": "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx1",
    "From": "<sip:ann@example.org>;tag=f1",
    "To": "<sip:bob@example.com>",
    "Call-ID": "c1@192.0.2.1",
    "CSeq": "1 INVITE",
    "Contact": "<sip:ann@192.0.2.1>",
    "Max-Forwards": "70",
}
START = "INVITE sip:bob@example.com SIP/2.0"


def raw(
    start: str = START,
    changed: dict[str, str | None] | None = None,
    *extra: str,
    body: bytes = b"",
    end: str = "\r\n",
) -> bytes:
    """A normal INVITE with some headers changed (None: left out) and some lines added."""
    said = BASE | (changed or {})
    lines = [start, *(f"{name}: {value}" for name, value in said.items() if value is not None), *extra]
    return (end.join(lines) + end + end).encode() + body


def request(data: bytes) -> Request:
    message = sip.parse(data)
    assert isinstance(message, Request)
    return message


def response(data: bytes) -> Response:
    message = sip.parse(data)
    assert isinstance(message, Response)
    return message


# What is allowed, however odd


def test_white_space_folding_case_and_compact_forms() -> None:
    message = request(
        b"INVITE   sip:desk@example.com;door   SIP/2.0\r\n"
        b"TO :\r\n sip:desk@example.com ;   tag    = t1\r\n"
        b'f   : "The \\\\\\" Hall"      <sip:hall@example.org>\r\n  ;\r\n  TAG = f1\r\n'
        b"mAX-forWARDs: 0042\r\ni: odd@192.0.2.7\r\ncseq: 0031\r\n  INVITE\r\n"
        b"v:  SIP  / 2.0\r\n /UDP\r\n    192.0.2.7;BRANCH=z9hG4bKa1 ,\r\n"
        b" SIP / 2.0 / TCP   hop.example.com ;\r\n   branch  =  z9hG4bKa2 , SIP/2.0/UDP 192.0.2.8; branch=z9hG4bKa3\r\n"
        b'm:"A \\"B\\", C" <sip:hall@192.0.2.7>;one=1;two ; q = 0.5\r\n'
        b"s :\r\nk\t: replaces ,\ttimer\r\nl: 4\r\n\r\nabcd"
    )
    assert str(message.uri) == "sip:desk@example.com;door"
    assert sip.from_tag(message) == "f1"
    assert sip.to_tag(message) == "t1"
    assert sip.address_of(message.headers["From"]).name == 'The \\" Hall'
    assert sip.number(message, "Max-Forwards") == 42
    assert sip.sequence(message) == 31
    via = sip.top_via(message)
    assert (via.transport, via.host, via.parameters["branch"]) == ("UDP", "192.0.2.7", "z9hG4bKa1")
    assert len(sip.values(message, "Via")) == 3
    assert sip.tokens(message, "Supported") == ["replaces", "timer"]
    assert sip.values(message, "Contact") == ['"A \\"B\\", C" <sip:hall@192.0.2.7>;one=1;two ; q = 0.5']
    assert message.body == b"abcd"


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_either_line_end(end: str) -> None:
    body = b"v=0\r\n\r\n\n\nx"
    assert request(raw(body=body, end=end)).body == body


def test_line_ends_before_the_message_do_not_matter() -> None:
    assert request(b"\r\n\r\n\n" + raw()).method == "INVITE"


def test_a_method_may_be_any_token_and_has_its_case() -> None:
    method = "Sing-2_the.*song*!~+`'%now"
    message = request(raw(f"{method} sip:bob@example.com SIP/2.0", {"CSeq": f"1 {method}"}))
    assert message.method == method
    assert request(raw("invite sip:a@b SIP/2.0", {"CSeq": "1 invite"})).method == "invite"


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:bob@example.com", "bob", "example.com", None),
        ("SIP:bob@Example.COM:5070", "bob", "Example.COM", 5070),
        ("sips:example.com", None, "example.com", None),
        ("sip:un_der@my_host.local", "un_der", "my_host.local", None),
        ("sip:[2001:db8::10]:5070", None, "[2001:db8::10]", 5070),
        ("sip:bob@[::ffff:192.0.2.1]", "bob", "[::ffff:192.0.2.1]", None),
        ("sip:a~(b!c)&d=e+f$g/h?,;;*:&i@example.com", "a~(b!c)&d=e+f$g/h?,;;*", "example.com", None),
        ("sip:x%3Ay%40z@example.net", "x:y@z", "example.net", None),
        ("sip:a%00b@example.com", "a%00b", "example.com", None),
        ("sip:a%0d%0aVia:b@example.com", "a%0d%0aVia", "example.com", None),
        ("sip:b%C3%B6b@example.com", "böb", "example.com", None),
        ("sip:böb@example.com", "böb", "example.com", None),
        ("sip:+49-(30)-12.34;ext=3@gw.example.org;user=phone", "+49-(30)-12.34;ext=3", "gw.example.org", None),
        ("tel:+49(30)123-45", "+49(30)123-45", "", None),
        ("TEL:911;phone-context=example.com", "911", "", None),
        ("sip:bob@example.com?Replaces=x%40y&a=b", "bob", "example.com", None),
    ],
)
def test_addresses(text: str, user: str | None, host: str, port: int | None) -> None:
    uri = sip.uri_of(text)
    assert (uri.user, uri.host, uri.port) == (user, host, port)
    assert str(uri).lower() == text.partition("?Replaces")[0].lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bob",
        "sip:",
        "sip:bob@",
        "sip:bob@example.com:99999",
        "sip:bob@example.com:0",
        "sip:bob@example.com:",
        "sip:bob@exa mple.com",
        "sip:bob@example.com; lr",
        "sip:bob@2001:db8::10",
        "sip:a@b@c",
        "sip:bob@example.com;a=<x>",
        "http://example.com/",
        "unheard:of",
        "tel:",
        "tel:()-",
        "sip:" + "a" * sip.MAX_URI_CHARS + "@example.com",
        "sip:bob@[::1",
        "sip:bob@example.com;=x",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(MessageError):
        sip.uri_of(text)


def test_an_address_keeps_its_text() -> None:
    text = "sip:b%6fb:p%20w@Example.com;Transport=TCP;maddr=192.0.2.1"
    uri = sip.uri_of(text)
    assert str(uri) == text
    assert (uri.user, uri.password) == ("bob", "p w")
    assert uri.parameters["transport"] == "TCP"
    assert sip.hop_of(uri) == Hop("tcp", "Example.com", 5060)


@pytest.mark.parametrize(
    ("text", "name", "user", "tag"),
    [
        ("sip:a@b;tag=1", "", "a", "1"),
        ("<sip:a@b;tag=2>;tag=1", "", "a", "1"),
        ("A B <sip:a@b> ; TAG=1", "A B", "a", "1"),
        ('"<sip:x@y>;tag=9, \\" \\\\" <sip:a@b>;tag=1', '<sip:x@y>;tag=9, " \\', "a", "1"),
        ('"Ñandú ☎" <sip:a@b>;tag=1', "Ñandú ☎", "a", "1"),
        ('""<sip:a@b>;x=";tag=9";tag=1;;', "", "a", "1"),
        ('<sip:a@b>;tag="1"', "", "a", "1"),
        ("<sip:a@b>;tag=%41", "", "a", "%41"),
        ("<sip:a@b>;x;tag", "", "a", None),
        ("<sip:a,b@c>", "", "a,b", None),
        ("<sip:a@b>;self=1;tag=1", "", "a", "1"),
    ],
)
def test_names_and_addresses(text: str, name: str, user: str, tag: str | None) -> None:
    address = sip.address_of(text)
    assert (address.name, address.uri.user, address.parameters.get("tag")) == (name, user, tag)


@pytest.mark.parametrize(
    "text",
    [
        '"Mr. J <sip:a@b>',
        "Desk, Front <sip:a@b",
        "<>",
        "*",
        "",
        '<sip:a@b>;x="',
        '<sip:a@b>;x=a"b"',
        "<sip:a@b>;x=<",
        "<sip:a@b>;=1",
    ],
)
def test_what_is_no_name_and_address(text: str) -> None:
    with pytest.raises(MessageError):
        sip.address_of(text)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("a, b,c", ["a", "b", "c"]),
        (" , a ,, ", ["a"]),
        ("", []),
        ('"x,y" <sip:a,b@c>, <sip:d>', ['"x,y" <sip:a,b@c>', "<sip:d>"]),
        ('"\\",\\\\", b', ['"\\",\\\\"', "b"]),
        ('"never closed, b', ['"never closed, b']),
        ("<never closed, b", ["<never closed, b"]),
        ('<sip:a"b>, "c"', ['<sip:a"b>', '"c"']),
        ('"ends\\', ['"ends\\']),
    ],
)
def test_lists_are_cut_at_commas_that_separate(line: str, parts: list[str]) -> None:
    assert list(sip.split_list(line)) == parts


def test_repeated_headers_are_one_list_in_order() -> None:
    message = request(raw(START, None, "Route: <sip:r1;lr>, <sip:r2;lr>", "ROUTE: <sip:r3;lr>"))
    assert sip.values(message, "Route") == ["<sip:r1;lr>", "<sip:r2;lr>", "<sip:r3;lr>"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0", 0),
        ("1800;refresher=uac", 1800),
        ("2147483647", 2_147_483_647),
        ("4294967295", 4_294_967_295),
        ("12345678901", None),
        ("-1", None),
        ("", None),
        ("x", None),
        ("٣", None),
    ],
)
def test_numbers(value: str, found: int | None) -> None:
    assert sip.number(request(raw(START, None, f"RSeq: {value}")), "RSeq") == found


@pytest.mark.parametrize(
    ("line", "code", "phrase"),
    [
        ("SIP/2.0 200 OK", 200, "OK"),
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 100", 100, ""),
        ("sip/2.0  183   Session  Progress", 183, "  Session  Progress"),
        ("SIP/2.0 200 всё (в) порядке = ☎: 1, 2;", 200, "всё (в) порядке = ☎: 1, 2;"),
        ("SIP/2.0 699 x", 699, "x"),
    ],
)
def test_status_lines(line: str, code: int, phrase: str) -> None:
    message = response(raw(line))
    assert (message.code, message.phrase) == (code, phrase)


@pytest.mark.parametrize("code", ["099", "700", "20", "2000", "9999999999", "٢٠٠", "-12", "abc", ""])
def test_impossible_codes(code: str) -> None:
    with pytest.raises(MessageError):
        sip.parse(raw(f"SIP/2.0 {code} x"))


def test_bytes_that_are_no_utf8() -> None:
    message = request(raw(START, {"From": "FROM"}).replace(b"FROM", b'"\xe9\xff" <sip:a@b>;tag=1', 1))
    assert sip.address_of(message.headers["From"]).name == "éÿ"
    assert isinstance(sip.parse(sip.write(sip.response(message, 200))), Response)


def test_a_body_may_be_anything() -> None:
    body = bytes(range(256)) * 4
    assert request(raw(START, {"Content-Length": str(len(body))}, body=body)).body == body


def test_what_follows_the_body_in_a_datagram_is_dropped() -> None:
    assert request(raw(START, {"Content-Length": "3"}, body=b"abcINVITE")).body == b"abc"


def test_a_request_of_many_values_nobody_knows() -> None:
    message = request(
        raw(
            "OPTIONS sip:u@example.com;nobody;knows=x%20y SIP/2.0",
            {
                "CSeq": "5 OPTIONS",
                "Contact": None,
                "Via": "SIP/2.0/TLS-SCTP t1.example.com;rport;branch=z9hG4bK1;knot",
            },
            "X-Later:   value\r\n continued, \x01 : ;;,, \x7f",
            "Empty:",
            "X-\u00fc: \u2028",
        )
    )
    assert message.headers["X-Later"].startswith("value continued")
    assert sip.top_via(message).transport == "TLS-SCTP"
    assert "knot" in sip.top_via(message).parameters


# What is wrong, and whether it can be answered

ANSWERABLE: dict[str, bytes] = {
    "no Max-Forwards is fine, but no CSeq number is not": raw(START, {"CSeq": "INVITE"}),
    "CSeq of another method": raw(START, {"CSeq": "1 OPTIONS"}),
    "CSeq too large": raw(START, {"CSeq": "98765432109876543210 INVITE"}),
    "CSeq just too large": raw(START, {"CSeq": f"{1 << 31} INVITE"}),
    "CSeq negative": raw(START, {"CSeq": "-1 INVITE"}),
    "From without a tag": raw(START, {"From": "<sip:a@b>"}),
    "From that is no address": raw(START, {"From": '"Mr <sip:a@b>;tag=1'}),
    "To that is no address": raw(START, {"To": "bob"}),
    "To twice": raw(START, None, "t: <sip:c@d>"),
    "To with an empty tag": raw(START, {"To": "<sip:b@c>;tag="}),
    "To with a tag without a value": raw(START, {"To": "<sip:b@c>;tag"}),
    "To with a quote that nobody closes": raw(START, {"To": '<sip:b@c>;x="'}),
    "Call-ID twice": raw(START, None, "Call-ID: other"),
    "Call-ID too long": raw(START, {"Call-ID": "c" * (sip.MAX_ID_CHARS + 1)}),
    "tag too long": raw(START, {"From": f"<sip:a@b>;tag={'t' * (sip.MAX_ID_CHARS + 1)}"}),
    "branch too long": raw(START, {"Via": f"SIP/2.0/UDP h;branch=z9hG4bK{'b' * sip.MAX_ID_CHARS}"}),
    "a line without a colon": raw(START, None, "NoColonHere"),
    "a name with a space": raw(START, None, "Two words: x"),
    "a line without a name": raw(START, None, ": x"),
    "a line without a colon before all others": raw(START + "\r\nNoColonHere"),
    "body shorter than said": raw(START, {"Content-Length": "9999"}, body=b"x"),
    "a negative length": raw(START, {"Content-Length": "-5"}),
    "a length in words": raw(START, {"Content-Length": "five"}, body=b"12345"),
    "an empty length": raw(START, {"Content-Length": ""}),
    "a length in other digits": raw(START, {"Content-Length": "٣"}, body=b"123"),
    "a length of many digits": raw(START, {"Content-Length": "0" * 10 + "9" * 20}, body=b"123"),
    "two lengths": raw(START, {"Content-Length": "1"}, "l: 2", body=b"ab"),
    "a version of the future": raw("INVITE sip:bob@example.com SIP/3.0"),
}

HOPELESS: dict[str, bytes] = {
    "nothing": b"",
    "line ends": b"\r\n\r\n",
    "no end of headers": raw()[:-2],
    "no Via": raw(START, {"Via": None}),
    "a Via of another protocol": raw(START, {"Via": "HTTP/1.1 example.com"}),
    "a Via with an impossible port": raw(START, {"Via": "SIP/2.0/UDP 192.0.2.1:65536;branch=z9hG4bK1"}),
    "a Via with a strange host": raw(START, {"Via": "SIP/2.0/UDP ex<>ample;branch=z9hG4bK1"}),
    "a Via whose parameter has no name": raw(START, {"Via": "SIP/2.0/UDP example.com;=z9hG4bK1"}),
    "no From": raw(START, {"From": None}),
    "no To": raw(START, {"To": None}),
    "no Call-ID": raw(START, {"Call-ID": None}),
    "an empty Call-ID": raw(START, {"Call-ID": ""}),
    "no CSeq": raw(START, {"CSeq": None}),
    "an ACK is never answered": raw("ACK sip:a@b SIP/2.0", {"CSeq": "1 INVITE"}),
    "another protocol": raw("GET / HTTP/1.1"),
    "no version": raw("INVITE sip:bob@example.com"),
    "a method that is no token": raw('IN"VITE sip:bob@example.com SIP/2.0'),
    "a method too long": raw(f"{'M' * 33} sip:bob@example.com SIP/2.0"),
    "only a version": raw("SIP/2.0"),
    "a zero byte": raw(START, {"Subject": "a\0b"}),
    "a header too long": raw(START, {"Subject": "x" * sip.MAX_HEADER_CHARS}),
    "a folded header too long": raw(START, {"Subject": "x" * 1000 + ("\r\n " + "x" * 1000) * 4}),
    "too many headers": raw(START, None, *["Z: y"] * sip.MAX_HEADERS),
    "too many bytes": raw(START, None, body=b"x" * sip.MAX_MESSAGE_BYTES),
    "a response without CSeq": raw("SIP/2.0 200 OK", {"CSeq": None}),
    "a response with a line that is none": raw("SIP/2.0 200 OK", None, "NoColonHere"),
    "a response with two lengths": raw("SIP/2.0 200 OK", {"Content-Length": "1"}, "l: 2", body=b"ab"),
    "a folded start line": raw("INVITE sip:bob@example.com SIP/2.0\r\n x")[:60] + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERABLE)
def test_a_bad_request_that_can_be_answered(name: str) -> None:
    with pytest.raises(MessageError) as caught:
        sip.parse(ANSWERABLE[name])
    asked = caught.value.request
    assert asked is not None
    answer = sip.response(asked, 400, str(caught.value), tag="t1")
    printed = sip.write(answer).decode()
    assert printed.startswith("SIP/2.0 400 ")
    assert "Via: SIP/2.0/UDP" in printed
    assert "\r\nCSeq: " in printed


@pytest.mark.parametrize("name", HOPELESS)
def test_a_bad_message_that_gets_no_answer(name: str) -> None:
    with pytest.raises(MessageError) as caught:
        sip.parse(HOPELESS[name])
    assert caught.value.request is None


@pytest.mark.parametrize("target", ["nobody:knows", "<sip:a@b>", "sip:a@b; lr", "sip:a@b?Route=%3Csip:x%3E@", "*"])
def test_a_request_for_something_unreadable_is_still_a_request(target: str) -> None:
    message = request(raw(f"INVITE {target} SIP/2.0"))
    assert message.uri.scheme == sip.UNKNOWN
    assert sip.write(message).startswith(f"INVITE {target} SIP/2.0\r\n".encode())


def test_an_old_client_needs_no_tag_in_from() -> None:
    """RFC 2543: no magic in the branch."""
    message = request(raw(START, {"From": "<sip:a@b>", "Via": "SIP/2.0/UDP 192.0.2.1"}))
    assert sip.from_tag(message) == ""


def test_one_length_said_twice_is_one_length() -> None:
    assert request(raw(START, {"Content-Length": "2"}, "l: 2", body=b"abc")).body == b"ab"


def test_limits_are_for_what_is_beyond_them() -> None:
    fits = sip.MAX_HEADERS - len(BASE) - 1
    assert request(raw(START, None, *["Z: y"] * fits)).headers.getlist("Z") == ["y"] * fits
    assert request(raw(START, {"S": "x" * (sip.MAX_HEADER_CHARS - 3)})).headers["Subject"]
    size = len(raw())
    assert request(raw(body=b"x" * (sip.MAX_MESSAGE_BYTES - size)))


# Writing


def test_a_response_repeats_what_belongs_to_it() -> None:
    asked = request(
        raw(START, {"Via": "SIP/2.0/UDP p.example.com;branch=z9hG4bKp , SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"})
    )
    answer = sip.response(asked, 486, tag="t1")
    assert sip.values(answer, "Via") == sip.values(asked, "Via")
    for name in ("From", "Call-ID", "CSeq"):
        assert answer.headers[name] == BASE[name]
    assert answer.headers["To"] == "<sip:bob@example.com>;tag=t1"
    assert answer.phrase == "Busy Here"
    assert sip.response(asked, 100).headers["To"] == "<sip:bob@example.com>"


@pytest.mark.parametrize(
    ("to", "tagged"),
    [
        ("<sip:b@c>;tag=x", False),
        ("<sip:b@c> ; TAG = x", False),
        ("sip:b@c;tag=x", False),
        ('"n" <sip:b@c;tag=x>', True),
        ('";tag=x" <sip:b@c>', True),
        ("<sip:b@c>;stag=x", True),
        ('<sip:b@c>;x=";tag=x"', True),
    ],
)
def test_a_tag_is_added_where_there_is_none(to: str, tagged: bool) -> None:
    answer = sip.response(request(raw(START, {"To": to})), 200, tag="mine")
    assert answer.headers["To"] == to + (";tag=mine" if tagged else "")
    assert sip.to_tag(answer) == ("mine" if tagged else "x")


def test_a_request_is_printed_and_read_again() -> None:
    made = sip.request("INFO", "sip:bob@[2001:db8::1]:5070;transport=tcp")
    for name, value in (BASE | {"CSeq": "1 INFO"}).items():
        made.headers.set(name, value)
    made.body = "Signal=ü\r\n".encode()
    read = request(sip.write(made))
    assert (str(read.uri), read.body) == (str(made.uri), made.body)
    assert read.headers["Content-Length"] == "11"


def test_a_copy_stands_for_itself() -> None:
    first = request(raw(START, None, "Route: <sip:a;lr>", "Route: <sip:b;lr>", body=b"x"))
    second = sip.copied(first)
    first.headers.set("CSeq", "2 INVITE")
    first.headers.getlist("Route").pop()
    assert second.headers["CSeq"] == "1 INVITE"
    assert second.headers.getlist("Route") == ["<sip:a;lr>", "<sip:b;lr>"]
    assert (second.method, second.uri, second.body) == (first.method, first.uri, first.body)


# Where responses go (18.2, RFC 3581)

VIA = "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1"
FROM_OUTSIDE = Hop("udp", "192.0.2.9", 40_000)


@pytest.mark.parametrize(
    ("via", "hop", "written", "reply"),
    [
        (VIA, FROM_OUTSIDE, f"{VIA};received=192.0.2.9", Hop("udp", "192.0.2.9", 5070)),
        (
            VIA.replace(":5070", ""),
            FROM_OUTSIDE,
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;received=192.0.2.9",
            Hop("udp", "192.0.2.9", 5060),
        ),
        (f"{VIA};rport", FROM_OUTSIDE, f"{VIA};rport=40000;received=192.0.2.9", FROM_OUTSIDE),
        (f"{VIA} ; RPort ;", FROM_OUTSIDE, f"{VIA};rport=40000;received=192.0.2.9", FROM_OUTSIDE),
        (f"{VIA};rport=1;received=1.2.3.4", FROM_OUTSIDE, f"{VIA};rport=40000;received=192.0.2.9", FROM_OUTSIDE),
        (f"{VIA};;;", FROM_OUTSIDE, f"{VIA};received=192.0.2.9", Hop("udp", "192.0.2.9", 5070)),
        (f'{VIA};x=";rport;received=y"', Hop("udp", "10.0.0.1", 5070), f'{VIA};x=";rport;received=y"', None),
        (VIA, Hop("udp", "10.0.0.1", 5070), VIA, Hop("udp", "10.0.0.1", 5070)),
        (
            f"{VIA};rport",
            Hop("udp", "10.0.0.1", 5070),
            f"{VIA};rport=5070;received=10.0.0.1",
            Hop("udp", "10.0.0.1", 5070),
        ),
        (
            "SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bK1",
            Hop("udp", "2001:db8::9", 1),
            "SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bK1",
            Hop("udp", "2001:db8::9", 5070),
        ),
        (VIA, Hop("tcp", "192.0.2.9", 40_000, 7), f"{VIA};received=192.0.2.9", Hop("tcp", "192.0.2.9", 40_000, 7)),
    ],
)
def test_responses_go_where_the_request_came_from(via: str, hop: Hop, written: str, reply: Hop | None) -> None:
    message = request(raw(START, {"Via": f"{via}, SIP/2.0/UDP 10.0.0.2;rport"}))
    sip.received_from(message, hop)
    assert sip.values(message, "Via") == [written, "SIP/2.0/UDP 10.0.0.2;rport"]
    assert sip.reply_hop(message, hop) == (reply or hop)
    # Whatever was said, the Via can still be read, and a second time changes nothing.
    sip.received_from(message, hop)
    assert sip.values(message, "Via")[0] == written
    assert server_key(message)


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:example.com", Hop("udp", "example.com", 5060)),
        ("sip:example.com:5070;transport=TCP", Hop("tcp", "example.com", 5070)),
        ("sip:example.com;transport=tls", Hop("tls", "example.com", 5061)),
        ("sips:example.com", Hop("tls", "example.com", 5061)),
        ("sips:example.com:5070;transport=tcp", Hop("tls", "example.com", 5070)),
        ("sip:[2001:db8::1]:5070", Hop("udp", "2001:db8::1", 5070)),
        ("sip:example.com;transport=carrier-pigeon", Hop("udp", "example.com", 5060)),
        ("sip:example.com;transport", Hop("udp", "example.com", 5060)),
    ],
)
def test_requests_go_where_the_address_says(uri: str, hop: Hop) -> None:
    assert sip.hop_of(sip.uri_of(uri)) == hop


# Work grows with the length, and no faster

EVIL: dict[str, Callable[[int], str]] = {
    "spaces": lambda n: "a" + " " * n + "\x01",
    "spaces after a host": lambda n: "SIP/2.0/UDP h" + " " * n + "x",
    "spaces before the port": lambda n: "SIP/2.0/UDP h :" + " " * n + "x",
    "hosts": lambda n: "SIP/2.0/UDP " + "a-." * (n // 3) + "!",
    "semicolons": lambda n: "<sip:a@b>" + ";" * n + "=",
    "parameters": lambda n: "sip:a@b" + ";a=b" * (n // 4) + "<",
    "spaced parameters": lambda n: "<sip:a@b>" + " ; tag" * (n // 6) + "\x01=",
    "received": lambda n: "SIP/2.0/UDP h;received=" + ";received" * (n // 9),
    "quotes": lambda n: '"' * n + "<",
    "backslashes": lambda n: '"' + "\\" * n + "<sip:a@b>",
    "open brackets": lambda n: "<" * n + "sip:a@b",
    "close brackets": lambda n: "<sip:a@b" + ">" * n,
    "commas": lambda n: "," * n + '"',
    "digits": lambda n: "tel:" + "1" * n + "!",
    "signs": lambda n: "tel:+" + "(" * n,
    "escapes": lambda n: "sip:" + "%" * n + "@b@",
    "colons": lambda n: "sip:[" + ":" * n,
    "equals": lambda n: "Digest a" + "=" * n,
    "digest": lambda n: "Digest " + 'a = "\\" ' * (n // 8),
    "digest spaces": lambda n: "Digest a" + " " * n + "b",
    "line ends": lambda n: "\n" * n + "x",
    "indented lines": lambda n: " \n" * (n // 2) + "signal" + " " * n,
    "dashes": lambda n: "\n--a" * (n // 4),
    "replaces": lambda n: "<sip:a@b?Replaces=" + "a%3B" * (n // 4) + ">",
    "refresher": lambda n: "90" + ";refresher=" * (n // 11),
}


def _info(text: str, kind: str) -> Request:
    made = Request("INFO", sip.uri_of("sip:a@b"))
    made.headers.set("Content-Type", kind)
    made.body = text.encode()
    return made


def _headed(name: str, text: str) -> Request:
    made = Request("INFO", sip.uri_of("sip:a@b"))
    made.headers.set(name, text)
    return made


READERS: dict[str, Callable[[str], object]] = {
    "uri_of": sip.uri_of,
    "address_of": sip.address_of,
    "split_list": lambda text: list(sip.split_list(text)),
    "parameters_of": sip.parameters_of,
    "top_via": lambda text: sip.top_via(_headed("Via", text)),
    "received_from": lambda text: sip.received_from(_headed("Via", text), FROM_OUTSIDE),
    "parse": lambda text: sip.parse(raw(START, {"Via": text, "From": text, "To": text})),
    "response": lambda text: sip.response(_headed("To", text), 200, tag="x"),
    "digest": auth.parameters,
    "relayed digit": lambda text: bodies.digit(_info(text, bodies.DTMF_RELAY)),
    "digit": lambda text: bodies.digit(_info(text, bodies.DTMF)),
    "multipart": lambda text: bodies.description(_info(text, "multipart/mixed; boundary=a")),
    "multipart type": lambda text: bodies.description(_info("x", f"multipart/mixed;{text}")),
    "fragment": lambda text: bodies.fragment(_info(f"SIP/2.0{text}", bodies.FRAGMENT)),
    "refer": refer.read,
    "refresh": lambda text: refresh._read(_headed("Session-Expires", text)),
    "framer": lambda text: list(sip.Framer().feed(text.encode())),
}


def _cpu_ms(read: Callable[[str], object], text: str) -> float:
    """The least of three."""
    took = []
    for _ in range(3):
        started = time.process_time()
        with contextlib.suppress(MessageError, bodies.Unsupported, KeyError):
            read(text)
        took.append((time.process_time() - started) * 1000)
    return min(took)


@pytest.mark.parametrize("reader", READERS)
def test_work_is_linear(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the text: what is linear takes about eight times as long, what is quadratic sixty-four."""
    for limit in ("MAX_URI_CHARS", "MAX_HEADER_CHARS", "MAX_MESSAGE_BYTES", "MAX_ID_CHARS"):
        monkeypatch.setattr(sip, limit, 1 << 30)
    read = READERS[reader]
    small, large = 4096, 8 * 4096
    for name, evil in EVIL.items():
        short_ms, long_ms = _cpu_ms(read, evil(small)), _cpu_ms(read, evil(large))
        assert long_ms < 30 * max(short_ms, 1), f"{name}: {short_ms:.1f} ms, then {long_ms:.1f} ms"
