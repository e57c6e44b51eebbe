"""The composition root: the only place that names concrete classes, reads the environment and the clock."""

import asyncio
import gc
import importlib.metadata
import logging
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from fastapi import FastAPI

from app.api import console, dial, http, pages, session, twilio, webrtc
from app.api.access import Access, TooManyAttempts
from app.api.console import Console
from app.api.session import SignIn
from app.api.tickets import Tickets
from app.api.web import WebServer
from app.core.codec import KEY_BYTES
from app.core.effects import DialLeg, ReferCaller
from app.core.events import CallFailed, TransferFailed
from app.dialler.address import BadAddress, Numbering
from app.dialler.guard import Guard
from app.dialler.hours import BadHours, read_zone
from app.dialler.rules import BadRule, Destinations, Limits, Rules
from app.ports import Llm, StoreError, Stt, Tools, Tts, Words
from app.providers import sphinx
from app.providers.espeak import EspeakTts
from app.providers.http_tools import HttpTools
from app.providers.keys_only import KeysOnlyStt
from app.providers.python_tools import PythonTools
from app.providers.rules import RulesLlm
from app.providers.scripted import ScriptedLlm, ScriptedStt, ScriptedTts
from app.providers.sphinx import SphinxStt
from app.providers.toolbox import Toolbox
from app.runtime.actor import CallActor, Seen, Watch
from app.runtime.aftermath import close_dead_calls
from app.runtime.archive import Archive
from app.runtime.hub import Hub
from app.runtime.journal import JournalFailed, JournalWriter
from app.runtime.line import recordings
from app.runtime.outbound import UNSUPPORTED, Outbound
from app.runtime.registry import Registry
from app.runtime.switchboard import Providers, Switchboard, resume_key
from app.settings import Role, Settings, SettingsError, check_exposure
from app.store import dials
from app.store.dials import DialStore
from app.store.sqlite import SqliteStore
from flows import grammar, load, template
from flows.model import Flow, Model
from media.clock import Ticker
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode
from media.sip import message as sip
from media.sip.auth import Credentials
from media.sip.negotiation import Security
from media.sip.options import SipOptions
from media.sip.server import SipServer
from media.sip.trunks import Trunk
from media.webrtc.peer import Addresses
from media.webrtc.server import WebRtcServer
from media.websocket.server import WebSocketServer

log = logging.getLogger("voicegate")

VERSION = importlib.metadata.version("voicegate")
JOURNAL_FILE = "journal.sqlite"
RECORDINGS_FOLDER = "recordings"
DEFAULT_FLOW = "clinic"
PURGE_EVERY_S = 3600
LISTEN_BACKLOG = 1024
SEND_BUFFER_BYTES = 64 * 1024
"""What the system keeps for a peer that does not read: seconds of audio, where its own default is minutes."""


class StartError(Exception):
    """The server cannot start; `str()` is one clear line."""


