"""Twilio's side of a call over real sockets: the webhook, the stream, and streams that are not Twilio's."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import aiohttp
import pytest

from app.api.twilio import sign
from app.core.events import CallFailed, Digit, PlayoutStopped
from app.demo.backend import clinic_backend
from app.demo.clinic import appointments
from app.providers.scripted import ScriptedStt
from media.websocket import server as shell
from tests.e2e.clients import Twilio, stream
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.e2e.voices import spoken

LECTURE_WORDS_PER_S = 4.0

AUTH = "twilio-auth-token"
PUBLIC = "https://voice.example.com"
SIGNED: dict[str, Any] = {
    "twilio_auth_token": AUTH,
    "public_url": PUBLIC,
    "tokens": json.dumps([{"name": "desk", "role": "admin", "token": "a-token-that-is-long-enough"}]),
}
SID = "CA00000001"
FORM = {"CallSid": SID, "From": "+15550100", "To": "+15550199"}


async def webhook(server: Server, path: str, signature: str | None) -> tuple[int, str]:
    headers = {} if signature is None else {"X-Twilio-Signature": signature}
    async with aiohttp.ClientSession() as http, http.post(server.url + path, data=FORM, headers=headers) as answer:
        return answer.status, await answer.text()


def signature(path: str, *, scheme: str = "https", form: bool = True) -> str:
    url = PUBLIC.replace("https", scheme, 1) + path
    return sign(AUTH, url, list(FORM.items()) if form else ())


def read_twiml(text: str) -> tuple[str, dict[str, str], str]:
    """The stream's path, its parameters, and where Twilio asks again afterwards."""
    response = ElementTree.fromstring(text.encode())
    found = response.find("Connect/Stream")
    again = response.find("Redirect")
    assert found is not None
    assert again is not None
    assert again.text
    url = urlsplit(found.attrib["url"])
    assert (url.scheme, url.netloc) == ("wss", "voice.example.com")
    parameters = {one.attrib["name"]: one.attrib["value"] for one in found}
    return url.path, parameters, again.text


async def test_a_number_that_points_here_books_an_appointment(tmp_path: Path) -> None:
    """Webhook, stream, keys and speech at 8 kHz mu-law, a lost stream in between, and the hangup after the goodbye."""
    heard = ScriptedStt(["tuesday", "yes", "in the morning", "yes", "yes"])
    database = tmp_path / "clinic.sqlite"
    async with (
        clinic_backend(database) as variables,
        running(tmp_path / "var", environment=variables, stt=heard, **SIGNED) as server,
    ):
        status, text = await webhook(server, "/twilio/voice/clinic", signature("/twilio/voice/clinic"))
        assert status == 200
        path, parameters, again = read_twiml(text)
        assert (path, parameters) == ("/ws/twilio/clinic", {"caller": "+15550100", "called": "+15550199"})
        headers = {"X-Twilio-Signature": signature(path, scheme="wss", form=False)}

        async with stream(server.ws(path), SID, headers=headers) as first:
            await first.begin(**parameters)
            await first.until(lambda: first.frames)
            await first.key("31051980")
            await first.quiet(0.4)
            first.socket.transport.abort()
        (call,) = [actor.call for actor in server.gate.registry.calls()]
        await server.until(lambda: not server.gate.registry[call].core.state.attached)

        attach = again.removeprefix(PUBLIC)
        status, text = await webhook(server, attach, signature(attach))
        assert "<Connect>" in text
        path, parameters, again = read_twiml(text)
        async with stream(server.ws(path), SID, stream_sid="MZ2", headers=headers) as second:
            await second.begin(**parameters)
            await second.quiet(0.4)
            await second.key("#")
            yes = await spoken("yes", 8000)
            for words in (await spoken("tuesday", 8000), yes, await spoken("in the morning", 8000), yes, yes):
                await second.quiet(0.4)
                await second.speak(words)
                await second.room(0.6)
            assert (await second.until_closed())[0] == 1000
        record = await server.over(call)
        assert (record["outcome"], record["transport"], record["caller"]) == ("booked", "twilio", "+15550100")
        assert [(one.day, one.part) for one in appointments(database)] == [("tuesday", "morning")]
        assert server.replayed(call).outcome == "booked"
        status, text = await webhook(server, again.removeprefix(PUBLIC), signature(again.removeprefix(PUBLIC)))
        assert "<Hangup" in text
        assert "<Connect>" not in text


