"""The composition root: the only place that names concrete classes, reads the environment and the clock."""

import asyncio
import importlib.metadata
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

from app.api import console, dial, http, metrics, pages, session, twilio, web, webrtc
from app.api.access import Access
from app.api.console import Console
from app.api.door import Door
from app.api.session import SignIn
from app.api.tickets import Tickets
from app.core.call import RULES
from app.core.codec import KEY_BYTES
from app.core.events import CallFailed
from app.dialler.guard import Guard
from app.ports import Llm, StoreError, Stt, Tools, Tts
from app.providers import sphinx
from app.providers.espeak import EspeakTts
from app.providers.http_tools import HttpTools
from app.providers.keys_only import KeysOnlyStt
from app.providers.python_tools import PythonTools
from app.providers.rules import RulesLlm
from app.providers.scripted import ScriptedLlm, ScriptedStt, ScriptedTts, talker
from app.providers.sphinx import SphinxStt
from app.providers.toolbox import Toolbox
from app.runtime import garbage
from app.runtime.actor import DECLINED, UNSUPPORTED, CallActor, Handing, Seen, Watch
from app.runtime.aftermath import close_dead_calls
from app.runtime.archive import Archive
from app.runtime.capacity import Capacity
from app.runtime.hub import Hub
from app.runtime.journal import JournalFailed, JournalWriter
from app.runtime.line import recordings
from app.runtime.metrics import Counted, Metrics
from app.runtime.outbound import Outbound
from app.runtime.registry import Registry
from app.runtime.switchboard import Providers, Switchboard, resume_key
from app.served import check_routes
from app.settings import Role, Settings, SettingsError, StartError, check_exposure
from app.store import dials
from app.store.dials import DialStore
from app.store.sqlite import SqliteStore
from app.telephony import LISTEN_ADVICE, dial_rules, sip_options
from flows.model import Flow
from media.clock import Ticker
from media.gateway import Gateway
from media.sip.server import SipServer
from media.sip.streams import ListenError
from media.traffic import Traffic
from media.webrtc.peer import Addresses
from media.webrtc.server import WebRtcServer
from media.websocket.server import WebSocketServer

log = logging.getLogger("voicegate")

VERSION = importlib.metadata.version("voicegate")
JOURNAL_FILE = "journal.sqlite"
RECORDINGS_FOLDER = "recordings"
PURGE_EVERY_S = 3600