class SystemClock:
    """The loop's clock, which the media's ticker uses too, and the wall's."""

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_iso(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def load_flows(settings: Settings) -> dict[str, Flow]:
    """The flows to serve by name, the default first. Raises `flows.load.FlowError` and `SettingsError`."""
    provider, _, name = settings.model.partition(":")
    default = Model("default", provider, name)
    found: dict[str, Flow] = {}
    for name in settings.flows or (DEFAULT_FLOW,):
        flow = load.load(load.find(name), default_model=default)
        if flow.name in found:
            raise SettingsError([f"two of the flows to serve are named {flow.name}"])
        found[flow.name] = flow
    return found


def unset_variables(flow: Flow, environment: Mapping[str, str]) -> list[str]:
    """Variables that the flow's tools need and that are not given."""
    texts = [*flow.allow_hosts, *(step.transfer.to for step in flow.steps.values() if step.transfer is not None)]
    for tool in flow.tools.values():
        if tool.http is not None:
            texts += [tool.http.url, *(value for _, value in tool.http.headers)]
    named = {name.removeprefix("env.") for text in texts for name in template.fields(text) if name.startswith("env.")}
    return sorted(named - environment.keys())


def warnings(settings: Settings, flow: Flow, environment: Mapping[str, str]) -> list[str]:
    """What will not work in this flow as it is served now, one line each."""
    missing = unset_variables(flow, settings.tool_environment(environment))
    told = [f"{name} is not set: tools that use it will fail" for name in missing]
    if settings.speech == "embedded":
        slots = [flow.slots[name] for name in dict.fromkeys(n for step in flow.steps.values() for n in step.collect)]
        phrases = [phrase for name in flow.digressions for phrase in flow.steps[name].phrases]
        words = sphinx.unknown_words(grammar.vocabulary(slots, yesno=True, phrases=phrases))
        told += [f"the embedded recogniser cannot hear the word {word!r}" for word in words]
        if not sphinx.available():
            told.append("the embedded recogniser has no build for this Python: callers must use their keys")
    return told


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
        self._names = dict.fromkeys(flows, "")
        self._recordings: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._access = Access(settings)
        self._tickets = Tickets()
        self._registry = Registry(
            max_calls=settings.max_calls, max_calls_per_address=settings.max_calls_per_address or settings.max_calls
        )
        self._hub = Hub(self._registry)

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
            listener = stack.enter_context(_listen(settings.host, settings.port))
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
            switchboard = self._switchboard(providers, writer)
            sockets = WebSocketServer(switchboard, ticker, settings.trusted_proxies)
            first_port, last_port = settings.media_ports or (0, 0)
            addresses = Addresses(settings.media_host, settings.media_public_address, first_port, last_port)
            browsers = WebRtcServer(switchboard, ticker, addresses)
            phones = await self._phones(switchboard, ticker, stack)
            self.outbound = await self._outbound(switchboard, phones, stack)
            archive = Archive(store)
            stack.callback(archive.close)
            sign_in = SignIn(self._access)
            watching = Console(sign_in, self._registry, self._hub, archive, self.flows, settings.data_dir)
            app = http.create(
                self._registry,
                version=VERSION,
                flows=list(self.flows),
                trouble=lambda: "journal" if writer.error else "",
                sockets=sockets,
                routers=[
                    twilio.router(settings, self._call_is_over),
                    webrtc.router(settings, browsers, self._tickets, sign_in.require(Role.viewer)),
                    session.router(sign_in, flows=list(self.flows), version=VERSION),
                    console.router(watching),
                    dial.router(sign_in, lambda: self.outbound, self.flows),
                    pages.router(),
                ],
                mounts=self._mounts,
            )
            async with asyncio.TaskGroup() as group:
                tick = group.create_task(ticker.run())
                calls = group.create_task(self._registry.run())
                purge = group.create_task(self._purge(store))
                placing = group.create_task(self.outbound.run()) if self.outbound is not None else None
                legs = [group.create_task(server.run()) for server in (browsers, phones) if server is not None]
                server = WebServer(app)
                serving = group.create_task(server.serve([listener]))
                ready(self.url)
                await self._stopping.wait()
                await self._registry.drain(settings.drain_s)
                if self.outbound is not None and placing is not None:
                    self.outbound.stop()
                    await placing
                for gateway in (browsers, phones):
                    if gateway is not None:
                        gateway.stop()
                await asyncio.wait(legs)
                self._hub.close()
                server.should_exit = True
                await serving
                await calls
                purge.cancel()
                tick.cancel()

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
        server = SipServer(
            gateway,
            ticker,
            SipOptions(
                host=settings.sip_address,
                port=settings.sip_port,
                tls_port=settings.sip_tls_port,
                tls_certificate=settings.sip_tls_certificate,
                tls_key=settings.sip_tls_key,
                media_host=settings.media_host,
                public_address=settings.media_public_address,
                media_ports=settings.media_ports or (0, 0),
                allow=settings.sip_allow,
                users={one.user: one.password.get_secret_value() for one in settings.sip_users},
                realm=settings.sip_realm,
                digests=[name.upper() for name in settings.sip_digests],
                codecs=settings.sip_codecs,
                security=Security(settings.sip_srtp),
                ring_ms=settings.sip_ring_ms,
                trunks=_trunks(settings),
            ),
        )
        stack.callback(server.close)
        try:
            await server.listen()
        except OSError as error:  # also what is wrong with a certificate
            where = f"{settings.sip_address}:{settings.sip_port}"
            reason = error.strerror or type(error).__name__
            raise StartError(f"cannot take SIP calls on {where}: {reason}; choose another port with --sip") from error
        self.sip = server
        return server

    def _switchboard(self, providers: Providers, writer: JournalWriter) -> Switchboard:
        folder = self.settings.data_dir / RECORDINGS_FOLDER
        return Switchboard(
            self._registry,
            self.flows,
            providers,
            writer,
            SystemClock(),
            permit=self._permit,
            route=self._route,
            new_id=lambda: secrets.token_hex(8),
            new_key=lambda: secrets.token_bytes(KEY_BYTES),
            record=recordings(folder, self._recorded) if self.settings.recordings else (lambda *_: None),
            watch=self._seen,
            follow=self._hub.follow,
            hand_over=self._hand_over,
        )

    def _hand_over(self, actor: CallActor, order: ReferCaller | DialLeg) -> None:
        if self.outbound is not None:
            self.outbound.hand_over(actor, order)
        else:
            actor.post(TransferFailed(order.n, UNSUPPORTED))

    def _seen(self, seen: Seen) -> None:
        self._hub.watch(seen)
        if self._watch is not None:
            self._watch(seen)

    @asynccontextmanager
    async def _providers(self) -> AsyncIterator[Providers]:
        stt, tts = _speech(self.settings)
        async with self.engines() as (llms, tools), AsyncExitStack() as stack:
            for part in (tts, stt):
                stack.push_async_callback(part.stop)
                await part.start()
            yield Providers(stt, tts, llms, tools)

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[tuple[dict[str, Llm], Tools]]:
        """The models that the flows use, and their tools. Raises `SettingsError`."""
        settings = self.settings
        llms: dict[str, Llm] = {"rules": RulesLlm()}
        used = {model.use for flow in self.flows.values() for model in flow.models.values()}
        if "openai" in used:
            key = settings.openai_api_key.get_secret_value()
            if not key and settings.openai_base_url == type(settings)().openai_base_url:
                raise SettingsError(
                    ["VOICEGATE_OPENAI_API_KEY: a flow uses an OpenAI-compatible model, which needs a key"]
                )
            from app.providers.openai import OpenAiLlm  # half a second, which most commands do not need

            llms["openai"] = OpenAiLlm(settings.openai_base_url, key)
        if "scripted" in used:
            llms["scripted"] = _scripted_llm(settings)
        environment = settings.tool_environment(self._environment)
        tools = Toolbox(HttpTools(environment), PythonTools(settings.python_tool_modules))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(tools.stop)
            for llm in llms.values():
                stack.push_async_callback(llm.stop)
            yield llms, tools

    def _permit(self, request: LegRequest) -> str:
        if request.transport == "twilio":
            twilio.check_stream(self.settings, request)
            return ""
        if request.transport == "sip":  # its own guard has looked already
            return request.identity
        identity = self._tickets.redeem(request.token)
        if identity is None:
            try:
                identity = self._access.identify(request.token, request.peer, request.headers)
            except TooManyAttempts as error:
                raise Refused(CloseCode.too_fast, f"too many wrong tokens: wait {error.retry_s} s") from None
        if identity is None:
            raise Refused(CloseCode.unauthorized, "a valid token is needed")
        if request.listen and not identity.role.covers(Role.operator):
            raise Refused(CloseCode.forbidden, f"listening in needs the role {Role.operator}")
        return identity.name

    def _route(self, request: LegRequest) -> str:
        user = request.called if request.transport == "sip" else ""
        named = user if user in self.flows else ""  # sip:clinic@this-server
        name = request.flow or self.settings.flow_for(request.called, user) or named or next(iter(self.flows))
        if name not in self.flows:
            raise Refused(CloseCode.unknown_flow, "there is no such flow")
        return name

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


def dial_rules(settings: Settings) -> tuple[Rules, ZoneInfo]:
    """Raises `SettingsError`."""
    homes = [sip.uri_of(trunk.uri).host for trunk in settings.sip_trunks]

    def micros(amount: float | None) -> int | None:
        return None if amount is None else round(amount * 1_000_000)

    try:
        numbering = Numbering(country=settings.dial_country)
        destinations = Destinations(settings.dial_allow, settings.dial_deny, numbering=numbering, homes=homes)
        limits = Limits(
            calls_per_day=settings.dial_per_day,
            calls_per_destination=settings.dial_per_destination,
            spend_per_day_micros=micros(settings.dial_spend_per_day),
            spend_per_call_micros=micros(settings.dial_spend_per_call),
            concurrent=settings.dial_concurrent,
            calls_per_second=settings.dial_per_s,
            call_s=settings.dial_max_s,
        )
        rates = {pattern: round(price * 1_000_000) for pattern, price in settings.dial_rates.items()}
        return Rules.of(destinations, limits, rates), read_zone(settings.dial_zone)
    except (BadRule, BadAddress, BadHours) as error:
        raise SettingsError([f"VOICEGATE_DIAL_*: {error}"]) from None


def _trunks(settings: Settings) -> list[Trunk]:
    """Raises `SettingsError`."""
    try:
        return [
            Trunk(
                name=one.name,
                uri=sip.uri_of(one.uri),
                credentials=Credentials(one.user, one.password.get_secret_value()) if one.user else None,
                caller=one.caller,
                register=one.register_,
            )
            for one in settings.sip_trunks
        ]
    except sip.MessageError as error:
        raise SettingsError([f"VOICEGATE_SIP_TRUNKS: {error}"]) from None


def _listen(host: str, port: int) -> socket.socket:
    """Bound here, so that a port in use is one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted connections inherit it
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    listener.listen(LISTEN_BACKLOG)
    return listener


def _speech(settings: Settings) -> tuple[Stt, Tts]:
    if settings.speech == "scripted":
        return (
            ScriptedStt(lambda pcm, hearing: "go on please", final_ms=settings.stt_final_ms),
            ScriptedTts(first_ms=settings.tts_first_audio_ms, speed=settings.tts_speed),
        )
    stt = SphinxStt(workers=settings.stt_workers) if sphinx.available() else KeysOnlyStt()
    return stt, EspeakTts(helpers=settings.tts_helpers)


def _scripted_llm(settings: Settings) -> ScriptedLlm:
    """Says `llm_tokens` words in sentences of ten."""
    words = [Words("and so on. " if n % 10 == 9 else "word ") for n in range(settings.llm_tokens)]
    return ScriptedLlm(lambda request: words, first_ms=settings.llm_first_token_ms, part_ms=settings.llm_token_ms)


async def serve(
    settings: Settings,
    flows: Mapping[str, Flow],
    environment: Mapping[str, str],
    ready: Callable[[str, Sequence[str]], None],
) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once. Raises also `SettingsError`."""
    for at, route in enumerate(settings.routes):
        if route.flow not in flows:
            raise SettingsError([f"VOICEGATE_ROUTES[{at}].flow: {route.flow} is not among the flows that are served"])
    server = Voicegate(settings, flows, environment)
    loop = asyncio.get_running_loop()

    def asked() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the journal is made for that
        log.info("draining: no new calls, live ones may take %d s; once more to stop at once", settings.drain_s)
        server.stop()

    def started(url: str) -> None:
        gc.collect()
        gc.freeze()  # what is loaded by now stays, and each full collection took 40 ms to find that out
        ready(url, server.sip.addresses if server.sip is not None else ())

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    await server.run(started)
