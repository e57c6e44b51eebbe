"""`voicegate dial` and `voicegate dial-list`: calls of ours, from a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from rich.markup import escape

from app.cli.terminal import Config, Data, Demo, clear_errors, err, out, settings_from, surroundings
from app.dialler.outcome import Outcome
from app.settings import SettingsError

if TYPE_CHECKING:
    from app.dialler.run import Summary

DialFlow = Annotated[str, typer.Option("--flow", help="The flow that talks to whoever answers.")]
Shown = Annotated[str, typer.Option(help="The number to be shown; else the trunk's.")]
RingS = Annotated[float, typer.Option(help="For how long it may ring.", min=1, max=300)]
SipPort = Annotated[int, typer.Option(help="UDP and TCP port of our own; 0 takes a free one.")]
SipHost = Annotated[str | None, typer.Option(help="Address of our own, as the other side reaches it.")]


def dial(
    to: Annotated[str, typer.Argument(help="A SIP address, or a number that a trunk can reach.")],
    flow: DialFlow,
    caller: Shown = "",
    answer_s: RingS = 45.0,
    detect: Annotated[bool, typer.Option("--detect", help="Find out first whether a person answers.")] = False,
    slot: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that is known beforehand; may be repeated.")
    ] = None,
    demo: Demo = False,
    sip: SipPort = 0,
    sip_host: SipHost = None,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Call somebody, if the settings allow it. Exit status 0 if a person answered, 1 if nobody did."""
    from app.api.dial import check_slots
    from app.dial import dial as place
    from app.runtime.outbound import NotPlaced, Order
    from app.served import load_flows

    with clear_errors():
        settings = settings_from(
            config, flows=[flow], port=0, sip_port=sip, sip_host=sip_host, data_dir=data_dir, drain_s=0
        )
        served = load_flows(settings)
        talks = next(iter(served.values()))
        slots = dict(part.partition("=")[::2] for part in slot or ())
        try:
            check_slots(talks, slots)
        except ValueError as error:
            raise SettingsError([f"--slot: {error}"]) from None
        order = Order(to=to, flow=talks.name, by="cli", caller=caller, answer_s=answer_s, detect=detect, slots=slots)

        async def run() -> tuple[str, Outcome]:
            async with surroundings(demo=demo) as environment:
                return await place(settings, served, environment, order, out)

        try:
            call, outcome = uvloop.run(run())
        except NotPlaced as error:
            hint = "; VOICEGATE_DIAL_ALLOW names who may be called" if error.rule == "not-allowed" else ""
            raise SettingsError([f"{to} is not called ({error.rule}): {error}{hint}"]) from None
        out.print(f"[dim]{call}: {outcome}[/]")
    raise typer.Exit(0 if outcome is Outcome.answered else 1)


def dial_list(
    file: Annotated[Path, typer.Argument(help="CSV: `to`, perhaps `id` and `time_zone`; further columns fill slots.")],
    flow: DialFlow,
    name: Annotated[str, typer.Option(help="Under which it goes on where it was; else the file's name.")] = "",
    rate: Annotated[float, typer.Option(help="Calls a second.")] = 1.0,
    concurrency: Annotated[int, typer.Option(help="Calls at once.")] = 1,
    hours: Annotated[str, typer.Option(help="When people may be called.")] = "09:00-20:00",
    days: Annotated[str, typer.Option(help="On which days.")] = "mon-sat",
    zone: Annotated[str, typer.Option(help="Of rows that name none, such as Europe/Berlin.")] = "UTC",
    caller: Shown = "",
    answer_s: RingS = 45.0,
    detect: Annotated[bool, typer.Option(help="Find out first whether a person answers.")] = True,
    demo: Demo = False,
    sip: SipPort = 0,
    sip_host: SipHost = None,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Call everybody on a list, within its hours; once more, it goes on where it was. Ctrl-C lets live calls end."""
    from app.dial import dial_list as run_list
    from app.dialler.hours import BadHours, read_hours
    from app.dialler.plan import BadOptions, Options
    from app.dialler.rows import BadList, read_rows
    from app.dialler.run import ListTaken
    from app.served import load_flows
    from app.telephony import dial_rules

    with clear_errors():
        settings = settings_from(
            config, flows=[flow], port=0, sip_port=sip, sip_host=sip_host, data_dir=data_dir, drain_s=0
        )
        served = load_flows(settings)
        try:
            rules, _ = dial_rules(settings)
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
        slots = served[options.flow].slots
        for column in {column: None for row in sheet.rows for column in row.values if column not in slots}:
            text = f"the column {column} fills nothing: the flow {options.flow} has no such slot"
            err.print(f"[yellow]{escape(file.name)}:1:[/] {escape(text)}", soft_wrap=True)

        async def run() -> "Summary":
            async with surroundings(demo=demo) as environment:
                known = name or file.stem
                return await run_list(settings, served, environment, known, sheet.rows, options, out, detect=detect)

        try:
            summary = uvloop.run(run())
        except ListTaken as error:
            raise SettingsError([f"{file}: {error}"]) from None
        found = ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()))
        out.print(f"{'all done' if summary.finished else f'{summary.left} left'}: {found or 'nobody was called'}")
    raise typer.Exit(0 if summary.finished else 1)
