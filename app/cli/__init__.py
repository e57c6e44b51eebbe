"""`voicegate ...`: what a person types. Errors that a user can make are one clear line each.

What takes long to import is imported by the commands that need it: a server is none of `voicegate check`'s business.
"""

import typer

from app.cli.chatting import chat
from app.cli.dialling import dial, dial_list
from app.cli.flows import check, graph
from app.cli.loading import load, load_report
from app.cli.records import calls, replay_call
from app.cli.serving import demo, serve

app = typer.Typer(
    name="voicegate",
    help="A real-time voice-agent server in which the call owns its state.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

for name, command in (  # in the order in which --help shows them
    ("serve", serve),
    ("demo", demo),
    ("dial", dial),
    ("dial-list", dial_list),
    ("chat", chat),
    ("check", check),
    ("graph", graph),
    ("calls", calls),
    ("replay", replay_call),
    ("load", load),
    ("load-report", load_report),
):
    app.command(name)(command)


def main() -> None:
    app()