async def test_only_twilio_gets_in(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], **SIGNED) as server:
        path = "/twilio/voice/talk"
        good = signature(path)
        assert (await webhook(server, path, good))[0] == 200
        for bad in (None, "", "x" * 28, signature("/twilio/voice"), sign("another", PUBLIC + path, list(FORM.items()))):
            assert (await webhook(server, path, bad))[0] == 403
        stream_path = "/ws/twilio/talk"
        for bad in (None, "", good, signature("/ws/twilio", scheme="wss", form=False)):
            headers = {} if bad is None else {"X-Twilio-Signature": bad}
            async with stream(server.ws(stream_path), SID, headers=headers) as impostor:
                await impostor.begin()
                assert await impostor.until_closed() == (4401, "the signature is not valid")
        headers = {"X-Twilio-Signature": signature(stream_path, scheme="wss", form=False)}
        async with stream(server.ws(stream_path), SID, headers=headers) as real:
            await real.begin()
            await real.until(lambda: real.frames)
        assert len({seen.call for seen in server.seen}) == 1


async def test_without_an_auth_token_only_this_machine_may_stream(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server:
        async with stream(server.ws("/ws/twilio/talk"), SID) as caller:
            await caller.begin()
            await caller.until(lambda: caller.frames)
        async with stream(server.ws("/ws/twilio"), "CA2", headers={"X-Forwarded-For": "203.0.113.9"}) as forwarded:
            await forwarded.begin()
            assert (await forwarded.until_closed())[0] == 4401


async def test_barge_in_clears_and_only_what_was_played_is_remembered(tmp_path: Path) -> None:
    async with (
        running(
            tmp_path, flows=[LECTURE], stt=ScriptedStt(["on monday please"]), words_per_s=LECTURE_WORDS_PER_S
        ) as server,
        stream(server.ws("/ws/twilio"), SID) as caller,
    ):
        await caller.begin()
        await caller.until(lambda: len(caller.frames) > 60)
        await caller.room(0.3)
        await caller.speak(await spoken("on monday please", 8000))
        await caller.room(0.5)
        await caller.until(lambda: caller.clears)
        (call,) = [actor.call for actor in server.gate.registry.calls()]
        stopped = server.facts(PlayoutStopped, call)[0]
        assert stopped.cause == "cut"

        lecture = next(iter(server.gate.flows["lecture"].steps.values())).say
        sent_s = sum(at_s <= caller.clears[0] for at_s, _ in caller.frames) * 0.02
        names = [mark for mark in caller.marks if mark.startswith(f"{stopped.gen}.0.")]
        said = next(seen.text for seen in server.replayed(call).history if seen.role == "agent")
        assert said
        assert lecture.startswith(said)
        assert len(said) in {int(name.split(".")[2]) for name in names}, "it ends with a word that Twilio has played"
        assert len(said.split()) <= sent_s * LECTURE_WORDS_PER_S
        await caller.until(lambda: caller.frames[-1][0] > caller.clears[0])
        await caller.stop()
        await caller.until_closed()
        record = await server.over(call)
        assert (record["cause"], record["barge_ins"]) == ("caller-hangup", 1)


async def test_marks_that_are_echoed_after_a_clear_count_for_nothing(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], stt=ScriptedStt(["stop it"]), words_per_s=LECTURE_WORDS_PER_S) as server,
        stream(server.ws("/ws/twilio"), SID) as caller,
    ):
        caller.echo = False
        await caller.begin()
        await caller.until(lambda: len(caller.marks) > 3)
        await caller.event("mark", mark={"name": caller.marks[0]})
        await caller.speak(await spoken("on monday please", 8000))
        await caller.room(0.5)
        await caller.until(lambda: caller.clears)
        for name in caller.marks:
            await caller.event("mark", mark={"name": name})
        (call,) = [actor.call for actor in server.gate.registry.calls()]
        await caller.stop()
        await server.over(call)
        heard = next(seen.text for seen in server.replayed(call).history if seen.role == "agent")
        assert len(heard) == int(caller.marks[0].split(".")[2]), "the one that came back in time"


