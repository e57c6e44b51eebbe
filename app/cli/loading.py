"""`voicegate load` and `voicegate load-report`: simulated callers, and what they found."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
import uvloop
from rich.markup import escape
from rich.table import Table

from app.cli.terminal import clear_errors, err, out
from app.settings import SettingsError

if TYPE_CHECKING:
    from app.load.files import Files
    from app.load.record import Record
    from app.load.suite.play import Outcome

DEFAULT_SCENARIO: Final = "talk"
INTERRUPTED: Final = 130
SUITE_TOLD: Final = 50  # moments, from one line to the next


def _names(incomplete: str) -> list[tuple[str, str]]:
    """For shells that complete what is typed."""
    return [(name, about) for name, about in _stock() if name.startswith(incomplete)]


def _stock() -> list[tuple[str, str]]:
    from app.load import scenario

    return [(name, scenario.load(path).about) for name, path in scenario.library().items()]


To = Annotated[str, typer.Option("--to", help="Whom to call: ws://, wss://, sip: or sips:, or http(s):// for WebRTC.")]
Calls = Annotated[int, typer.Option(help="How many; with --until-breaks, how many at first.", min=1, max=100_000)]
Ramp = Annotated[str, typer.Option(help="How fast they begin, such as 10/s or 30/min.")]
Hold = Annotated[str, typer.Option(help="How long each goes on, such as 60s or 5m.")]
Scenario = Annotated[
    list[str] | None,
    typer.Option(help="What callers do: a shipped one's name, or a file; of several, in turn.", autocompletion=_names),
]
Processes = Annotated[int, typer.Option(help="Processes of callers; each has use for a core.", min=1, max=64)]
CodecName = Annotated[str, typer.Option(help="By SIP pcmu, pcma, g722, opus, l16; at /ws/audio l16/8000 and so on.")]
Token = Annotated[str, typer.Option(help="The server's token, for calls and its metrics.", envvar="LOAD_TOKEN")]
User = Annotated[str, typer.Option(help="By SIP: who is calling, for servers that ask.")]
Password = Annotated[str, typer.Option(help="By SIP: that user's.", envvar="LOAD_PASSWORD")]
Srtp = Annotated[bool, typer.Option("--srtp", help="By SIP: encrypted sound, and no call without.")]
Ca = Annotated[Path | None, typer.Option(help="PEM file of who vouches for the server; else the system's.")]
Server = Annotated[
    str, typer.Option(help="Address of a Voicegate server's /metrics, where the one that is called does not tell.")
]
Words = Annotated[bool, typer.Option("--words", help="Ask a Voicegate server what it understood; count lost words.")]
Seed = Annotated[int, typer.Option(help="With the same seed, callers make the same choices.", min=0)]
FailIf = Annotated[
    list[str] | None, typer.Option(help='Such as "barge_in_p99_ms > 300", for status 1; may be repeated.')
]
UntilBreaks = Annotated[bool, typer.Option("--until-breaks", help="Find the most calls at which no --fail-if is true.")]
Most = Annotated[int, typer.Option(help="With --until-breaks: more than these are not tried.", min=1, max=100_000)]
Json = Annotated[Path | None, typer.Option(help="Write everything that was measured there.")]
Html = Annotated[Path | None, typer.Option(help="Write a report there; recordings of the worst calls are beside it.")]
Junit = Annotated[Path | None, typer.Option(help="Write JUnit XML there.")]
Compare = Annotated[Path | None, typer.Option(help="The JSON of an earlier run, to compare with.")]
Worst = Annotated[int, typer.Option(help="How many of the worst calls the report lets you hear.", min=0, max=100)]
Suite = Annotated[str, typer.Option(help="turns: a fixed set of moments, to judge how turns are taken.")]
List = Annotated[bool, typer.Option("--list", help="Show the shipped scenarios.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results.")]


def load(
    to: To = "",
    calls: Calls = 10,
    ramp: Ramp = "10/s",
    hold: Hold = "30s",
    scenario: Scenario = None,
    processes: Processes = 1,
    codec: CodecName = "",
    token: Token = "",
    user: User = "",
    password: Password = "",
    srtp: Srtp = False,
    ca: Ca = None,
    server: Server = "",
    words: Words = False,
    seed: Seed = 0,
    fail_if: FailIf = None,
    until_breaks: UntilBreaks = False,
    most: Most = 10_000,
    json: Json = None,
    html: Html = None,
    junit: Junit = None,
    compare: Compare = None,
    worst: Worst = 10,
    suite: Suite = "",
    listing: List = False,
    quiet: Quiet = False,
) -> None:
    """Call a server many times at once, and measure what callers hear. Exit status 1 if a --fail-if came true."""
    if listing:
        _list()
        return
    with _clear_errors():
        if suite:
            raise typer.Exit(_suite(suite, to, token, json, quiet=quiet))
        if not to:
            raise SettingsError(["--to: whom to call? Such as --to ws://127.0.0.1:8080/ws/audio"])

        from app.load import options
        from app.load.command import Command
        from app.load.dial import Dial, site
        from app.load.files import Files
        from app.load.limits import DEFAULT, conditions
        from app.load.run import Plan

        asked = conditions(fail_if or (DEFAULT if until_breaks else ()))
        old = _read(compare) if compare is not None else None
        paths, names = options.scenarios(scenario or [DEFAULT_SCENARIO])
        files = Files(json, html, junit)
        files.check()
        plan = Plan(
            dial=Dial(to, codec, token, user, password, srtp, os.fspath(ca or "")),
            scenarios=paths,
            names=names,
            calls=calls,
            ramp_per_s=options.rate_per_s(ramp),
            hold_s=options.length_s(hold),
            processes=processes,
            seed=seed,
            tapes=0 if until_breaks else worst,
            folder=files.recordings,
            cache=_cache(),
            server=server.rstrip("/") or site(to),
            server_named=bool(server),
            words=words,
            options=(
                ("calls", str(calls)),
                ("ramp", ramp),
                ("hold", hold),
                ("codec", codec or "the line's own"),
                ("processes", str(processes)),
                ("seed", str(seed)),
            ),
        )
        files.clear()
        try:
            record = uvloop.run(Command(plan, asked, out, most=most if until_breaks else 0, quiet=quiet).run())
        except asyncio.CancelledError:
            raise typer.Exit(INTERRUPTED) from None
        status = _finish(record, files, old, compare)
    raise typer.Exit(status)


def load_report(
    run: Annotated[Path, typer.Argument(help="What `voicegate load --json` wrote.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The report; else beside the run.")] = None,
    compare: Compare = None,
) -> None:
    """Draw the report of a run again, from its JSON."""
    from app.load.files import Files

    with _clear_errors():
        record, old = _read(run), _read(compare) if compare is not None else None
        files = Files(html=output or run.with_suffix(".html"))
        if files.html is not None and files.html.resolve() == run.resolve():
            raise SettingsError([f"{run}: the report would take the run's place: name another file with -o"])
        files.check()
        _finish(record, files, old, compare, told=False)


def _finish(record: "Record", files: "Files", old: "Record | None", name: Path | None, *, told: bool = True) -> int:
    """Tell it, write it, and say how it ended."""
    from app.load import figures, tell

    changes = figures.compare(old, record) if old is not None else []
    if told:
        tell.show(out, record)
    if name is not None:
        tell.show_comparison(out, changes, name.name)
    written, troubles = files.write(record, changes, name.name if name is not None else "")
    for path in written:
        out.print(f"wrote {escape(os.fspath(path))}", soft_wrap=True)
    if troubles:
        raise SettingsError(troubles)
    up = any(call.talked_s for call in record.calls)
    if told and not up:
        err.print("[bold red]error:[/] no call was up", soft_wrap=True)
    bad = record.troubles or not up or any(one.broken for one in record.judged)
    return 1 if bad or (record.capacity is not None and not record.capacity.most) else 0


def _read(path: Path) -> "Record":
    from app.load import record

    try:
        return record.read(path)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except record.NotAResult as error:
        raise SettingsError([f"{path}: {error}"]) from None


def _list() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, about in _stock():
        table.add_row(f"[bold]{name}[/]", escape(about))
    out.print(table)


def _suite(name: str, to: str, token: str, json: Path | None, *, quiet: bool) -> int:
    """1 where a goal is missed."""
    from app.load.suite.run import run_suite, to_json
    from app.load.suite.serving import NotServing
    from app.load.suite.tell import GOALS, figures, show, show_faults

    if name != "turns":
        raise SettingsError([f"--suite: there is no suite {name}; did you mean turns?"])
    ended = 0

    def told(outcome: "Outcome", of: int) -> None:
        nonlocal ended
        ended += 1
        if not quiet and (ended % SUITE_TOLD == 0 or ended == of):
            out.print(f"[dim]{ended} of {of} moments[/]")

    try:
        outcomes = uvloop.run(run_suite(to, token=token, told=told))
    except NotServing as error:
        raise SettingsError([str(error)]) from None
    if not quiet:
        show_faults(out, outcomes)
    show(out, outcomes)
    if json is not None:
        _write(json, to_json(outcomes))
    made = figures(outcomes)
    found = ((getattr(made, goal), limit, more) for goal, (limit, more) in GOALS.items())
    return int(any(value is None or (value < limit if more else value > limit) for value, limit, more in found))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be written: {error.strerror}"]) from None


def _cache() -> Path:
    """Where words are kept from one run to the next."""
    with suppress(RuntimeError):  # nobody is at home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voicegate" / "sounds"
    return Path("var") / "sounds"


@contextmanager
def _clear_errors() -> Iterator[None]:
    from app.load.figures import BadCondition
    from app.load.line import BadAddress
    from app.load.options import BadOption
    from app.load.run import CannotRun

    with clear_errors():
        try:
            yield
        except (BadAddress, BadOption, CannotRun) as error:
            raise SettingsError([str(error)]) from None
        except BadCondition as error:
            raise SettingsError([f"--fail-if: {error}"]) from None