class SystemClock:
    """The loop's clock, which the media's ticker uses too, and the wall's."""

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_iso(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_store(settings: Settings) -> SqliteStore:
    """For reading only. Raises `StoreError`."""
    return SqliteStore(settings.data_dir / JOURNAL_FILE, read_only=True)


class Voicegate:
    """One server process. `run` is its life: it returns when `stop` was called and the calls are over."""

    def __init__(
        self,
        settings: Settings,
        flows: Mapping[str, Flow],
        environment: Mapping[str, str],
        *,
        watch: Watch | None = None,
        mounts: Sequence[tuple[str, FastAPI]] = (),
    ) -> None:
        check_exposure(settings)
        self.settings = settings
        self.flows = flows
        self.url = ""
        self.sip: SipServer | None = None  # once it listens, where it is asked for
        self.outbound: Outbound | None = None  # likewise
        self._environment = environment
        self._watch = watch
        self._mounts = mounts
        self._stopping = asyncio.Event()
        self._access = Access(settings)
        self._tickets = Tickets()
        self._registry = Registry(
            max_calls=settings.max_calls,
            max_calls_per_address=settings.max_calls_per_address or settings.max_calls,
            capacity=Capacity(max_load=settings.max_load, max_lag_ms=settings.max_lag_ms),
        )
        self._hub = Hub(self._registry)
        self._metrics = Metrics(self._registry, flows)

    @property
    def registry(self) -> Registry:
        return self._registry

    def stop(self) -> None:
        """Drain: admit no call more, let live ones finish, then return from `run`."""
        self._stopping.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        """`ready` is told the address once calls are taken. Raises `StartError`, `StoreError`, `ProviderError`."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(web.listen(settings.host, settings.port))
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            self.url = f"http://{host}:{listener.getsockname()[1]}"
            store = SqliteStore(settings.data_dir / JOURNAL_FILE)
            stack.callback(store.close)
            if dead := close_dead_calls(store, self._recording_of):
                log.warning("%d calls died with an earlier server: they have their records now", dead)
            writer = JournalWriter(store, self._journal_failed)
            stack.push_async_callback(writer.close)
            providers = await stack.enter_async_context(self._providers())
            ticker = Ticker()
            ticker.began = self._ticked
            switchboard = self._switchboard(providers, writer)
            counted = Counted(switchboard, self._metrics)
            sockets = WebSocketServer(counted, ticker, settings.trusted_proxies)
            first_port, last_port = settings.media_ports or (0, 0)
            addresses = Addresses(settings.media_host, settings.media_public_address, first_port, last_port)
            browsers = WebRtcServer(counted, ticker, addresses)
            phones = await self._phones(counted, ticker, stack)
            self.outbound = await self._outbound(switchboard, phones, stack)
            archive = Archive(store)
            stack.callback(archive.close)
            app = self._web_app(browsers, archive, writer, ticker)
            async with asyncio.TaskGroup() as group:
                tick = group.create_task(ticker.run())
                calls = group.create_task(self._registry.run())
                beside = [
                    group.create_task(self._purge(store)),
                    group.create_task(garbage.sweep(lambda: (self._registry.ended, len(self._registry)))),
                ]
                placing = group.create_task(self.outbound.run()) if self.outbound is not None else None
                legs = [group.create_task(server.run()) for server in (sockets, browsers, phones) if server is not None]
                server = web.WebServer(app, sockets)
                serving = group.create_task(server.serve([listener]))
                ready(self.url)
                await self._stopping.wait()
                await self._registry.drain(settings.drain_s)
                if self.outbound is not None and placing is not None:
                    self.outbound.stop()
                    await placing
                for gateway in (sockets, browsers, phones):
                    if gateway is not None:
                        gateway.stop()
                await asyncio.wait(legs)
                self._hub.close()
                server.should_exit = True
                await serving
                await calls
                for task in (*beside, tick):
                    task.cancel()

    def _web_app(
        self,
        browsers: WebRtcServer,
        archive: Archive,
        writer: JournalWriter,
        ticker: Ticker,
    ) -> FastAPI:
        settings = self.settings
        page = metrics.Page(
            metrics.Sources(
                version=VERSION,
                registry=self._registry,
                metrics=self._metrics,
                writer=writer,
                ticker=ticker,
                traffic=Traffic(ticker),
                sip=lambda: self.sip,
                outbound=lambda: self.outbound,
            )
        )
        sign_in = SignIn(self._access)
        watching = Console(sign_in, self._registry, self._hub, archive, self.flows, settings.data_dir)
        return http.create(
            self._registry,
            version=VERSION,
            flows=list(self.flows),
            trouble=lambda: "journal" if writer.error else "",
            routers=[
                twilio.router(settings, self._call_is_over),
                webrtc.router(settings, browsers, self._tickets, sign_in.require(Role.viewer)),
                session.router(sign_in, flows=list(self.flows), version=VERSION),
                console.router(watching),
                dial.router(sign_in, lambda: self.outbound, self.flows),
                metrics.router(page, sign_in, settings.metrics_allow),
                pages.router(),
            ],
            mounts=self._mounts,
        )

    async def _outbound(
        self, switchboard: Switchboard, phones: SipServer | None, stack: AsyncExitStack
    ) -> Outbound | None:
        """Where calls can be placed. Raises `SettingsError` and `StoreError`."""
        if phones is None:
            return None
        rules, zone = dial_rules(self.settings)
        store = DialStore(self.settings.data_dir / dials.FILE_NAME)
        stack.callback(store.close)
        variables = self.settings.tool_environment(self._environment)
        return Outbound(
            switchboard,
            Guard(rules, store, zone),
            phones.dials,
            variable=lambda name: variables.get(name.removeprefix("env.")),
        )

    async def _phones(self, gateway: Gateway, ticker: Ticker, stack: AsyncExitStack) -> SipServer | None:
        """SIP's sockets, where it is asked for. Raises `StartError`."""
        settings = self.settings
        if settings.sip_port is None:
            return None
        server = SipServer(gateway, ticker, sip_options(settings, settings.sip_port))
        stack.callback(server.close)
        try:
            await server.listen()
        except ListenError as error:
            raise StartError(f"cannot take SIP calls: {error}; {LISTEN_ADVICE[error.blame]}") from error
        self.sip = server
        return server

    def _switchboard(self, providers: Providers, writer: JournalWriter) -> Switchboard:
        folder = self.settings.data_dir / RECORDINGS_FOLDER
        door = Door(self.settings, self._access, self._tickets, self.flows)
        return Switchboard(
            self._registry,
            self.flows,
            providers,
            writer,
            SystemClock(),
            permit=door.permit,
            route=door.route,
            new_id=lambda: secrets.token_hex(8),
            new_key=lambda: secrets.token_bytes(KEY_BYTES),
            record=recordings(folder, self._recorded) if self.settings.recordings else (lambda *_: None),
            watch=self._seen,
            follow=self._hub.follow,
            hand_over=self._hand_over,
        )

    def _ticked(self, now_ms: float, lag_ms: float) -> None:
        self._registry.capacity.ticked(now_ms, time.process_time() * 1000, lag_ms, len(self._registry))

    def _hand_over(self, actor: CallActor, order: Handing) -> None:
        if self.outbound is not None:
            self.outbound.hand_over(actor, order)
        else:
            actor.not_handed(order, UNSUPPORTED, DECLINED)

    def _seen(self, seen: Seen) -> None:
        self._hub.watch(seen)
        self._metrics.watch(seen)
        if self._watch is not None:
            self._watch(seen)

    @asynccontextmanager
    async def _providers(self) -> AsyncIterator[Providers]:
        stt, tts = _speech(self.settings)
        async with self.engines() as (llms, tools), AsyncExitStack() as stack:
            for part in (tts, stt):
                stack.push_async_callback(part.stop)
                await part.start()
            timed = {name: llm if name == RULES else self._metrics.timed(llm) for name, llm in llms.items()}
            yield Providers(stt, tts, timed, tools)

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[tuple[dict[str, Llm], Tools]]:
        """The models that the flows use, and their tools. Raises `SettingsError`."""
        settings = self.settings
        llms: dict[str, Llm] = {RULES: RulesLlm()}
        used = {model.use for flow in self.flows.values() for model in flow.models.values()}
        if settings.speech == "scripted":
            llms |= dict.fromkeys(used - llms.keys(), _talker(settings))
        if "openai" in used - llms.keys():
            key = settings.openai_api_key.get_secret_value()
            if not key and settings.openai_base_url == type(settings)().openai_base_url:
                raise SettingsError(
                    ["VOICEGATE_OPENAI_API_KEY: a flow uses an OpenAI-compatible model, which needs a key"]
                )
            from app.providers.openai import OpenAiLlm  # half a second, which most commands do not need

            llms["openai"] = OpenAiLlm(settings.openai_base_url, key)
        if "scripted" in used - llms.keys():
            llms["scripted"] = _talker(settings)
        environment = settings.tool_environment(self._environment)
        tools = Toolbox(HttpTools(environment), PythonTools(settings.python_tool_modules))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(tools.stop)
            for llm in llms.values():
                stack.push_async_callback(llm.stop)
            yield llms, tools

    def _call_is_over(self, call_sid: str) -> bool:
        return not self._registry.knows(resume_key("twilio", call_sid))

    def _recorded(self, call: str, name: str) -> None:
        actor = self._registry[call]
        actor.recording = actor.recording or f"{RECORDINGS_FOLDER}/{name}"  # later legs' files have its name too

    def _recording_of(self, call: str) -> str:
        name = f"{RECORDINGS_FOLDER}/{call}.wav"
        return name if (self.settings.data_dir / name).is_file() else ""

    def _journal_failed(self, call: str, error: JournalFailed) -> None:
        for actor in self._registry.calls():
            if actor.call == call:
                actor.post(CallFailed(str(error.loss)))

    async def _purge(self, store: SqliteStore) -> None:
        days = self.settings.retention_days
        while days:
            before = datetime.now(UTC) - timedelta(days=days)
            try:
                gone = await asyncio.to_thread(store.purge, before.isoformat(timespec="milliseconds"))
            except StoreError as error:
                log.error("old calls could not be deleted: %s", error)
            else:
                if gone:
                    log.info("%d calls older than %d days were deleted with their keys", gone, days)
            await asyncio.sleep(PURGE_EVERY_S)


def _speech(settings: Settings) -> tuple[Stt, Tts]:
    if settings.speech == "scripted":
        return (
            ScriptedStt("go on please", final_ms=settings.stt_final_ms, partial_ms=settings.stt_partial_ms),
            ScriptedTts(first_ms=settings.tts_first_audio_ms, speed=settings.tts_speed),
        )
    stt = SphinxStt(workers=settings.stt_workers) if sphinx.available() else KeysOnlyStt()
    return stt, EspeakTts(helpers=settings.tts_helpers)


def _talker(settings: Settings) -> ScriptedLlm:
    return talker(settings.llm_tokens, first_ms=settings.llm_first_token_ms, token_ms=settings.llm_token_ms)


async def serve(
    settings: Settings,
    flows: Mapping[str, Flow],
    environment: Mapping[str, str],
    ready: Callable[[str, Sequence[str]], None],
) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once. Raises also `SettingsError`."""
    check_routes(settings, flows)
    server = Voicegate(settings, flows, environment)
    loop = asyncio.get_running_loop()

    def asked() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the journal is made for that
        log.info("draining: no new calls, live ones may take %d s; once more to stop at once", settings.drain_s)
        server.stop()

    def started(url: str) -> None:
        garbage.settle()
        ready(url, server.sip.addresses if server.sip is not None else ())

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    await server.run(started)