async def test_keys(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, stream(server.ws("/ws/twilio"), SID) as caller:
        await caller.begin()
        await caller.until(lambda: caller.frames)
        await caller.key("3A")
        await caller.event("dtmf", dtmf={"digit": ""})
        await caller.until(lambda: caller.clears)
        await caller.quiet(0.4)
        await caller.key("#")
        assert (await caller.until_closed())[0] == 1000
        call = server.seen[0].call
        assert [fact.digit for fact in server.facts(Digit)] == ["3", "#"]
        assert (await server.over(call))["slots"] == {"day": "wednesday"}


# Streams that do not keep to the protocol

Events = Callable[[Twilio], list[dict[str, Any]]]

START = {
    "event": "start",
    "streamSid": "MZ1",
    "start": {
        "streamSid": "MZ1",
        "callSid": SID,
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    },
}
CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
AUDIO = {"event": "media", "streamSid": "MZ1", "media": {"track": "inbound", "payload": "fn5+"}}


def start_with(**changes: Any) -> dict[str, Any]:
    return START | {"start": START["start"] | changes}  # type: ignore[operator]


def media_with(**changes: Any) -> dict[str, Any]:
    return AUDIO | {"media": AUDIO["media"] | changes}  # type: ignore[operator]


HOSTILE: dict[str, tuple[list[Any], int]] = {
    "start before connected": ([START], 4400),
    "audio before start": ([CONNECTED, AUDIO], 4400),
    "connected twice": ([CONNECTED, CONNECTED], 4400),
    "start twice": ([CONNECTED, START, START], 4400),
    "another stream's audio": ([CONNECTED, START, AUDIO | {"streamSid": "MZ9"}], 4400),
    "wide audio": (
        [CONNECTED, start_with(mediaFormat={"encoding": "audio/l16", "sampleRate": 16000, "channels": 1})],
        4400,
    ),
    "a CallSid that is none": ([CONNECTED, start_with(callSid='CA"><Hangup/>')], 4400),
    "a thousand parameters": ([CONNECTED, start_with(customParameters={f"p{n}": "x" for n in range(1000)})], 4413),
    "no base64": ([CONNECTED, START, media_with(payload="not base64!")], 4400),
    "two seconds at once": ([CONNECTED, START, media_with(payload=base64.b64encode(bytes(16000)).decode())], 4413),
    "too much text": ([CONNECTED, START, media_with(payload="A" * 20_000)], 4413),
    "a negative chunk": ([CONNECTED, START, media_with(chunk="first")], 4400),
    "no JSON": ([CONNECTED, START, "hello"], 4400),
    "no event": ([CONNECTED, START, {"streamSid": "MZ1"}], 4400),
    "a long mark": ([CONNECTED, START, {"event": "mark", "streamSid": "MZ1", "mark": {"name": "m" * 200}}], 4400),
    "binary": ([CONNECTED, START, b"\x00" * 320], 4400),
    "too many keys": ([CONNECTED, START] + [{"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "1"}}] * 400, 4429),
    "silence": ([CONNECTED], 4408),
}


async def test_hostile_streams_are_closed_with_a_reason_and_disturb_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "START_TIMEOUT_S", 1)
    wrong = []
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=2.6, max_calls_per_address=100) as server,
        stream(server.ws("/ws/twilio"), "CA777", stream_sid="MZ7") as neighbour,
    ):
        await neighbour.begin()
        await neighbour.until(lambda: neighbour.frames)
        for number, (name, (messages, code)) in enumerate(HOSTILE.items()):
            async with stream(server.ws("/ws/twilio"), SID) as rogue:
                for message in messages:
                    text = json.dumps(message).replace(SID, f"CA{number}") if isinstance(message, dict) else message
                    await rogue.socket.send(text)
                closed, reason = await rogue.until_closed()
                if closed != code or not reason:
                    wrong.append(f"{name}: {closed} {reason!r} instead of {code}")
        assert not wrong
        assert neighbour.closed is None
        assert max(neighbour.gaps_s(0)) < 1.0
        assert not server.facts(CallFailed)


async def test_newer_kinds_of_messages_and_late_chunks_are_passed_over(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, stream(server.ws("/ws/twilio"), SID) as caller:
        await caller.begin()
        for message in (
            {"event": "weather", "streamSid": "MZ1", "sun": True},
            media_with(chunk="7"),
            media_with(chunk="5"),
            media_with(chunk="7"),
            media_with(track="outbound"),
            media_with(payload=""),
        ):
            await caller.send(message)
        await caller.quiet()
        await caller.stop()
        assert (await caller.until_closed())[0] == 1000
        assert not server.facts(CallFailed)
