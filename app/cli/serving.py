"""`voicegate serve` and `voicegate demo`: a server, for good or for a minute."""

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr
from rich.markup import escape

from app.cli.terminal import Config, Data, Demo, clear_errors, err, out, settings_from, surroundings
from app.settings import Role, Settings, Token, with_dotenv
from flows.model import Flow


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
    demo: Demo = False,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Take calls until told to stop; SIGTERM drains."""
    from app import main as house
    from app.served import load_flows

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
        served = load_flows(settings)
        _warn(settings, list(served.values()), demo=demo)

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
            async with surroundings(demo=demo) as environment:
                await house.serve(settings, served, environment, ready)

        uvloop.run(run())


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


def _warn(settings: Settings, flows: Sequence[Flow], *, demo: bool) -> None:
    from app.demo.backend import VARIABLE
    from app.served import warnings

    environment = with_dotenv(os.environ)
    for flow in flows:
        for line in warnings(settings, flow, {**environment, VARIABLE: ""} if demo else environment):
            err.print(f"[yellow]warning:[/] flow {flow.name}: {escape(line)}", soft_wrap=True)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for library in ("aioice", "aiortc"):  # they tell each address that they try, and put a peer's words into formats
        logging.getLogger(library).setLevel(logging.WARNING)
