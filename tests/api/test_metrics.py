"""The page for Prometheus: what it says after real calls, who may read it, and that a scrape holds nobody up."""

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from app.api.metrics import FAMILIES, Page, Sources
from app.core.events import HangupOrdered
from app.dialler.outcome import Outcome
from app.providers.scripted import ScriptedStt
from app.runtime.metrics import OTHER
from app.runtime.outbound import NotPlaced, Order
from media.codec import Pcmu
from media.leg import Leg
from media.playout import SEND_AHEAD_MS
from media.rtp_audio import RtpAudio
from media.traffic import Traffic
from tests.e2e.clients import dial, ringing
from tests.e2e.models import Body, ThinkingServer, asks, offered
from tests.e2e.server import Server, running
from tests.e2e.voices import spoken
from tests.fakes.openai_server import Pause, Stall, Status, end, words
from tests.sip.caller import Source, caller, opened
from tests.sip.calls import TALK, gate
from tests.support.house import House
from tests.support.shop import shop
from tests.support.virtual import run
from tests.webrtc.caller import caller as browser

FLOWS = Path(__file__).parent.parent / "e2e" / "flows"
ADVICE = FLOWS / "advice.yaml"
SECRET = "+15550199"
OPERATORS = "a-token-for-the-desk-0123456789"
VIEWERS = "a-token-for-the-watcher-0123456"
TOKENS = (
    f'[{{"name":"desk","role":"operator","token":"{OPERATORS}"}},{{"name":"eye","role":"viewer","token":"{VIEWERS}"}}]'
)
MANY = 500


