"""The TwiML answer and the signature check, against Twilio's published examples and hostile requests."""

from urllib.parse import urlencode
from xml.etree import ElementTree

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import SecretStr

from app.api.twilio import (
    MAX_ATTACHES,
    MAX_BODY_BYTES,
    MAX_FIELDS,
    MAX_PARAMETER_CHARS,
    check_stream,
    is_signed,
    read_form,
    router,
    sign,
    stream_twiml,
)
from app.settings import Settings, Token
from media.gateway import LegRequest, Refused

SECRET = "12345"
PUBLIC = "https://voice.example.com"
FORM = {"CallSid": "CA0123", "From": "+15550100", "To": "+15550199", "Digits": ""}
EXAMPLE_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
EXAMPLE = [
    ("To", "+18005551212"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("Caller", "+14158675309"),
    ("CallSid", "CA1234567890ABCDE"),
]


class Site:
    """The router, asked as Twilio would."""

    def __init__(self, auth_token: str = "", public_url: str = PUBLIC) -> None:
        self.over: set[str] = set()
        app = FastAPI()
        settings = Settings(twilio_auth_token=SecretStr(auth_token), public_url=public_url)
        app.include_router(router(settings, lambda call: call in self.over))
        self._transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 1))

    async def post(
        self,
        path: str = "/twilio/voice",
        form: dict[str, str] | None = None,
        content: bytes | None = None,
        **headers: str,
    ) -> httpx2.Response:
        sent = {"Content-Type": "application/x-www-form-urlencoded"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        body = urlencode(FORM if form is None else form).encode() if content is None else content
        async with httpx2.AsyncClient(transport=self._transport, base_url="http://inside:8080") as client:
            return await client.post(path, content=body, headers=sent)


def stream(answer: httpx2.Response) -> tuple[str, dict[str, str], str]:
    """The stream's URL, its parameters, and where the next verb leads."""
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    root = ElementTree.fromstring(answer.content)
    assert [child.tag for child in root] == ["Connect", "Redirect"]
    found = root[0][0]
    assert (found.tag, root[1].get("method")) == ("Stream", "POST")
    return found.get("url", ""), {p.get("name", ""): p.get("value", "") for p in found}, root[1].text or ""


def hangs_up(answer: httpx2.Response) -> bool:
    return [child.tag for child in ElementTree.fromstring(answer.content)] == ["Hangup"]


async def test_the_answer_connects_the_call_and_leads_back() -> None:
    assert stream(await Site().post()) == (
        "wss://voice.example.com/ws/twilio",
        {"caller": "+15550100", "called": "+15550199"},
        "https://voice.example.com/twilio/voice?attach=1",
    )
    url, _, again = stream(await Site().post("/twilio/voice/clinic"))
    assert (url, again) == (
        "wss://voice.example.com/ws/twilio/clinic",
        "https://voice.example.com/twilio/voice/clinic?attach=1",
    )


async def test_a_lost_stream_attaches_again_until_the_call_is_over() -> None:
    site = Site()
    _, _, again = stream(await site.post("/twilio/voice/clinic"))
    _, _, again = stream(await site.post(again.removeprefix(PUBLIC)))
    assert again.endswith("?attach=2")
    site.over.add(FORM["CallSid"])
    assert hangs_up(await site.post(again.removeprefix(PUBLIC)))
    other = {**FORM, "CallSid": "CAother"}
    assert not hangs_up(await site.post(again.removeprefix(PUBLIC), form=other))
    assert not hangs_up(await site.post()), "a call that only begins cannot be over"


@pytest.mark.parametrize("attach", [str(MAX_ATTACHES), "999", "-1", "x", "9" * 5000, "٣"])
async def test_it_does_not_go_round_for_ever(attach: str) -> None:
    assert hangs_up(await Site().post(f"/twilio/voice?{urlencode({'attach': attach})}"))


async def test_without_a_public_url_the_requests_own_host_is_taken() -> None:
    url, _, again = stream(await Site(public_url="").post(Host="here.example:8443"))
    assert (url, again) == ("ws://here.example:8443/ws/twilio", "http://here.example:8443/twilio/voice?attach=1")
    for host in ('evil"/><Dial>+1900</Dial>', "a b", "user@host", "[::1", "host:port", "x" * 300):
        assert (await Site(public_url="").post(Host=host)).status_code == 400


async def test_what_callers_send_cannot_leave_its_attribute() -> None:
    caller = "\"/><Dial>&'\x00\x1b\u202e" + "é" * 2 + "x" * 1000
    _, parameters, _ = stream(await Site().post(form={**FORM, "From": caller}))
    assert parameters["caller"].startswith("\"/><Dial>&'éé")
    assert len(parameters["caller"]) <= MAX_PARAMETER_CHARS
    root = ElementTree.fromstring(stream_twiml(PUBLIC, "a&b", {"<": '"'}))
    assert root[0][0].get("url") == "wss://voice.example.com/ws/twilio/a&b"


@pytest.mark.parametrize("flow", ["a.b", "a%2Fb", "..%2Fx", "%22", "x" * 101, "fl%C3%B6w"])
async def test_a_flow_is_named_by_plain_characters(flow: str) -> None:
    assert (await Site().post(f"/twilio/voice/{flow}")).status_code in (404, 422)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"CallSid=", 400),
        (b"CallSid=CA1/../x", 400),
        (b"CallSid=%ff%fe", 400),
        (b"CallSid=\xff", 400),
        (b"CallSid=CA1&x" * (MAX_FIELDS + 1), 400),
        (b"CallSid=" + b"x" * MAX_BODY_BYTES, 413),
    ],
)
async def test_bodies_that_are_not_ours(content: bytes, status: int) -> None:
    assert (await Site().post(content=content)).status_code == status


