"""`voicegate check` and `voicegate graph`: flows as they are written."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.terminal import FlowName, clear_errors, out
from app.settings import SettingsError
from flows import load
from flows.diagram import svg
from flows.mermaid import mermaid


class GraphFormat(StrEnum):
    svg = "svg"
    mermaid = "mermaid"


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