class Scrape:
    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels; 0 where there is none."""
        return sum(
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(sample.labels) for sample in self._samples if sample.name == name]


async def scrape(server: Server, **headers: str) -> Scrape:
    status, text = await fetch(server, **headers)
    assert status == 200, text
    return Scrape(text)


async def fetch(server: Server, **headers: str) -> tuple[int, str]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics", headers=given) as response:
        return response.status, await response.text()


def thinks(body: Body) -> Sequence[Any]:
    """First asks for what there is not, then talks until somebody stops it."""
    if any(message["role"] == "user" for message in body["messages"]):
        return [*words("All right."), *end()]
    if len(body["messages"]) == 1:
        return asks("transfer_money", amount=5)
    sentences = [words(f"This is sentence number {n} of very many. ")[1] for n in range(40)]
    return [*words("Let me tell you. "), *sentences, Pause(0.1), Stall()]


async def test_a_call_with_a_refused_tool_and_a_barge_in(tmp_path: Path) -> None:
    async with (
        ThinkingServer(thinks) as model,
        running(
            tmp_path,
            flows=[ADVICE],
            stt=ScriptedStt(["that is enough"]),
            words_per_s=4.0,
            model="openai:m",
            openai_base_url=model.base_url,
        ) as server,
    ):
        async with dial(server.ws("/ws/audio"), rate=16000, caller=SECRET) as phone:
            await phone.until(lambda: len(phone.frames) > 50)
            during = await scrape(server)
            assert during.value("voicegate_calls_live", flow="advice", transport="audio") == 1
            assert during.value("voicegate_calls_begun_total", flow="advice", transport="audio") == 1
            assert during.value("voicegate_calls_ended_total") == 0
            assert during.value("voicegate_sent_frames_total", transport="audio") > 40
            await phone.speak(await spoken("that is enough", 16000))
            await phone.room(0.6)
            await phone.until(lambda: phone.clears)
            await phone.asked("All right")
            await phone.send({"type": "stop"})
            await phone.until_closed()
            await server.over(phone.call)
        after = await scrape(server)
        assert offered(model.bodies()[0]).isdisjoint({"transfer_money"})
        refused = {"flow": "advice", "tool": OTHER, "decision": "refused", "rule": "step"}
        assert after.value("voicegate_verdicts_total", **refused) == 1
        assert after.value("voicegate_tool_calls_total", flow="advice", tool=OTHER, state="refused") == 1
        assert after.value("voicegate_barge_ins_total", flow="advice", transport="audio") == 1
        assert after.value("voicegate_holds_total") >= 1
        assert after.value("voicegate_barge_in_silence_seconds_count") >= 1
        assert after.value("voicegate_turn_stage_seconds_count", flow="advice", stage="recognition") == 1
        for stage in ("endpointing", "model", "voice", "response"):
            assert after.value("voicegate_turn_stage_seconds_count", flow="advice", stage=stage) == 1
        assert after.value("voicegate_first_token_seconds_count", flow="advice") == len(model.exchanges)
        assert after.value("voicegate_tokens_total", direction="input") == 2 * 11, "the one that was cut told nothing"
        assert after.value("voicegate_calls_live", flow="advice", transport="audio") == 0
        assert after.value("voicegate_calls_ended_total", flow="advice", transport="audio", cause="caller-hangup") == 1
        assert after.value("voicegate_call_outcomes_total", flow="advice", outcome="hung-up") == 1
        assert after.value("voicegate_call_duration_seconds_count", flow="advice") == 1
        sent = after.value("voicegate_sent_frames_total", transport="audio")
        assert during.value("voicegate_sent_frames_total") < sent == len(phone.frames)
        assert after.value("voicegate_loop_lag_seconds_count") > 50
        assert after.value("voicegate_media_busy_seconds_total") > 0
        assert not after.value("voicegate_journal_failing")
        assert after.value("process_resident_memory_bytes") > 1e7
        for secret in (SECRET, phone.call, "transfer_money", "that is enough", "127.0.0.1"):
            assert secret not in after.text


async def test_a_telephone_call_that_loses_packets(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0, max_calls=1) as server,
        caller() as phone,
        caller() as late,
        opened() as ear,
    ):
        assert await phone.invite(gate(server).port, ear.port) == "SIP/2.0 200 OK"
        await server.until(lambda: [one for one in gate(server).sessions if one.leg is not None])
        assert "486" in await late.invite(gate(server).port, ear.port)
        source = Source()
        for n in range(30):
            if n in (10, 11, 20):
                source.skip()
            else:
                ear.send(source.packet(), phone.media_port)
            await asyncio.sleep(0.02)
        (session,) = gate(server).sessions
        await server.until(lambda: session.audio_stream is not None and session.audio_stream.receiver.packets == 26)
        live = await scrape(server)
        assert live.value("voicegate_rtp_legs", transport="sip") == 1
        assert 1 < live.value("voicegate_rtp_opinion_score", transport="sip") < 4.5
        assert live.value("voicegate_rtp_leg_loss_ratio_count") == 0
        assert live.value("voicegate_sip_dialogs") >= 1
        assert (await phone.bye()) == "SIP/2.0 200 OK"
        await server.until(lambda: not gate(server).sessions)
        after = await scrape(server)
        taken = after.value("voicegate_rtp_received_packets_total", transport="sip")
        assert taken == 26, "the first proves its source"
        assert after.value("voicegate_rtp_lost_packets_total", transport="sip") == 3
        assert after.value("voicegate_rtp_concealed_frames_total", transport="sip") >= 3
        assert after.value("voicegate_rtp_stray_packets_total", transport="sip") == 1
        sent = after.value("voicegate_rtp_sent_packets_total", transport="sip")
        assert sent >= live.value("voicegate_rtp_sent_packets_total", transport="sip") > 0
        assert after.value("voicegate_rtp_leg_loss_ratio_count", transport="sip") == 1
        missed = 3 + after.value("voicegate_rtp_late_packets_total", transport="sip")
        assert after.value("voicegate_rtp_leg_loss_ratio_sum", transport="sip") == pytest.approx(missed / 29)
        assert after.value("voicegate_rtp_leg_opinion_score_count", transport="sip") == 1
        assert after.value("voicegate_rtp_leg_jitter_seconds_count", transport="sip") == 1
        assert after.value("voicegate_rtp_legs") == 0
        assert after.value("voicegate_calls_refused_total", transport="sip", reason="full") == 1
        assert after.value("voicegate_sip_refused_total", code="486") == 1
        assert after.value("voicegate_sip_dropped_total") == 0
        assert len(after.labels("voicegate_sip_dropped_total")) == 3, "zeros are there from the beginning"


async def test_calls_that_are_not_taken_are_counted_by_why(tmp_path: Path) -> None:
    async def refused(flow: str = "talk", token: str = VIEWERS) -> None:
        async with ringing(server.ws(f"/ws/audio/{flow}"), token=token) as phone:
            await phone.until_closed()

    async with running(tmp_path, flows=[TALK], max_calls=1, tokens=TOKENS, trust_loopback=False) as server:
        await refused("nothing")
        await refused(token="not-the-token-at-all")
        async with dial(server.ws("/ws/audio/talk"), token=VIEWERS):
            await refused()
            server.gate.registry.draining = True
            await refused()
            page = await scrape(server, Authorization=f"Bearer {VIEWERS}")
    for reason in ("unknown-flow", "unauthorized", "full", "draining"):
        assert page.value("voicegate_calls_refused_total", transport="audio", reason=reason) == 1, reason
    assert page.value("voicegate_calls_refused_total") == 4
    assert page.value("voicegate_draining") == 1


async def test_a_model_that_fails_is_counted_by_how(tmp_path: Path) -> None:
    async with (
        ThinkingServer(lambda body: [Status(500)]) as model,
        running(tmp_path, flows=[ADVICE], model="openai:m", openai_base_url=model.base_url) as server,
        dial(server.ws("/ws/audio")) as phone,
    ):
        before = await scrape(server)
        assert before.labels("voicegate_provider_errors_total"), "zeros are there from the beginning"
        await phone.asked("Which day")
        page = await scrape(server)
    assert page.value("voicegate_provider_errors_total", stage="model", kind="broken") == 1
    assert page.value("voicegate_provider_errors_total") == 1


async def test_a_call_from_a_browser(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, browser(server.url) as page:
        await page.dial()
        call = (await page.started())["call"]
        await page.hears()
        await asyncio.sleep(0.5)
        live = await scrape(server)
        assert live.value("voicegate_calls_live", flow="talk", transport="webrtc") == 1
        assert live.value("voicegate_rtp_legs", transport="webrtc") == 1
        assert await page.hang_up() == 200
        await server.over(call)
        await server.until(lambda: not server.gate.registry.calls())
        for _ in range(100):  # the connection says goodbye first
            after = await scrape(server)
            if after.value("voicegate_rtp_leg_opinion_score_count", transport="webrtc"):
                break
            await asyncio.sleep(0.05)
    assert after.value("voicegate_rtp_leg_opinion_score_count", transport="webrtc") == 1
    assert after.value("voicegate_rtp_received_packets_total", transport="webrtc") > 10
    assert after.value("voicegate_rtp_lost_packets_total", transport="webrtc") == 0
    assert after.value("voicegate_calls_ended_total", transport="webrtc", cause="caller-hangup") == 1


async def test_calls_out_and_trunks(tmp_path: Path) -> None:
    trunks = '[{"name":"main","uri":"sip:127.0.0.1:9;transport=tcp","user":"u","password":"p","register":true}]'
    async with running(
        tmp_path, flows=[TALK], sip_port=0, sip_trunks=trunks, dial_allow=["@127.0.0.1:9"], dial_per_destination=1
    ) as server:
        placing = server.gate.outbound
        assert placing is not None
        underway = await placing.place(Order(to="sip:x@127.0.0.1:9;transport=tcp", flow="talk"))
        assert (await underway.over()).outcome is Outcome.failed
        for to in ("sip:x@127.0.0.1:9;transport=tcp", "sip:other@192.0.2.1"):
            with pytest.raises(NotPlaced):
                await placing.place(Order(to=to, flow="talk"))
        (line,) = gate(server).trunks.lines
        await server.until(lambda: line.registration is not None and line.registration.failed)
        page = await scrape(server)
    assert page.value("voicegate_calls_out_total", outcome="failed") == page.value("voicegate_calls_out_total") == 1
    assert page.value("voicegate_calls_out_refused_total", rule="calls-per-destination") == 1
    assert page.value("voicegate_calls_out_refused_total", rule="not-allowed") == 1
    assert page.value("voicegate_calls_begun_total", flow="talk", transport="sip") == 1
    assert page.value("voicegate_calls_ended_total", flow="talk", transport="sip", cause="failed") == 1
    assert page.value("voicegate_sip_registration_failures_total", trunk="main") == 1
    assert page.labels("voicegate_sip_trunk_registered") == page.labels("voicegate_sip_trunk_up") == [{"trunk": "main"}]
    assert page.value("voicegate_sip_trunk_registered") == 0
    assert "192.0.2.1" not in page.text


# Who may read it


async def test_viewers_read_it_and_others_are_told_to_sign_in(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS, trust_loopback=False) as server:
        assert (await fetch(server))[0] == 401
        assert (await fetch(server, Authorization="Bearer nobody"))[0] == 401
        for token in (VIEWERS, OPERATORS):
            assert (await fetch(server, Authorization=f"Bearer {token}"))[0] == 200


async def test_programs_on_this_machine_read_it_like_everything(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS) as server:
        assert (await fetch(server))[0] == 200
        assert (await fetch(server, X_Forwarded_For="203.0.113.7"))[0] == 401


async def test_scrapers_that_are_named_need_no_token_but_nobody_behind_a_proxy_is_one(tmp_path: Path) -> None:
    given: dict[str, Any] = {"tokens": TOKENS, "trust_loopback": False}
    async with running(tmp_path / "open", flows=[TALK], metrics_allow="127.0.0.0/8,::1", **given) as server:
        assert (await fetch(server))[0] == 200
        for header in ("X_Forwarded_For", "Forwarded", "Via", "X_Real_IP"):
            assert (await fetch(server, **{header: "127.0.0.1"}))[0] == 401, header
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/api/calls") as response:
            assert response.status == 401, "only this page"
    async with running(tmp_path / "other", flows=[TALK], metrics_allow="192.0.2.0/24", **given) as server:
        assert (await fetch(server))[0] == 401


# The page


async def test_the_page_is_as_declared_in_both_formats(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        page = await scrape(server)
        status, text = await fetch(server, Accept="application/openmetrics-text; version=1.0.0")
        assert status == 200
    told = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
    assert len(list(told)) == len(page.families)
    ours = {name: family for name, family in page.families.items() if name.startswith("voicegate_")}
    assert {family.name.removesuffix("_total") for family in FAMILIES} == set(ours)
    for family in FAMILIES:
        shown = ours[family.name.removesuffix("_total")]
        assert (shown.type, shown.documentation) == (family.kind, family.help)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert re.fullmatch(r"voicegate_[a-z]+(_[a-z]+)*", family.name)
        assert family.help.endswith(".")
        for sample in shown.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), family.name
    assert "_created" not in page.text


class Sounding:
    """A leg with packets, as a telephone's."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.audio_stream = RtpAudio(
            Pcmu(),
            0,
            frozenset(),
            ssrc=1,
            cname="x",
            heard=leg.receive,
            digit=leg.digit,
            transmit=lambda packet: None,
            transmit_report=lambda packet: None,
            now_ms=lambda: 0,
        )
        source = Source()
        for _ in range(3):
            self.audio_stream.rtp(source.packet())

    def tick(self, now_ms: int) -> None:
        self.leg.tick(now_ms)