async def test_only_forms_are_read() -> None:
    assert (await Site().post(Content_Type="application/json")).status_code == 415
    assert (await Site().post(Content_Type="multipart/form-data; boundary=x")).status_code == 415
    stream(await Site().post(Content_Type="application/x-www-form-urlencoded; charset=utf-8"))


# Signatures


def test_published_examples() -> None:
    """The example of Twilio's documentation, and the one of its libraries with a repeated parameter."""
    assert sign(SECRET, EXAMPLE_URL, EXAMPLE) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    repeated = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")]
    assert sign(SECRET, EXAMPLE_URL, repeated) == "IK+Dwps556ElfBT0I3Rgjkr1wJU="


@pytest.mark.parametrize(
    ("secret", "url", "pairs", "signature"),
    [
        ("12346", EXAMPLE_URL, EXAMPLE, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (SECRET, EXAMPLE_URL + "&x=1", EXAMPLE, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (SECRET, EXAMPLE_URL, EXAMPLE[1:], "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (SECRET, EXAMPLE_URL, [*EXAMPLE, ("x", "")], "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (SECRET, EXAMPLE_URL, EXAMPLE, "RSOYDt4T1cUTdK1PDd93/VVr8B8"),
        (SECRET, EXAMPLE_URL, EXAMPLE, ""),
        (SECRET, EXAMPLE_URL, EXAMPLE, "é\ud800"),
    ],
)
def test_anything_changed_is_refused(secret: str, url: str, pairs: list[tuple[str, str]], signature: str) -> None:
    assert is_signed(SECRET, EXAMPLE_URL, EXAMPLE, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert not is_signed(secret, url, pairs, signature)


@pytest.mark.parametrize(
    ("signed", "seen"),
    [
        ("https://a.example/x", "https://a.example:443/x"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("https://a.example/x", "https://a.example:8443/x"),
        ("wss://a.example:443/x", "wss://a.example/x"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]:8443/x"),
        ("https://[2001:db8::1]:443/x", "https://[2001:db8::1]/x"),
    ],
)
def test_the_port_may_be_named_or_not(signed: str, seen: str) -> None:
    assert is_signed(SECRET, seen, [], sign(SECRET, signed, []))
    assert not is_signed(SECRET, seen, [], sign(SECRET, signed.replace("a.example", "b.example") + "y", []))


async def test_who_goes_away_within_a_form_is_no_fault_of_ours() -> None:
    messages: list[dict[str, object]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"a=", "more_body": True},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop()

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    with pytest.raises(HTTPException, match="did not come to its end"):
        await read_form(Request({"type": "http", "headers": headers}, receive))


async def test_with_an_auth_token_only_signed_requests_are_answered() -> None:
    site = Site(auth_token=SECRET)
    for path in ("/twilio/voice", "/twilio/voice/clinic", "/twilio/voice/clinic?attach=3&x=%20y"):
        good = sign(SECRET, PUBLIC + path, list(FORM.items()))
        stream(await site.post(path, X_Twilio_Signature=good))
        assert (await site.post(path)).status_code == 403
        assert (
            await site.post(path, X_Twilio_Signature=sign("x", PUBLIC + path, list(FORM.items())))
        ).status_code == 403
        other = path + ("&" if "?" in path else "?") + "z=1"
        assert (await site.post(other, X_Twilio_Signature=good)).status_code == 403
        tampered = {**FORM, "From": "+1900"}
        assert (await site.post(path, form=tampered, X_Twilio_Signature=good)).status_code == 403


def leg(url: str, signature: str = "", peer: str = "203.0.113.9", **headers: str) -> LegRequest:
    sent = {"x-twilio-signature": signature} if signature else {}
    return LegRequest(transport="twilio", rate_hz=8000, url=url, peer=peer, headers=sent | headers)


def test_a_stream_is_signed_by_its_public_address() -> None:
    settings = Settings(twilio_auth_token=SecretStr(SECRET), public_url=PUBLIC)
    good = sign(SECRET, "wss://voice.example.com/ws/twilio/clinic", [])
    check_stream(settings, leg("ws://127.0.0.1:8080/ws/twilio/clinic", good))
    for bad in [
        leg("ws://127.0.0.1:8080/ws/twilio/other", good),
        leg("ws://127.0.0.1:8080/ws/twilio/clinic?x=1", good),
        leg("ws://127.0.0.1:8080/ws/twilio/clinic"),
        leg("ws://127.0.0.1:8080/ws/twilio/clinic", peer="127.0.0.1"),
        leg("wss://voice.example.com/ws/twilio/clinic", sign("other", "wss://voice.example.com/ws/twilio/clinic", [])),
    ]:
        with pytest.raises(Refused, match="the signature is not valid"):
            check_stream(settings, bad)


def test_without_an_auth_token_only_local_streams_are_taken() -> None:
    url = "ws://127.0.0.1:8080/ws/twilio"
    check_stream(Settings(), leg(url, peer="127.0.0.1"))
    token = Token.model_validate({"name": "n", "role": "admin", "token": "x" * 20})
    for settings, bad in [
        (Settings(tokens=(token,)), leg(url)),
        (Settings(), leg(url, peer="127.0.0.1", **{"x-forwarded-for": "203.0.113.9"})),
        (Settings(public_url=PUBLIC, tokens=(token,)), leg(url, peer="127.0.0.1")),
    ]:
        with pytest.raises(Refused, match="no Twilio auth token"):
            check_stream(settings, bad)
