"""Bodies: descriptions, keys, fragments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sipmessage import Request

from media.sip import bodies
from media.sip import message as sip

SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"


def having(body: str | bytes, kind: str) -> Request:
    made = sip.request("INFO", "sip:a@b")
    if kind:
        made.headers.set("Content-Type", kind)
    made.body = body.encode() if isinstance(body, str) else body
    return made


def parts(*contents: tuple[str, str], boundary: str = "cut", end: str = "\r\n") -> str:
    """Of (headers, content)."""
    made = [f"--{boundary}{end}{head}{end if head else ''}{end}{content}" for head, content in contents]
    return end.join([*made, f"--{boundary}--"])


@pytest.mark.parametrize("kind", ["application/sdp", "Application/SDP; charset=utf-8", " application/sdp "])
def test_a_description_alone(kind: str) -> None:
    assert bodies.description(having(SDP, kind)) == SDP


@pytest.mark.parametrize("body", ["", "\r\n", "  \n"])
@pytest.mark.parametrize("kind", ["application/sdp", "text/plain", ""])
def test_no_body_is_no_description(body: str, kind: str) -> None:
    assert bodies.description(having(body, kind)) == ""


@pytest.mark.parametrize("kind", ["text/plain", "", "application/isup", "application/sdpx"])
def test_another_body_is_unsupported(kind: str) -> None:
    with pytest.raises(bodies.Unsupported):
        bodies.description(having("x", kind))


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("kind", ["multipart/mixed; boundary=cut", 'Multipart/Mixed;x=1;Boundary="cut"; y'])
@pytest.mark.parametrize(
    "head", ["Content-Type: application/sdp", "c:application/sdp;x=y", "X: y\r\ncontent-type :\r\n  APPLICATION/SDP"]
)
def test_a_description_among_other_parts(head: str, kind: str, end: str) -> None:
    body = parts(("", "hello"), ("Content-Type: text/plain", "--cutter\r\nx"), (head, SDP), ("", "x"), end=end)
    assert bodies.description(having("before" + end + body + end + "after", kind)) == SDP


def test_parts_within_parts() -> None:
    inner = parts(("Content-Type: text/html", "x"), ("Content-Type: application/sdp", SDP), boundary="cut1")
    body = parts(("Content-Type: multipart/alternative; boundary=cut1", inner), ("", "x"))
    assert bodies.description(having(body, "multipart/mixed; boundary=cut")) == SDP


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("--cut\r\nContent-Type: application/sdp\r\n\r\nx", "multipart/mixed"),
        ("--cut\r\nContent-Type: application/sdp\r\n\r\nx", "multipart/mixed; boundary="),
        ("--cut\r\nContent-Type: application/sdp\r\n\r\nx", "multipart/mixed; boundary=other"),
        ("--cut\r\nContent-Type: application/sdp\r\n\r\nx", 'multipart/mixed; boundary="cut'),
        ("--cut\r\nContent-Type: application/sdp\r\nx", "multipart/mixed; boundary=cut"),
        ("--cut\r\n\r\nContent-Type: application/sdp\r\n\r\nx", "multipart/mixed; boundary=cut"),
        ("--cut--", "multipart/mixed; boundary=cut"),
        (parts(*[("", "x")] * bodies.MAX_PARTS, ("c: application/sdp", SDP)), "multipart/mixed; boundary=cut"),
        (f"--{'c' * 71}\r\nc: application/sdp\r\n\r\nx", f"multipart/mixed; boundary={'c' * 71}"),
    ],
)
def test_parts_without_a_description(body: str, kind: str) -> None:
    assert bodies.description(having(body, kind)) == ""


def test_depth_is_limited() -> None:
    body = SDP
    head = "Content-Type: application/sdp"
    for depth in range(bodies.MAX_DEPTH + 1):
        body = parts((head, body), boundary=f"cut{depth}")
        head = f"Content-Type: multipart/mixed; boundary=cut{depth}"
        found = bodies.description(having(body, head.removeprefix("Content-Type: ")))
        assert found == (SDP if depth < bodies.MAX_DEPTH else "")


def test_bytes_that_are_no_text() -> None:
    assert bodies.description(having(b"v=0\xff", "application/sdp")) == "v=0\ufffd"


@given(st.binary(max_size=300), st.text(max_size=60))
def test_any_parts(body: bytes, said: str) -> None:
    bodies.description(having(body, f"multipart/mixed;{said}"))
    bodies.description(having(b"--a\n" + body.replace(b"\r", b"\n--a\r\n"), "multipart/mixed; boundary=a"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("Signal=5\r\nDuration=160\r\n", ("5", 160)),
        ("signal = # \nDURATION = 300", ("#", 300)),
        ("Signal=*", ("*", bodies.DIGIT_MS)),
        ("Signal=10\r\nDuration=100", ("*", 100)),
        ("Signal=11\r\nDuration=100", ("#", 100)),
        ("Signal=1\r\nDuration=0", ("1", bodies.MIN_DIGIT_MS)),
        ("Signal=d\r\nDuration=9999999999", ("D", bodies.MAX_DIGIT_MS)),
        ("\r\n\t Signal=0\r\nDuration=x", ("0", bodies.DIGIT_MS)),
        ("Duration=100\r\nSignal=7", ("7", 100)),
        ("Signal=12", None),
        ("Signal=E", None),
        ("Signal=", None),
        ("Signal=5 5", None),
        ("xSignal=5", None),
        ("Signal\n=5", None),
        ("", None),
    ],
)
def test_keys_relayed(body: str, found: tuple[str, int] | None) -> None:
    assert bodies.digit(having(body, "application/dtmf-relay")) == found


@pytest.mark.parametrize(
    ("body", "key"), [("5", "5"), (" a\r\n", "A"), ("11", "#"), ("10\n", "*"), ("", None), ("55", None), ("\xff", None)]
)
def test_plain_keys(body: str, key: str | None) -> None:
    assert bodies.digit(having(body, "application/dtmf")) == ((key, bodies.DIGIT_MS) if key else None)


def test_keys_of_another_kind() -> None:
    assert bodies.digit(having("Signal=5", "text/plain")) is None


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ("SIP/2.0 200 OK\r\n", "message/sipfrag;version=2.0", 200),
        ("SIP/2.0  180", "message/sipfrag", 180),
        ("SIP/2.0 700 x", "message/sipfrag", None),
        ("SIP/2.0 20", "message/sipfrag", None),
        ("To: <sip:a@b>", "message/sipfrag", None),
        ("SIP/2.0 200 OK", "text/plain", None),
    ],
)
def test_fragments(body: str, kind: str, code: int | None) -> None:
    assert bodies.fragment(having(body, kind)) == code