def test_a_scrape_of_many_calls_holds_nobody_up() -> None:
    """The page's size is that of the label values, not of the calls; each call costs a look at its counts."""

    async def story() -> None:
        house = House(shop(), max_calls=MANY)
        traffic = Traffic(house.ticker)
        page = Page(
            Sources(
                version="1",
                registry=house.registry,
                metrics=house.metrics,
                writer=house.writer,
                ticker=house.ticker,
                traffic=traffic,
                sip=lambda: None,
                outbound=lambda: None,
            )
        )
        async with house.open():
            few = len((await lives(house, 1, page)).text)
            full = await lives(house, MANY - 1, page)
            assert full.value("voicegate_calls_live", flow="shop", transport="audio") == MANY
            assert full.value("voicegate_rtp_received_packets_total", transport="audio") == 3 * MANY
            assert full.value("voicegate_sent_frames_total", transport="audio") > MANY
            assert len(full.text) < 1.2 * few
            took_s = min(timed(page) for _ in range(5))
            assert took_s < SEND_AHEAD_MS / 1000, "no playout runs dry for it"
            for actor in house.registry.calls():
                actor.post(HangupOrdered("desk"))

    run(story())


async def lives(house: House, count: int, page: Page) -> Scrape:
    for _ in range(count):
        phone = await house.call()
        house.ticker.discard(phone.leg)
        house.ticker.add(Sounding(phone.leg), phone.leg.failed)
    await asyncio.sleep(0.5)
    return Scrape(page.render()[0].decode())


def timed(page: Page) -> float:
    """In seconds of the processor's."""
    since_s = time.thread_time()
    page.render()
    return time.thread_time() - since_s
