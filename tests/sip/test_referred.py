"""Telephones that hand their call over, by REFER to us: another one talks with the agent from then on."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from app.core.events import CallerHungUp, CallerReferred, LegAttached, PlayoutStopped, ReferralFailed
from media.sip import guard
from tests.clients import audio
from tests.clients.baresip import baresip
from tests.clients.linphone import linphone
from tests.clients.process import LOCALHOST
from tests.clients.sipp import running as callee
from tests.sip.caller import caller, opened
from tests.sip.calls import (
    ALIKE,
    LECTURE,
    LOUD,
    agent_said,
    asked,
    gate,
    loudness,
    only_call,
    said_by_a_caller,
    share_heard,
    speaking,
    uri,
)

ASKED = "Which day would you like?"


async def test_another_telephone_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    friday = await said_by_a_caller(tmp_path, "friday please")
    async with (
        baresip(tmp_path / "desk", codecs=["PCMA"]) as desk,
        speaking(tmp_path, dial_allow=[f"@{LOCALHOST}:{desk.port}"]) as server,
        baresip(tmp_path / "phone", codecs=["opus/48000/1"]) as phone,
    ):
        await phone.dial(uri(server))
        await asked(server, ASKED)
        await phone.transfer(desk.uri)
        await desk.event("CALL_ESTABLISHED")
        await phone.event("CALL_CLOSED")
        await server.until(lambda: server.facts(LegAttached))
        await asked(server, ASKED)
        assert len(gate(server).sessions) == 1
        before = len(server.facts(PlayoutStopped))
        await desk.say(friday)
        await asked(server, "Friday. Is that right?")
        await desk.key("#")
        await desk.event("CALL_CLOSED")
        call = only_call(server)
        record = await server.over(call)
        assert (record["cause"], record["outcome"]) == ("flow", "told")
        assert record["referrals"] == [{"to": f"sip:phone@{LOCALHOST}:{desk.port}", "outcome": "answered"}]
        heard = agent_said(server, call)
        assert heard[-1] == "Until Friday. Goodbye."
        assert len(server.facts(PlayoutStopped)) > before
        sound = desk.heard()
        for sentence in (ASKED, "Until friday."):
            assert await share_heard(sound, sentence) > ALIKE, sentence
        assert await share_heard(phone.heard(), "Until friday.") < ALIKE
        assert len(list((tmp_path / "recordings").iterdir())) == 2


async def test_nobody_is_there_and_the_first_one_goes_on_talking(tmp_path: Path) -> None:
    async with (
        callee("busy", tmp_path / "desk") as desk,
        speaking(tmp_path, flows=[LECTURE], dial_allow=["*"]) as server,
        linphone(tmp_path / "phone") as phone,
    ):
        await phone.dial(uri(server, "lecture"))
        phone.transfer(desk.uri)
        await server.until(lambda: server.facts(ReferralFailed))
        assert loudness((await phone.hears(2000))[-audio.RATE_HZ :]) > LOUD
        phone.hangup()
        record = await server.over(only_call(server))
        assert (record["cause"], record["referrals"][0]["outcome"]) == ("caller-hangup", "busy")
        assert "\nSIP/2.0 486 Busy Here" in phone.trace, "a NOTIFY told so"


async def test_two_calls_are_joined(tmp_path: Path) -> None:
    """Attended: a telephone talks to the desk first, and the agent takes its place there (RFC 3891)."""
    async with (
        linphone(tmp_path / "desk") as desk,
        speaking(tmp_path, dial_allow=[f"@{LOCALHOST}:{desk.port}"]) as server,
        caller() as phone,
        caller() as other_line,
        opened() as rtp,
    ):
        await phone.invite(gate(server).port, rtp.port)
        await asked(server, ASKED)
        assert (await other_line.invite(desk.port, rtp.port)).startswith("SIP/2.0 200")
        await desk.answered()
        assert await phone.refer(f"<{desk.uri}?Replaces={quote(other_line.replaces)}>") == "SIP/2.0 202 Accepted"
        await server.until(lambda: server.facts(LegAttached))
        await desk.told("Media streams established")
        await server.until(lambda: "BYE" in other_line.requests and "BYE" in phone.requests)
        assert phone.fragments[0] == "SIP/2.0 100 Trying"
        assert phone.fragments[-1] == "SIP/2.0 200 OK"
        assert f"\nReplaces: {other_line.replaces}" in desk.trace
        await asked(server, ASKED)
        desk.hangup()
        record = await server.over(only_call(server))
        assert (record["cause"], record["outcome"]) == ("caller-hangup", "hung-up")
        assert [line["outcome"] for line in record["referrals"]] == ["answered"]
        assert len([said for said in agent_said(server, only_call(server)) if said.endswith(ASKED)]) == 2


async def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    async with speaking(tmp_path) as server, caller() as phone, opened() as rtp, opened() as elsewhere:
        assert await phone.invite(gate(server).port, rtp.port) == "SIP/2.0 200 OK"
        await asked(server, ASKED)
        target = f"<sip:desk@{LOCALHOST}:{elsewhere.port}>"
        assert (await phone.refer(target)).startswith("SIP/2.0 603")
        assert [fact.outcome for fact in server.facts(ReferralFailed)] == ["refused"]
        assert elsewhere.came == []
        assert phone.requests == []
        assert (await phone.refer(target)).startswith("SIP/2.0 603"), "nor the second time"
        assert (await phone.bye()).startswith("SIP/2.0 200")
        record = await server.over(only_call(server))
        assert [line["outcome"] for line in record["referrals"]] == ["refused", "refused"]


async def test_an_address_is_never_read_as_a_flows_own_words(tmp_path: Path) -> None:
    """A flow may name our variables, its callers may not."""
    async with (
        speaking(tmp_path, dial_allow=["*"], environment={"FLOW_DESK": f"sip:x@{LOCALHOST}"}) as server,
        caller() as phone,
        opened() as rtp,
    ):
        await phone.invite(gate(server).port, rtp.port)
        await asked(server, ASKED)
        for name in ("{env.FLOW_DESK}", "%7Benv.FLOW_DESK%7D"):
            for target in (f"<sip:{name}@{LOCALHOST}>", f"<tel:{name}>", f"<{name}>"):
                assert (await phone.refer(target))[8:11] in ("400", "603"), target


async def test_what_came_to_nothing_makes_room_for_another_one(tmp_path: Path) -> None:
    """One call out at a time is allowed, of two seconds."""
    async with (
        callee("busy", tmp_path / "busy") as busy,
        baresip(tmp_path / "desk") as desk,
        speaking(
            tmp_path, flows=[LECTURE], dial_allow=["*"], dial_concurrent=1, dial_per_s=1000, dial_max_s=2
        ) as server,
        caller() as phone,
        opened() as rtp,
    ):
        await phone.invite(gate(server).port, rtp.port)
        assert await phone.refer(f"<{busy.uri}>") == "SIP/2.0 202 Accepted"
        await server.until(lambda: server.facts(ReferralFailed))
        assert await phone.refer(f"<{desk.uri}>") == "SIP/2.0 202 Accepted"
        await desk.event("CALL_ESTABLISHED")
        await desk.event("CALL_CLOSED")
        record = await server.over(only_call(server))
        assert [line["outcome"] for line in record["referrals"]] == ["busy", "answered"]
        assert phone.fragments == [
            f"SIP/2.0 {told}" for told in ("100 Trying", "486 Busy Here", "180 Ringing", "200 OK")
        ]


async def test_whoever_asked_may_leave_at_once(tmp_path: Path) -> None:
    """As some telephones do with a blind transfer, before anybody has answered."""
    async with (
        baresip(tmp_path / "desk", answers=False) as desk,
        speaking(tmp_path, dial_allow=[f"@{LOCALHOST}:{desk.port}"]) as server,
        caller() as phone,
        opened() as rtp,
    ):
        await phone.invite(gate(server).port, rtp.port)
        await asked(server, ASKED)
        assert await phone.refer(f"<{desk.uri}>") == "SIP/2.0 202 Accepted"
        await desk.event("CALL_INCOMING")
        assert (await phone.refer(f"<{desk.uri}>")).startswith("SIP/2.0 491")
        await phone.bye()
        await server.until(lambda: server.facts(CallerHungUp))
        await desk.command("accept")
        await server.until(lambda: server.facts(LegAttached))
        await asked(server, ASKED)
        await desk.hears(1500)
        assert await share_heard(desk.heard(), ASKED) > ALIKE
        await desk.hangup()
        assert (await server.over(only_call(server)))["cause"] == "caller-hangup"
        assert phone.fragments[0] == "SIP/2.0 100 Trying"


async def test_a_telephone_that_has_to_sign_in_signs_this_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOPBACK", ())
    users = json.dumps([{"user": "anna", "password": "a-long-password"}])
    signs_in = "[auth_info_0]\nusername=anna\npasswd=a-long-password\nrealm=voicegate\n"
    async with (
        baresip(tmp_path / "desk") as desk,
        speaking(tmp_path, sip_users=users, dial_allow=[f"@{LOCALHOST}:{desk.port}"]) as server,
        linphone(tmp_path / "phone", user="anna", config=signs_in) as phone,
    ):
        await phone.dial(uri(server, "talk", "tcp"))
        await asked(server, ASKED)
        phone.transfer(desk.uri)
        await server.until(lambda: server.facts(LegAttached))
        refers = re.findall(r"^REFER sip:.*?^\r?$", phone.trace, re.MULTILINE | re.DOTALL)
        assert "Authorization: " in refers[-1]


async def test_who_only_knows_the_calls_tags_may_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path, dial_allow=["*"]) as server, caller() as phone, opened() as rtp:
        await phone.invite(gate(server).port, rtp.port)
        await asked(server, ASKED)
        monkeypatch.setattr(gate(server).guard, "_allow", ())
        monkeypatch.setattr(gate(server).guard, "_expects", lambda host: True)  # as of somebody whom we call
        assert (await phone.refer(f"<sip:desk@{LOCALHOST}>")).startswith("SIP/2.0 403")
        assert server.facts(CallerReferred) == []
        assert (await phone.bye()).startswith("SIP/2.0 200")
