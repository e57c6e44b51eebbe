"""What the page about SIP says, against the code; and its commands, run against real telephones."""

import ast
import re
import shlex
import socket
import xml.etree.ElementTree as ET  # of our own pages
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from app.api.dial import MAX_ANSWER_S, Wanted
from app.core import core, referral
from app.dialler.address import Address
from app.dialler.outcome import Outcome, of_status
from app.dialler.rules import MAX_CALL_S, SIP_PORTS, Refusal, Rule
from app.settings import PREFIX, Settings, SipTrunk, check_exposure, load_settings
from app.telephony import dial_rules
from flows.model import TransferBy
from flows.schema import LimitsSpec
from media import rtp, rtp_audio, sdp, srtp
from media.sip import (
    admission,
    dials,
    endpoint,
    guard,
    health,
    keys,
    legs,
    message,
    outbound,
    peer,
    refer,
    refresh,
    registration,
    session,
    streams,
    transaction,
    trunks,
)
from media.sip.negotiation import _MAKERS, MAX_PACKET_MS, MIN_PACKET_MS
from tests.cli.process import environment, run, serving, start
from tests.clients import audio
from tests.clients.baresip import CONFIG, PATHS, baresip
from tests.clients.process import LOCALHOST, free_port, started
from tests.clients.sipp import sipp
from tests.docs.test_docs import DOCS, ROOT, blocks, codes, section, tables, text_of
from tests.e2e.server import running
from tests.sip.calls import TALK, address

SIP = DOCS / "sip.md"
SHELL = [content.replace("\\\n", " ") for info, content in blocks(SIP) if info == "sh"]
ASSIGNMENT = re.compile(r"^(VOICEGATE_\w+)=")
PATIENCE_S = 60
REFUSING = ("refuse", "reject", "_reject", "_answer_at_once", "Refusal")


def table(heading: str, at: int = 0) -> dict[str, list[str]]:
    """Rows by their first cell."""
    return {row[0]: row[1:] for row in tables(section(SIP, heading))[at]}


def told(heading: str) -> str:
    """A section's words, however its lines are broken."""
    return " ".join(section(SIP, heading).split())


def settings_of(block: str) -> dict[str, str]:
    """Its variables; empty where it is a command."""
    words = shlex.split(block)
    found = dict(word.partition("=")[::2] for word in words if ASSIGNMENT.match(word))
    return found if len(found) == len(words) else {}


SETTINGS = [found for found in map(settings_of, SHELL) if found]


# Numbers


def test_limits_of_sip_are_those_of_the_code() -> None:
    found = {limit: row[0] for limit, row in table("Limits of SIP").items()}
    assert found == {
        "wrong passwords and unreadable messages of one address": (
            f"{guard.MAX_OFFENCES} in {guard.OFFENCES_MS // 1000} s, then it is banned for {guard.BAN_MS // 1000} s"
        ),
        "messages of an address that may call": f"{guard.MAX_PER_S} a second",
        "messages of an address that has to sign in": (
            f"{guard.MAX_UNKNOWN_PER_S} a second; of all such addresses {guard.MAX_UNKNOWN_IN_ALL_PER_S} by UDP, "
            f"and {guard.MAX_UNKNOWN_IN_ALL_PER_S} by TCP and TLS"
        ),
        "messages of an address from which somebody has signed in": (
            f"{guard.MAX_KNOWN_PER_S} a second, for {guard.KNOWN_MS // 1000} s"
        ),
        "a message": (
            f"{message.MAX_MESSAGE_BYTES} bytes, {message.MAX_HEADERS} headers of {message.MAX_HEADER_CHARS} characters"
        ),
        "a description (SDP)": f"{sdp.MAX_SDP_BYTES} bytes, {sdp.MAX_LINES} lines, {sdp.MAX_SECTIONS} media",
        "calls that ring or talk": f"{endpoint.MAX_CALLS}, far above `VOICEGATE_MAX_CALLS`",
        "INVITEs that wait to be admitted": str(legs.MAX_WAITING),
        "TCP and TLS connections": (
            f"{streams.MAX_STREAMS}, of one address {streams.MAX_STREAMS_PER_ADDRESS}; "
            f"a new one counts as {guard.STREAM_MESSAGES} messages"
        ),
        "connections of those who have not signed in": (
            f"{streams.MAX_STRANGERS}, of one address {streams.MAX_STRANGERS_PER_ADDRESS};"
            f" each for {streams.STRANGER_S} s"
        ),
        "a connection that says nothing": (f"{streams.FIRST_MESSAGE_S} s at its beginning, {streams.IDLE_S} s later"),
        "packets of a call": (
            f"{rtp_audio.MAX_PACKETS_PER_S} a second of RTP and {rtp_audio.MAX_REPORTS_PER_S} of RTCP; more are dropped"
        ),
    }


