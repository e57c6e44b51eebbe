"""What the commands share: their screens, their options, and what becomes of an error."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from app.ports import NoSuchCall, ProviderError, StoreError
from app.runtime.replay import ReplayError
from app.screen import Screen
from app.settings import Settings, SettingsError, StartError, load_settings, with_dotenv
from flows.load import FlowError

out = Screen(highlight=False)
err = Screen(stderr=True, highlight=False)

Config = Annotated[Path | None, typer.Option(help="A TOML file with settings; else voicegate.toml if there is one.")]
Data = Annotated[Path | None, typer.Option("--data-dir", help="Where journals and recordings live.")]
Demo = Annotated[bool, typer.Option("--demo", help="Bring the demo's clinic along as the flow's backend.")]
FlowName = Annotated[str, typer.Argument(help="A flow's file, or the name of a shipped one.")]

USER_ERRORS = (SettingsError, FlowError, StartError, StoreError, ProviderError, ReplayError, NoSuchCall)


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


@asynccontextmanager
async def surroundings(*, demo: bool) -> AsyncIterator[dict[str, str]]:
    """The environment's variables; with the demo's clinic where it is wanted, as long as this is entered."""
    environment = with_dotenv(os.environ)
    if not demo:
        yield environment
        return
    from app.demo.backend import clinic_backend

    async with clinic_backend() as variables:
        yield {**environment, **variables}
