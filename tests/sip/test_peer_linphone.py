"""linphonec calls the server."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.core.events import Digit
from media.audio import silence
from media.sip import guard
from tests.clients import audio
from tests.clients.linphone import linphone
from tests.sip.calls import (
    ALIKE,
    LECTURE,
    agent_said,
    asked,
    only_call,
    playout_of,
    said_by_a_caller,
    session,
    share_heard,
    speaking,
    uri,
)

LISTENS_MS = 3500  # before it says anything
USER, PASSWORD = "anna", "a-long-password"
USERS = json.dumps([{"user": USER, "password": PASSWORD}])
SIGNS_IN = f"[auth_info_0]\nusername={USER}\npasswd={PASSWORD}\nrealm=voicegate\n"
KEYS_BY_INFO = "[sip]\nuse_info=1\nuse_rfc2833=0\n"


@pytest.mark.slow
async def test_a_conversation_by_voice_and_keys(tmp_path: Path) -> None:
    said = audio.read(await said_by_a_caller(tmp_path, "friday please"))
    speech = audio.write(tmp_path / "speech.wav", np.concatenate((silence(audio.RATE_HZ, LISTENS_MS), said)))
    async with (
        speaking(tmp_path) as server,
        linphone(tmp_path / "phone", speech=speech, codecs=["opus"]) as phone,
    ):
        await phone.dial(uri(server))
        await asked(server, "Friday. Is that right?")
        phone.key("#")
        await phone.ended()
        call = only_call(server)
        assert (await server.over(call))["outcome"] == "told"
        assert server.replayed(call).slots["day"].value == "friday"
        assert [fact.digit for fact in server.facts(Digit)] == ["#"]
        sound = await phone.heard()
        for sentence in ("Which day would you like?", "Until friday."):
            assert await share_heard(sound, sentence) > ALIKE, sentence


async def test_signs_in_holds_resumes_and_hangs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TCP, from an address that is not trusted, with keys by INFO."""
    monkeypatch.setattr(guard, "LOOPBACK", ())
    async with (
        speaking(tmp_path, flows=[LECTURE], sip_users=USERS, sip_digests=["sha-256", "md5"]) as server,
        linphone(tmp_path / "phone", user=USER, codecs=["PCMA"], config=SIGNS_IN + KEYS_BY_INFO) as phone,
    ):
        await phone.dial(uri(server, "lecture", "tcp"))
        await phone.hears(1000)
        await phone.hold()
        await server.until(lambda: session(server).stalled)
        held_frames = playout_of(server).sent_frames
        await phone.resume()
        await server.until(lambda: playout_of(server).sent_frames > held_frames + 50)
        phone.key("1")
        await server.until(lambda: server.facts(Digit))
        assert "application/dtmf-relay" in phone.trace
        assert "algorithm=SHA-256" in phone.trace
        phone.hangup()
        await phone.ended()
        call = only_call(server)
        assert (await server.over(call))["cause"] == "caller-hangup"
        heard = agent_said(server, call)[0]
        assert len(heard.split()) > 3
        assert await share_heard(await phone.heard(), heard) > ALIKE
