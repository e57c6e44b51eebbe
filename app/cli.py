"""`voicegate ...`: what a person types. Errors that a user can make are one clear line each."""

import asyncio
import json
import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from app import chat as chat_room
from app import main as house
from app.core import cdr, timeline
from app.core.cdr import Cdr, CdrError
from app.core.state import Phase
from app.ports import CallRow, Journal, NoSuchCall, ProviderError, StoreError
from app.runtime.actor import Seen
from app.runtime.replay import Divergence, ReplayError, replay
from app.screen import Screen, print_entry
from app.settings import Role, Settings, SettingsError, Token, load_settings, with_dotenv
from flows import load
from flows.diagram import svg
from flows.mermaid import mermaid

app = typer.Typer(
    name="voicegate",
    help="A real-time voice-agent server in which the call owns its state.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
out = Screen(highlight=False)
err = Screen(stderr=True, highlight=False)

Config = Annotated[Path | None, typer.Option(help="A TOML file with settings; else voicegate.toml if there is one.")]
Data = Annotated[Path | None, typer.Option("--data-dir", help="Where journals and recordings live.")]
FlowName = Annotated[str, typer.Argument(help="A flow's file, or the name of a shipped one.")]

MAX_TYPED_CHARS = 10_000


class GraphFormat(StrEnum):
    svg = "svg"
    mermaid = "mermaid"


DEMO = "Bring the demo's clinic along as the flow's backend."

USER_ERRORS = (SettingsError, load.FlowError, house.StartError, StoreError, ProviderError, ReplayError, NoSuchCall)


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can get wrong ends the command with its own words and status 2."""
    try:
        yield
    except USER_ERRORS as error:
        for line in str(error).splitlines():
            err.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
        raise typer.Exit(2) from None


def settings_from(config: Path | None, **given: Any) -> Settings:
    return load_settings(with_dotenv(os.environ), config, **given)


@app.command()
def serve(
    flows: Annotated[list[str] | None, typer.Argument(help="Flows to serve; the first answers by default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond loopback it needs tokens.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    sip: Annotated[
        int | None, typer.Option("--sip", help="Take SIP calls on this UDP and TCP port, such as 5060.")
    ] = None,
    sip_host: Annotated[str | None, typer.Option(help="Address for SIP; else as --host.")] = None,
    sip_allow: Annotated[
        list[str] | None, typer.Option(help="ADDRESS/NET that may call by SIP without a password; may be repeated.")
    ] = None,
    speech: Annotated[str | None, typer.Option(help="embedded, or scripted for load tests.")] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Where no tokens are set, make one for this run and print it.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help=DEMO)] = False,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Take calls until told to stop; SIGTERM drains."""
    from app.demo.backend import VARIABLE, clinic_backend

    with clear_errors():
        settings = settings_from(
            config,
            flows=flows or None,
            host=host,
            port=port,
            sip_port=sip,
            sip_host=sip_host,
            sip_allow=sip_allow or None,
            speech=speech,
            data_dir=data_dir,
        )
        if new_token and not settings.tokens:
            token = secrets.token_urlsafe(24)
            settings = settings.model_copy(
                update={"tokens": (Token(name="first", role=Role.admin, token=SecretStr(token)),)}
            )
            out.print(f"token for this run: {token}")
        _log_to_stderr(settings.log_level)
        served = house.load_flows(settings)
        environment = with_dotenv(os.environ)
        for flow in served.values():
            for line in house.warnings(settings, flow, {**environment, VARIABLE: ""} if demo else environment):
                err.print(f"[yellow]warning:[/] flow {flow.name}: {escape(line)}", soft_wrap=True)

        def ready(url: str, sip_addresses: Sequence[str]) -> None:
            socket_url = url.replace("http", "ws", 1)
            out.print(f"[bold]Voicegate {house.VERSION}[/] serves {', '.join(served)} on {url}", soft_wrap=True)
            places = ("talk", f"{url}/"), ("console", f"{url}/console"), ("plain audio", f"{socket_url}/ws/audio")
            for name, address in (*places, ("Twilio", f"{socket_url}/ws/twilio")):
                out.print(f"  {name:11}  {address}", soft_wrap=True)
            for line in sip_addresses:
                out.print(f"  {'SIP':11}  {line}", soft_wrap=True)
            if demo:
                out.print("  the demo's clinic knows who was born on 31 May 1980: key in 31051980", soft_wrap=True)

        async def run() -> None:
            backend: AbstractAsyncContextManager[dict[str, str]] = clinic_backend() if demo else nullcontext({})
            async with backend as variables:
                await house.serve(settings, served, {**environment, **variables}, ready)

        uvloop.run(run())


@app.command()
def demo(
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Watch a simulated caller book an appointment over a real call. Exit status 1 if anything is not as promised."""
    from app.demo.run import demo as run_demo

    with clear_errors():
        parent = data_dir or settings_from(config).data_dir
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=parent))  # a clinic without appointments
        settings = settings_from(config, flows=["clinic"], port=0, data_dir=folder)
        failures = uvloop.run(run_demo(settings, with_dotenv(os.environ), out))
    raise typer.Exit(1 if failures else 0)


@app.command()
def dial(
    to: Annotated[str, typer.Argument(help="A SIP address, or a number that a trunk can reach.")],
    flow: Annotated[str, typer.Option("--flow", help="The flow that talks to whoever answers.")],
    caller: Annotated[str, typer.Option(help="The number to be shown; else the trunk's.")] = "",
    answer_s: Annotated[float, typer.Option(help="For how long it may ring.", min=1, max=300)] = 45.0,
    detect: Annotated[bool, typer.Option("--detect", help="Find out first whether a person answers.")] = False,
    slot: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that is known beforehand; may be repeated.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help=DEMO)] = False,
    sip: Annotated[int, typer.Option(help="UDP and TCP port of our own; 0 takes a free one.")] = 0,
    sip_host: Annotated[str | None, typer.Option(help="Address of our own, as the other side reaches it.")] = None,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Call somebody, if the settings allow it. Exit status 0 if a person answered, 1 if nobody did."""
    from app.api.dial import check_slots
    from app.demo.backend import clinic_backend
    from app.dial import dial as place
    from app.dialler.outcome import Outcome
    from app.runtime.outbound import NotPlaced, Order

    with clear_errors():
        settings = settings_from(
            config, flows=[flow], port=0, sip_port=sip, sip_host=sip_host, data_dir=data_dir, drain_s=0
        )
        served = house.load_flows(settings)
        talks = next(iter(served.values()))
        slots = dict(part.partition("=")[::2] for part in slot or ())
        try:
            check_slots(talks, slots)
        except ValueError as error:
            raise SettingsError([f"--slot: {error}"]) from None
        order = Order(to=to, flow=talks.name, by="cli", caller=caller, answer_s=answer_s, detect=detect, slots=slots)
        environment = with_dotenv(os.environ)

        async def run() -> tuple[str, Outcome]:
            backend: AbstractAsyncContextManager[dict[str, str]] = clinic_backend() if demo else nullcontext({})
            async with backend as variables:
                return await place(settings, served, {**environment, **variables}, order, out)

        try:
            call, outcome = uvloop.run(run())
        except NotPlaced as error:
            hint = "; VOICEGATE_DIAL_ALLOW names who may be called" if error.rule == "not-allowed" else ""
            raise SettingsError([f"{to} is not called ({error.rule}): {error}{hint}"]) from None
        out.print(f"[dim]{call}: {outcome}[/]")
    raise typer.Exit(0 if outcome is Outcome.answered else 1)


@app.command("dial-list")
def dial_list(
    file: Annotated[Path, typer.Argument(help="CSV: `to`, perhaps `id` and `time_zone`; further columns fill slots.")],
    flow: Annotated[str, typer.Option("--flow", help="The flow that talks to whoever answers.")],
    name: Annotated[str, typer.Option(help="Under which it goes on where it was; else the file's name.")] = "",
    rate: Annotated[float, typer.Option(help="Calls a second.")] = 1.0,
    concurrency: Annotated[int, typer.Option(help="Calls at once.")] = 1,
    hours: Annotated[str, typer.Option(help="When people may be called.")] = "09:00-20:00",
    days: Annotated[str, typer.Option(help="On which days.")] = "mon-sat",
    zone: Annotated[str, typer.Option(help="Of rows that name none, such as Europe/Berlin.")] = "UTC",
    caller: Annotated[str, typer.Option(help="The number to be shown; else the trunk's.")] = "",
    answer_s: Annotated[float, typer.Option(help="For how long it may ring.", min=1, max=300)] = 45.0,
    detect: Annotated[bool, typer.Option(help="Find out first whether a person answers.")] = True,
    demo: Annotated[bool, typer.Option("--demo", help=DEMO)] = False,
    sip: Annotated[int, typer.Option(help="UDP and TCP port of our own; 0 takes a free one.")] = 0,
    sip_host: Annotated[str | None, typer.Option(help="Address of our own, as the other side reaches it.")] = None,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Call everybody on a list, within its hours; once more, it goes on where it was. Ctrl-C lets live calls end."""
    from app.demo.backend import clinic_backend
    from app.dial import dial_list as run_list
    from app.dialler.hours import BadHours, read_hours
    from app.dialler.plan import BadOptions, Options
    from app.dialler.rows import BadList, read_rows
    from app.dialler.run import ListTaken, Summary

    with clear_errors():
        settings = settings_from(
            config, flows=[flow], port=0, sip_port=sip, sip_host=sip_host, data_dir=data_dir, drain_s=0
        )
        served = house.load_flows(settings)
        try:
            rules, _ = house.dial_rules(settings)
            sheet = read_rows(file.read_bytes(), rules.destinations.numbering, rules.destinations.homes)
            options = Options(
                flow=next(iter(served)),
                caller_id=caller,
                calls_per_second=rate,
                concurrency=concurrency,
                hours=read_hours(hours, days),
                zone=zone,
                answer_timeout_s=answer_s,
            )
        except OSError as error:
            raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None
        except (BadList, BadHours, BadOptions) as error:
            raise SettingsError([f"{file}: {error}"]) from None
        for problem in sheet.problems:
            err.print(f"[yellow]{escape(file.name)}:{problem.line}:[/] {escape(problem.text)}", soft_wrap=True)
        environment = with_dotenv(os.environ)

        async def run() -> Summary:
            backend: AbstractAsyncContextManager[dict[str, str]] = clinic_backend() if demo else nullcontext({})
            async with backend as variables:
                variables = {**environment, **variables}
                known = name or file.stem
                return await run_list(settings, served, variables, known, sheet.rows, options, out, detect=detect)

        try:
            summary = uvloop.run(run())
        except ListTaken as error:
            raise SettingsError([f"{file}: {error}"]) from None
        found = ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()))
        out.print(f"{'all done' if summary.finished else f'{summary.left} left'}: {found or 'nobody was called'}")
    raise typer.Exit(0 if summary.finished else 1)


@app.command()
def chat(
    flow: FlowName,
    demo: Annotated[bool, typer.Option("--demo", help=DEMO)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show steps, slots and verdicts too.")] = False,
    config: Config = None,
) -> None:
    """Talk to a flow by typing. Digits are keyed, /quit hangs up. Lines from a file wait for their turn."""
    from app.demo.backend import clinic_backend

    with clear_errors():
        settings = settings_from(config, flows=[flow])
        environment = with_dotenv(os.environ)
        served = next(iter(house.load_flows(settings).values()))

        def show(text: str) -> None:
            out.print(f"[bold green]agent[/]  {escape(text)}")

        story = timeline.Timeline()

        def watch(seen: Seen) -> None:
            for entry in story.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
                if verbose and entry.kind not in ("agent", "caller", "floor"):
                    print_entry(out, entry)

        async def run() -> None:
            backend: AbstractAsyncContextManager[dict[str, str]] = clinic_backend() if demo else nullcontext({})
            async with backend as variables:
                actor = await chat_room.chat(
                    settings,
                    served,
                    {**environment, **variables},
                    _typed(sys.stdin.fileno()),
                    show,
                    watch,
                    paced=not sys.stdin.isatty(),
                )
            assert actor.record is not None
            out.print(f"[dim]over: {actor.record.outcome} ({actor.record.cause})[/]")

        asyncio.run(run())


@app.command()
def check(
    flows: Annotated[list[str], typer.Argument(help="Flow files, or names of shipped ones.")],
    strict: Annotated[bool, typer.Option(help="Warnings count as errors.")] = False,
) -> None:
    """Find what is wrong in flows, with file and line. Exit status 1 if anything is."""
    wrong = False
    for name in flows:
        with clear_errors():
            flow, problems = load.inspect_file(load.find(name))
        for problem in problems:
            colour = "red" if problem.severity == "error" else "yellow"
            out.print(f"[{colour}]{escape(str(problem))}[/]", soft_wrap=True)
        wrong = wrong or any(problem.severity == "error" or strict for problem in problems)
        if flow is not None and not problems:
            out.print(
                f"[green]ok[/] {flow.name}: {len(flow.steps)} steps, {len(flow.slots)} slots, {len(flow.tools)} tools"
            )
    raise typer.Exit(1 if wrong else 0)


@app.command()
def graph(
    flow: FlowName,
    form: Annotated[GraphFormat, typer.Option("--format", help="A drawing, or text that others draw.")] = (
        GraphFormat.svg
    ),
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file; else standard output.")] = None,
) -> None:
    """Draw a flow: its steps with what they ask and admit, and its ways with their guards."""
    with clear_errors():
        drawn = load.load(load.find(flow))
        text = svg(drawn) if form is GraphFormat.svg else mermaid(drawn)
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError([f"{output}: cannot be written: {error.strerror}"]) from None


@app.command()
def calls(
    call: Annotated[str, typer.Argument(help="Show this call; its beginning is enough. Without one, list them.")] = "",
    flow: Annotated[str, typer.Option(help="Only this flow's.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """List the calls on record, or tell one of them."""
    with clear_errors():
        settings = settings_from(config, data_dir=data_dir)
        store = house.open_store(settings)
        try:
            if call:
                _show_call(store.load(call), settings.data_dir, as_json=as_json)
            else:
                _list_calls(store.calls(limit, flow), as_json=as_json)
        finally:
            store.close()


@app.command(name="replay")
def replay_call(
    call: Annotated[str, typer.Argument(help="The call's id; its beginning is enough.")],
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Make every decision of a call again and compare. Exit status 1 if one differs, 2 if one is unreadable."""
    with clear_errors():
        store = house.open_store(settings_from(config, data_dir=data_dir))
        try:
            journal = store.load(call)
            count, state = 0, None
            for core, _ in replay(journal):
                count, state = count + 1, core.state
        except Divergence as error:
            err.print(f"[bold red]diverged:[/] {escape(str(error))}", soft_wrap=True)
            for effect in error.effects:
                err.print(f"  now orders {type(effect).__name__}", soft_wrap=True)
            raise typer.Exit(1) from None
        finally:
            store.close()
        phase = state.phase if state is not None else Phase.new
        early = " where its journal stops" if journal.row.cdr is not None and phase is not Phase.ended else ""
        done = f"call {journal.row.header.call}: {count} records, every decision the same; {phase}{early}"
        out.print(f"[green]ok[/] {escape(done)}", soft_wrap=True)


def main() -> None:
    app()


async def _typed(descriptor: int) -> AsyncIterator[str]:
    """Its lines. The reading thread is a daemon, since nothing can end its wait for a line that nobody types."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def read() -> None:
        # A file of its own: the interpreter cannot close sys.stdin while a thread waits in it.
        # The loop may end, and cancel what is put, at any line.
        with suppress(RuntimeError, CancelledError):
            with open(descriptor, encoding="utf-8", errors="replace", closefd=False) as typed:
                while line := typed.readline(MAX_TYPED_CHARS):
                    asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(lines.put(""), loop).result()

    threading.Thread(target=read, daemon=True, name="typed").start()
    while line := await lines.get():
        yield line


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for library in ("aioice", "aiortc"):  # they tell each address that they try, and put a peer's words into formats
        logging.getLogger(library).setLevel(logging.WARNING)


def _list_calls(rows: list[CallRow], *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps([_row(row) for row in rows]), ensure_ascii=True)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("call", "started (UTC)", "flow", "outcome", "cause"):
        table.add_column(column, no_wrap=True)
    for column in ("s", "turns", "tools"):
        table.add_column(column, justify="right")
    for row in rows:
        record = _record(row)
        missing = "damaged" if row.cdr is not None else "purged" if row.purged else "live, or died"
        table.add_row(
            escape(row.header.call),
            escape(row.header.started_at[5:19].replace("T", " ")),
            escape(row.header.flow),
            escape(record.outcome if record else missing),
            escape(record.cause) if record else "",
            f"{record.duration_ms / 1000:.0f}" if record else "",
            str(record.turns) if record else "",
            str(len(record.tools)) if record else "",
        )
    out.print(table if rows else "no calls on record")


def _show_call(journal: Journal, folder: Path, *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(_row(journal.row)), ensure_ascii=True)
        return
    header = journal.row.header
    flow = escape(f"{header.flow} {header.flow_hash[:12]}  {header.started_at}")
    out.print(f"[bold]call {escape(header.call)}[/]  flow {flow}")
    story = timeline.Timeline()
    try:
        for core, done in replay(journal):
            for entry in story.tell(done.record.ms, done.event, done.effects, sealed=core.sealed):
                print_entry(out, entry)
    except (ReplayError, Divergence) as error:
        err.print(f"[yellow]the timeline ends here:[/] {escape(str(error))}", soft_wrap=True)
    if record := _record(journal.row):
        _print_record(record)
    if journal.row.recording:
        out.print(f"recording  {folder / journal.row.recording}", markup=False, soft_wrap=True)


def _record(row: CallRow) -> Cdr | None:
    """None where there is none yet, or one that cannot be read."""
    with suppress(CdrError):
        return cdr.read(row.cdr) if row.cdr is not None else None
    return None


def _print_record(record: Cdr) -> None:
    end = escape(f"({record.cause}) after {record.duration_ms / 1000:.0f} s in step {record.last_step}")
    out.print(f"[bold]{escape(record.outcome)}[/] {end}")
    out.print(
        f"  {record.turns} turns, {record.barge_ins} interruptions, {record.holds} holds, {record.replies} replies"
    )
    for tool in record.tools:
        why = f" ({tool.reason})" if tool.reason else ""
        out.print(f"  tool #{tool.n} {tool.tool}: {tool.state}{why}", markup=False)
    for name, value in record.slots.items():
        out.print(f"  {name} = {value}", markup=False)
    if record.input_tokens or record.output_tokens:
        out.print(
            f"  {record.input_tokens} tokens in, {record.output_tokens} out; {record.model_failures} model failures"
        )


def _row(row: CallRow) -> dict[str, Any]:
    record = _record(row)
    return {
        **msgspec.to_builtins(row.header),
        "records": row.records,
        "cdr": msgspec.to_builtins(record),
        "damaged": row.cdr is not None and record is None,
        "recording": row.recording,
        "purged": row.purged,
    }