def test_timers_are_those_of_the_code() -> None:
    found = {name: row[0] for name, row in table("Timers").items()}
    life_s = transaction.LIFE_MS // 1000
    assert found["session timer (RFC 4028) that we ask for"] == f"{refresh.INTERVAL_S} s"
    assert found["the least that we take"] == f"{refresh.MIN_INTERVAL_S} s; less gets 422"
    assert f"a BYE {refresh.EARLY_S} s before" in found["a session that is not refreshed"]
    assert f"after {session.QUIET_MS // 1000} s" in found["no RTP from the peer"]
    assert found["a request without an answer"] == f"given up after {life_s} s"
    assert found["a 200 without an ACK"] == f"repeated for {life_s} s, then a BYE"
    assert f"waits {core.REATTACH_MS // 1000} s" in found["a connection that is lost"]
    assert admission.RESUME_S * 1000 >= core.REATTACH_MS


def test_how_trunks_are_kept_is_as_in_the_code() -> None:
    words = told("A trunk with credentials")
    first_s, refused_s = registration.BACK_OFF_S, registration.REFUSED_BACK_OFF_S
    assert f"again every {trunks.RESOLVE_S} s" in words
    assert f"We register for {registration.EXPIRES_S} s" in words
    assert f"after {first_s} to {2 * first_s} s" in words
    assert f"up to {registration.MAX_BACK_OFF_S} s;" in words
    assert f"after {refused_s} to {2 * refused_s} s, up to {registration.MAX_REFUSED_BACK_OFF_S} s" in words
    assert f"({', '.join(map(str, sorted(registration.REFUSALS)))})" in words
    assert f"about every {health.INTERVAL_MS // 1000} s" in words
    assert health.MAX_MISSES == 2
    assert f"with {' or '.join(map(str, sorted(health.DEAD)))}," in words
    trunk_keys = {field.alias or name for name, field in SipTrunk.model_fields.items()}
    assert {key for cell in table("A trunk with credentials") for key in codes(cell)} == trunk_keys


def test_other_numbers_are_those_of_the_code() -> None:
    assert f"within {refer.TRANSFER_MS // 1000} s" in told("Transfers by SIP")
    assert f"at most {referral.ANSWER_MS // 1000} s" in told("Calls that are handed over")
    assert f"at most {referral.MAX_REFERRALS} in a call" in told("Calls that are handed over")
    assert f"{rtp.LOCK_PACKETS} of one address in a row" in told("NAT and public addresses")
    assert f"silent for {peer.QUIET_MS // 1000} s" in told("NAT and public addresses")
    assert f"after {keys.HANDSHAKE_S} s" in told("SRTP")
    assert f"Packets have {MIN_PACKET_MS} to {MAX_PACKET_MS} ms" in told("Codecs")
    assert f"Up to {dials.MAX_WAYS} places" in told("Calling out")
    assert f"at most {MAX_CALL_S} s" in told("Calling out")
    assert f"({', '.join(map(str, outbound.MOVED))}): at most {dials.MAX_REDIRECTS} times" in told("Calling out")
    wrong = {row: cells[0] for row, cells in table("When SIP does not work").items()}
    gone_s = session.QUIET_MS // 1000 + transaction.LIFE_MS // 1000
    assert f"the call ends after {gone_s} s without sound" in wrong
    assert f"the call ends after {transaction.LIFE_MS // 1000} s" in wrong
    assert f"the call ends after {Settings().dial_max_s // 60} min" in wrong
    assert f"the call ends after {refresh.INTERVAL_S // 2 // 60} min" in wrong
    assert LimitsSpec().duration_s == refresh.INTERVAL_S // 2, "they share a row"
    assert f"to {refresh.INTERVAL_S // 60} min" in " ".join(wrong)


