"""The other programs work with each other; what they then do with our server is told by other tests."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.clients import audio, process
from tests.clients.audio import loudest_hz, tone
from tests.clients.baresip import Baresip, baresip
from tests.clients.certificate import self_signed
from tests.clients.kamailio import kamailio
from tests.clients.linphone import linphone
from tests.clients.process import free_port, started
from tests.clients.sipp import needs_raw_socket, running, sipp

LOW_HZ = 400
HIGH_HZ = 1000
SPOKEN_MS = 60_000
HEARD_MS = 400
NEAR_HZ = 10
ENOUGH_MS = 100


@pytest.fixture
def low(tmp_path: Path) -> Path:
    return audio.write(tmp_path / "low.wav", tone(LOW_HZ, SPOKEN_MS))


@pytest.fixture
def high(tmp_path: Path) -> Path:
    return audio.write(tmp_path / "high.wav", tone(HIGH_HZ, SPOKEN_MS))


async def hears(phone: Baresip, hz: float) -> None:
    assert abs(loudest_hz(await phone.hears(HEARD_MS)) - hz) < NEAR_HZ


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722/16000/1", "opus/48000/2"])
async def test_two_baresips_hear_each_other_and_their_keys(tmp_path: Path, low: Path, high: Path, codec: str) -> None:
    async with (
        baresip(tmp_path / "a", speech=low, codecs=[codec]) as caller,
        baresip(tmp_path / "b", speech=high, codecs=[codec], transport="tcp") as callee,
    ):
        await caller.dial(callee.uri)
        assert (await callee.event("CALL_ESTABLISHED"))["direction"] == "incoming"
        await hears(caller, HIGH_HZ)
        await hears(callee, LOW_HZ)
        await caller.key("1#")
        assert [(await callee.event("CALL_DTMF_START"))["param"] for _ in range(2)] == ["1", "#"]
        assert codec.split("/")[0].lower() in callee.log.lower()
        await caller.hangup()
        await callee.event("CALL_CLOSED")


async def test_baresip_holds_resumes_and_says_something_else(tmp_path: Path, low: Path, high: Path) -> None:
    async with baresip(tmp_path / "a", speech=low) as caller, baresip(tmp_path / "b", speech=high) as callee:
        await caller.dial(callee.uri)
        await callee.event("CALL_REMOTE_SDP")
        await hears(callee, LOW_HZ)
        await caller.hold()
        await callee.event("CALL_REMOTE_SDP")
        assert "a=sendonly" in callee.log
        await caller.resume()
        await callee.event("CALL_REMOTE_SDP")
        await hears(caller, HIGH_HZ)
        await hears(callee, LOW_HZ)
        await caller.say(high)
        await callee.process.until(lambda: loudest_hz(callee.heard()[-audio.RATE_HZ // 4 :]) > HIGH_HZ - NEAR_HZ, "it")


async def test_baresip_over_tls_with_sdes(tmp_path: Path, low: Path, high: Path) -> None:
    pem = self_signed(tmp_path / "tls.pem")
    async with (
        baresip(tmp_path / "a", speech=low, transport="tls", media_encryption="srtp-mand", trusted=pem) as caller,
        baresip(tmp_path / "b", speech=high, transport="tls", media_encryption="srtp-mand", certificate=pem) as callee,
    ):
        await caller.dial(callee.uri)
        await hears(caller, HIGH_HZ)
        await hears(callee, LOW_HZ)
        assert "TLS 127.0.0.1" in callee.log
        assert "SRTP is Enabled" in callee.log


async def test_baresip_is_transferred(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "a") as caller,
        baresip(tmp_path / "b") as callee,
        running("answer", tmp_path) as other,
    ):
        await caller.dial(callee.uri)
        await callee.event("CALL_ESTABLISHED")
        await callee.transfer(other.uri)
        await other.seen("ACK")
        await caller.hangup()
        await other.result()


async def test_a_refused_call_fails_the_dialling(tmp_path: Path) -> None:
    async with baresip(tmp_path / "a") as caller, running("busy", tmp_path) as callee:
        with pytest.raises(AssertionError, match="did not answer: 486"):
            await caller.dial(callee.uri)
        await callee.result()


async def test_linphone_and_baresip(tmp_path: Path, low: Path, high: Path) -> None:
    async with (
        linphone(tmp_path / "a", speech=low) as caller,
        baresip(tmp_path / "b", speech=high) as callee,
    ):
        await caller.dial(callee.uri)
        await hears(callee, LOW_HZ)
        assert abs(loudest_hz((await caller.hears(1000))[audio.RATE_HZ // 2 :]) - HIGH_HZ) < NEAR_HZ
        caller.key("5")
        assert (await callee.event("CALL_DTMF_START"))["param"] == "5"
        await callee.key("7")
        await caller.told("Receiving tone 7")
        await caller.hold()
        await caller.resume()
        await hears(callee, LOW_HZ)
        caller.hangup()
        await caller.ended()
        await callee.event("CALL_CLOSED")


PAIRS = [
    ("basic_call", "answer"),
    ("echo_call", "answer"),
    ("cancel", "ringing"),
    ("prack", "answer_prack"),
    ("update", "answer_update"),
]


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
async def test_sipp_calls_sipp(tmp_path: Path, caller: str, callee: str) -> None:
    async with running(callee, tmp_path, calls=2) as other:
        target = f"127.0.0.1:{other.port}"
        result = await sipp(caller, target, tmp_path, calls=2, duration_ms=ENOUGH_MS, echo=True)
        assert result.successful == 2
        assert (await other.result()).successful == 2


@pytest.mark.parametrize(
    "scenario", ["options", "basic_call", "hold", "late_offer", "lost_ack", "retransmissions", "info_dtmf", "refer"]
)
async def test_sipp_calls_baresip(tmp_path: Path, scenario: str) -> None:
    async with baresip(tmp_path / "b", user="bert") as callee, running("busy", tmp_path) as other:
        target = f"127.0.0.1:{callee.port}"
        keys = {"refer_to": other.uri}
        result = await sipp(scenario, target, tmp_path, user="bert", duration_ms=ENOUGH_MS, keys=keys)
        assert result.successful == 1
        answers = len(result.received("SIP/2.0 200", "INVITE"))
        if scenario == "lost_ack":
            assert answers >= 2
        if scenario == "info_dtmf":
            assert [(await callee.event("CALL_DTMF_START"))["param"] for _ in range(3)] == ["1", "2", "#"]
        if scenario == "refer":
            assert "486" in result.received("NOTIFY")[-1].text


@pytest.mark.parametrize("scenario", ["session_timer_uac", "session_timer_uas", "late_offer", "hold", "update"])
async def test_sipp_calls_linphone(tmp_path: Path, scenario: str) -> None:
    timer = "[sip]\nsession_expires_enabled=1\nsession_expires_min_value=2\nsession_expires_value=2\n"
    async with linphone(tmp_path / "b", user="bert", config=timer) as callee:
        target = f"127.0.0.1:{callee.port}"
        keys = {"session_expires": "2"}
        result = await sipp(scenario, target, tmp_path, user="bert", duration_ms=ENOUGH_MS, keys=keys)
        if scenario == "session_timer_uas":
            assert result.received("UPDATE")


async def test_sipp_over_tcp(tmp_path: Path) -> None:
    async with baresip(tmp_path / "b", user="bert") as callee:
        await sipp("basic_call", f"127.0.0.1:{callee.port}", tmp_path, user="bert", transport="t1")
        assert "TCP 127.0.0.1" in callee.log


async def test_sipp_presses_keys_in_the_sound(tmp_path: Path) -> None:
    needs_raw_socket()
    async with baresip(tmp_path / "b", user="bert") as callee:
        await sipp("rfc4733_dtmf", f"127.0.0.1:{callee.port}", tmp_path, user="bert")
        assert [(await callee.event("CALL_DTMF_START"))["param"] for _ in range(3)] == ["1", "2", "#"]


async def test_baresip_calls_sipp(tmp_path: Path) -> None:
    async with baresip(tmp_path / "a") as caller:
        async with running("answer_and_bye", tmp_path) as callee:
            await caller.dial(callee.uri)
            await caller.event("CALL_CLOSED")
            await callee.result()
        async with (
            running("answer", tmp_path) as there,
            running("redirect", tmp_path, keys={"redirect_to": there.uri}) as here,
        ):
            await caller.dial(here.uri)
            await caller.hears(ENOUGH_MS)
            await caller.hangup()
            await here.result()
            await there.result()
        async with running("ringing", tmp_path) as callee:
            await caller.command("dial", callee.uri)
            await callee.seen("SIP/2.0 180")
            await caller.hangup()
            await callee.result()


async def test_a_failed_scenario_shows_its_errors(tmp_path: Path) -> None:
    async with running("busy", tmp_path) as callee:
        with pytest.raises(AssertionError, match="486 Busy Here"):
            await sipp("basic_call", f"127.0.0.1:{callee.port}", tmp_path)


async def test_two_baresips_call_through_kamailio(tmp_path: Path, low: Path, high: Path) -> None:
    users = {"anna": "one", "bert": "two"}
    async with kamailio(tmp_path / "k", users) as server:
        address = server.address
        async with (
            baresip(
                tmp_path / "a", speech=low, user="anna", registrar=address, auth_user="anna", auth_pass="one"
            ) as anna,
            baresip(
                tmp_path / "b",
                speech=high,
                user="bert",
                registrar=address,
                auth_user="bert",
                auth_pass="two",
                transport="tcp",
            ) as bert,
        ):
            await anna.event("REGISTER_OK")
            await bert.event("REGISTER_OK")
            await anna.dial(server.uri("bert"))
            await hears(anna, HIGH_HZ)
            await hears(bert, LOW_HZ)
            assert "407 Proxy Authentication Required" in anna.log
            assert "Record-Route" in bert.log
            await bert.hangup()
            await anna.event("CALL_CLOSED")
            result = await sipp("auth_call", address, tmp_path, user="bert", auth=("anna", "one"))
            assert result.received("SIP/2.0 407")


async def test_kamailio_refuses_a_wrong_password_and_relays_to_strangers(tmp_path: Path) -> None:
    async with (
        running("answer", tmp_path, user="stranger") as there,
        kamailio(tmp_path / "k", {"anna": "one"}, relay=f"sip:127.0.0.1:{there.port}") as server,
    ):
        async with baresip(
            tmp_path / "a", user="anna", registrar=server.address, auth_user="anna", auth_pass="two"
        ) as anna:
            await anna.event("REGISTER_FAIL")
        await sipp("auth_call", server.address, tmp_path, auth=("anna", "one"), user="stranger")
        await there.result()


async def test_linphone_registers_at_kamailio(tmp_path: Path) -> None:
    async with (
        kamailio(tmp_path / "k", {"anna": "one"}) as server,
        linphone(tmp_path / "a", user="anna", auth_pass="one", registrar=server.address) as anna,
    ):
        await anna.registered()


async def test_a_program_ends_with_its_children_also_where_the_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_S", 0.2)
    children: list[str] = []

    async def fail() -> None:
        async with started("sh", "dash", ["-c", "trap '' TERM; sleep 300 & echo $!; wait"], tmp_path) as stubborn:
            await stubborn.until(lambda: stubborn.log.endswith("\n"), "the child's id")
            children.append(stubborn.log.strip())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    child = Path("/proc") / children[0] / "stat"
    await eventually(lambda: not child.exists() or child.read_text().split()[2] == "Z")


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(process.PATIENCE_S):
        while not true():  # noqa: ASYNC110  # a process of another has no event for us
            await asyncio.sleep(process.POLL_S)


async def test_a_program_that_ends_early_says_why(tmp_path: Path) -> None:
    async with started("sh", "dash", ["-c", "echo no; exit 3"], tmp_path) as brief:
        with pytest.raises(AssertionError, match="sh ended before 'yes':\nno"):
            await brief.says("yes")
        assert await brief.ended(process.PATIENCE_S) == 3


def test_no_port_is_given_twice() -> None:
    ports = [free_port(4) + number for _ in range(20) for number in range(4)]
    assert len(set(ports)) == len(ports)


def test_a_recording_is_read_at_another_rate_also_before_its_header_is_complete(tmp_path: Path) -> None:
    file = audio.write(tmp_path / "it.wav", tone(HIGH_HZ, 1000, 8000), 8000)
    data = bytearray(file.read_bytes())
    data[40:44] = bytes(4)
    file.write_bytes(data[:-1])
    heard = audio.read(file)
    assert abs(len(heard) - audio.RATE_HZ) <= 4
    assert abs(loudest_hz(heard) - HIGH_HZ) < NEAR_HZ
    assert audio.duration_ms(file) in (999, 1000)
    assert np.abs(heard).max() > 7000