def test_passwords_are_asked_for_as_the_page_says() -> None:
    assert Settings().sip_digests == ("md5",)
    assert "by MD5" in told("A softphone in two minutes")


# Lists


def test_methods_are_all_there() -> None:
    assert set(codes(section(SIP, "Methods"))) == {*endpoint.METHODS, *endpoint.EXTENSIONS}
    assert "REGISTER" not in endpoint.METHODS


def refusals() -> set[int]:
    """All answers from 400 on that stand in the code: where something is refused, and for the gateway's refusals."""
    found = set(admission._CODES.values())
    for file in (ROOT / "media" / "sip").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(text_of(file))) if isinstance(node, ast.Call)]
        for call in calls:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in REFUSING:
                constants = [one for word in call.args for one in ast.walk(word) if isinstance(one, ast.Constant)]
                found |= {one.value for one in constants if isinstance(one.value, int) and 400 <= one.value < 700}
    return found


def test_answers_are_all_there() -> None:
    assert {int(code) for code in table("Answers and what they mean")} == refusals()


def test_codecs_are_all_there() -> None:
    found = {codes(cell)[0]: row[0] for cell, row in table("Codecs").items()}
    assert tuple(found) == Settings().sip_codecs
    for name, heard in found.items():
        rates = [make().rate_hz // 1000 for (codec, _), make in _MAKERS.items() if codec == name]
        assert heard == f"{' or '.join(map(str, rates))} kHz"


def test_ways_of_srtp_are_all_there() -> None:
    assert [codes(row)[0] for row in table("SRTP")] == ["off", "optional", "required"]
    suites = {code for code in codes(section(SIP, "SRTP")) if code.startswith("A")}
    assert suites == set(srtp.SUITES)


def test_orders_and_rules_are_all_there() -> None:
    heading = "Calling out"
    order = {codes(cell)[0]: row[0] for cell, row in table(heading).items()}
    assert set(order) == {field.name for field in fields(Wanted)}
    assert order["answer_s"] == "45"
    assert Wanted(to="x").answer_s == 45
    assert f"up to {MAX_ANSWER_S}" in told(heading)
    assert {code for cell in table(heading, 3) for code in codes(cell)} == set(Rule)
    outcomes = {codes(cell)[0]: row[0] for cell, row in table(heading, 4).items()}
    for outcome in (Outcome.busy, Outcome.no_answer, Outcome.invalid):
        said = {int(code) for code in re.findall(r"\d{3}", outcomes[outcome])}
        assert said == {code for code in range(300, 700) if of_status(code) is outcome}
    assert {codes(row)[0] for row in table("Transfers by SIP")} == {str(way) for way in TransferBy}


# Settings


@pytest.mark.parametrize("block", range(len(SETTINGS)))
def test_settings_are_taken(block: int) -> None:
    given = SETTINGS[block]
    settings = load_settings(given)
    check_exposure(settings)
    dial_rules(settings)
    if settings.sip_trunks:
        assert settings.sip_host
    assert all(name.startswith(PREFIX) for name in given)


def allowed(to: str, **given: Any) -> bool:
    rules, _ = dial_rules(load_settings({}, **given))
    return isinstance(rules.destinations.judge(to), Address)


def with_trunk(name: str) -> dict[str, str]:
    return next(found for found in SETTINGS if f'"{name}"' in found.get("VOICEGATE_SIP_TRUNKS", ""))


def test_a_pbx_is_called_at_its_own_numbers_only() -> None:
    for name, reached, host in (("asterisk", ["100", "199"], "10"), ("freeswitch", ["1000", "1019"], "11")):
        rules, _ = dial_rules(load_settings(with_trunk(name)))
        judge = rules.destinations.judge
        for number in (*reached, f"sip:{reached[0]}@192.168.1.{host}"):
            assert isinstance(judge(number), Address), number
        for number in ("110", "112", "911", "200", "+491701234567", f"sip:{reached[0]}@192.168.1.99"):
            assert isinstance(judge(number), Refusal), number


def test_patterns_allow_what_the_page_says() -> None:
    patterns = [code for cell in table("Calling out", 2) for code in codes(cell)]
    assert patterns[:3] == ["+49", "0800", "1"]
    assert allowed("+4930123456", dial_allow=["+49"])
    assert not allowed("sip:+4930123456@example.com", dial_allow=["+49"])
    for tail in ("", *(f":{number}" for number in SIP_PORTS if number)):
        assert allowed(f"sip:anybody@192.168.1.20{tail}", dial_allow=["@192.168.1.20"])
    assert not allowed("sip:anybody@192.168.1.20:5070", dial_allow=["@192.168.1.20"])
    assert allowed("sip:anybody@192.168.1.20:5070", dial_allow=["@192.168.1.20:5070"])
    assert not allowed("sip:anybody@192.168.1.20", dial_allow=["@192.168.1.20:5070"])
    assert allowed("sip:desk@192.168.1.20", dial_allow=["sip:desk@192.168.1.20"])
    assert not allowed("sip:boss@192.168.1.20", dial_allow=["sip:desk@192.168.1.20"])
    assert not allowed("112", dial_allow=["*"])
    assert allowed("112", dial_allow=["tel:112"])
    assert not allowed("0049 900 123456", dial_allow=["*"], dial_deny=["+49900"])
    rules, _ = dial_rules(load_settings({}, dial_allow=["+49"], dial_country="49"))
    found = rules.destinations.judge("030 123456")
    assert isinstance(found, Address)
    assert found.dial == "+4930123456"


def test_snippets_for_others_can_be_read() -> None:
    xml = [content for info, content in blocks(SIP) if info == "xml"]
    assert [ET.fromstring(content).tag for content in xml] == ["include"] * 3  # our own page
    asterisk = [content for info, content in blocks(SIP) if info == "ini"]
    assert len(asterisk) == 2
    for line in "".join(asterisk).splitlines():
        assert not line or re.fullmatch(r"\[[\w-]+\]|[\w]+=\S+|exten => \S+,1,\S+| same => n,\S+", line), line
    settings = load_settings(with_trunk("asterisk"))
    assert f"match={settings.sip_host}\n" in asterisk[0]
    assert f"contact=sip:{settings.sip_host}:{settings.sip_port}\n" in asterisk[0]
    settings = load_settings(with_trunk("freeswitch"))
    assert f'"proxy" value="{settings.sip_host}:{settings.sip_port}"' in xml[0]
    assert re.escape(settings.sip_host) in xml[2]


# Commands


def command(begin: str) -> tuple[dict[str, str], list[str]]:
    """Variables and words of the first command of the page that begins so."""
    words = next(words for words in map(shlex.split, SHELL) if begin in " ".join(words))
    variables = {name: value for name, _, value in (word.partition("=") for word in words if ASSIGNMENT.match(word))}
    return variables, [word for word in words if not ASSIGNMENT.match(word)]


def telephone(folder: Path) -> Path:
    """A configuration of baresip without any sound card."""
    folder.mkdir()
    rtp_port = free_port(4)
    written = CONFIG.format(
        host=LOCALHOST,
        port=free_port(2),
        control=free_port(),
        rtp=rtp_port,
        last_rtp=rtp_port + 3,
        rate_hz=audio.padded(None, folder / "speech.wav"),
        modules=next((path for path in PATHS if Path(path).is_dir()), PATHS[0]),
    )
    modules = "".join(f"module {name}.so\n" for name in ("g711", "aufile", "aubridge"))
    (folder / "config").write_text(f"{written}{modules}module_app account.so\nmodule_app menu.so\n")
    (folder / "accounts").touch()
    return folder


async def test_a_softphone_in_two_minutes(tmp_path: Path) -> None:
    _, served = command("voicegate serve")
    _, called = command("baresip")
    assert served == ["voicegate", "serve", "--demo", "--sip", "5060"]
    sip_port = str(free_port())
    words = [word.replace(f"@{LOCALHOST}", f"@{LOCALHOST}:{sip_port}") for word in called[1:]]
    folder = telephone(tmp_path / "phone")
    async with (
        serving(*served[2:-1], sip_port, folder=tmp_path),
        started("baresip", "baresip-core", ["-f", ".", *words], folder) as phone,
    ):
        await phone.says("Call established")


async def test_we_are_no_registrar(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as gate:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.bind((LOCALHOST, 0))
            phone.setblocking(False)
            at = f"{LOCALHOST}:{phone.getsockname()[1]}"
            lines = (
                f"REGISTER sip:{LOCALHOST} SIP/2.0",
                f"Via: SIP/2.0/UDP {at};branch=z9hG4bKone",
                "Max-Forwards: 70",
                f"From: <sip:me@{LOCALHOST}>;tag=1",
                f"To: <sip:me@{LOCALHOST}>",
                "Call-ID: one",
                "CSeq: 1 REGISTER",
                f"Contact: <sip:me@{at}>",
                "Content-Length: 0",
            )
            host, _, number = address(gate).partition(":")
            phone.sendto("\r\n".join((*lines, "", "")).encode(), (host, int(number)))
            answers: list[bytes] = []

            def answered() -> bool:
                try:
                    answers.append(phone.recv(4096))
                except BlockingIOError:
                    return False
                return True

            await gate.until(answered)
            assert answers[0].startswith(b"SIP/2.0 405")


@pytest.mark.parametrize(("user", "flow"), [("700", "clinic"), ("clinic", "clinic"), ("whoever", "talk")])
async def test_which_flow_answers(tmp_path: Path, user: str, flow: str) -> None:
    routes = '[{"called": "700", "flow": "clinic"}]'
    async with running(tmp_path, flows=[TALK, "clinic"], sip_port=0, routes=routes) as gate:
        await sipp("basic_call", address(gate), tmp_path, user=user, media=False)
        (call,) = {seen.call for seen in gate.seen}
        await gate.over(call)
        assert gate.journal(call).row.header.flow == flow


async def test_a_call_that_is_not_allowed_is_refused_by_its_rule(tmp_path: Path) -> None:
    variables, words = command("voicegate dial")
    assert list(variables) == ["VOICEGATE_DIAL_ALLOW", "VOICEGATE_SIP_ALLOW"]
    local = [word for word in words[1:] if word not in ("--demo", "--sip-host", "192.168.1.7")]
    done = await run(*local, cwd=tmp_path, VOICEGATE_SPEECH="scripted")
    assert done.status == 2
    assert Rule.not_allowed in done.err
    assert "VOICEGATE_DIAL_ALLOW" in done.err


async def test_somebody_is_called_as_the_page_says(tmp_path: Path) -> None:
    variables, words = command("voicegate dial")
    async with baresip(tmp_path / "phone", user="desk") as phone:

        def here(word: str) -> str:
            return word.replace("192.168.1.20", f"{LOCALHOST}:{phone.port}").replace("192.168.1.7", LOCALHOST)

        given = {"VOICEGATE_DIAL_ALLOW": here(variables["VOICEGATE_DIAL_ALLOW"]), "VOICEGATE_SPEECH": "scripted"}
        assert "VOICEGATE_DIAL_ALLOW" not in environment()
        dialling = await start(*map(here, words[1:]), cwd=tmp_path, **given)
        try:
            await phone.event("CALL_ESTABLISHED", PATIENCE_S)
            await phone.hangup()
            out, err = await dialling.communicate()
        finally:
            if dialling.returncode is None:
                dialling.kill()
        assert dialling.returncode == 0, err.decode()
        assert "answered" in out.decode()
