"""`voicegate check`, and what every command says about itself."""

from pathlib import Path

import pytest

from app.cli import app
from tests.cli.inside import Inside

BROKEN = """\
flow: broken
version: 1
slots:
  day: {type: weekday, ask: "Which day?"}
start: ask
steps:
  ask:
    collect: [dya]
    next: bey
  bye: {say: Goodbye., end: told}
"""


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    return Inside(tmp_path, monkeypatch)


def test_shipped_flows_are_fine(inside: Inside) -> None:
    done = inside("check", "clinic", "--strict")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("ok clinic")


def test_what_is_wrong_has_its_file_and_line(inside: Inside) -> None:
    (inside.folder / "broken.yaml").write_text(BROKEN)
    done = inside("check", "broken.yaml", "clinic")
    assert done.status == 1
    lines = done.out.splitlines()
    assert any(line.startswith("broken.yaml:8: ") and "did you mean day?" in line for line in lines)
    assert any(line.startswith("broken.yaml:9: ") and "did you mean bye?" in line for line in lines)
    assert any(line.startswith("ok clinic") for line in lines), "the others are checked too"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"flow: x\nversion: [1\n", "x.yaml:"),
        (b"\xff\xfe\x00", "x.yaml: not UTF-8"),
        (b"", "x.yaml:"),
        (b"- a\n- b\n", "x.yaml:"),
        (b"flow: x\nversion: 1\nstart: a\nsteps: {a: {say: Hi., end: done}}\nextra: 1\n", "x.yaml:5: extra"),
        (b"a: &a [*a]\n", "x.yaml:1"),
        (b"flow: !!python/object/apply:os.system ['true']\n", "x.yaml:1"),
    ],
)
def test_files_that_are_no_flows(inside: Inside, text: bytes, line: str) -> None:
    (inside.folder / "x.yaml").write_bytes(text)
    done = inside("check", "x.yaml")
    assert done.status == 1
    assert line in done.out
    assert "Traceback" not in done.out + done.err


def test_a_warning_counts_where_asked(inside: Inside) -> None:
    (inside.folder / "free.yaml").write_text(
        "flow: free\nversion: 1\nslots:\n  name: {type: string, ask: 'Your name?'}\nstart: ask\n"
        "steps:\n  ask: {collect: [name], next: bye}\n  bye: {say: Goodbye., end: told}\n"
    )
    lax = inside("check", "free.yaml")
    assert (lax.status, "warning" in lax.out, "free.yaml:7: " in lax.out) == (0, True, True)
    assert inside("check", "free.yaml", "--strict").status == 1


COMMANDS = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]


def test_help_names_every_command(inside: Inside) -> None:
    done = inside("--help")
    assert done.status == 0
    kept = ["calls", "chat", "check", "demo", "dial", "dial-list", "graph", "load", "load-report", "replay", "serve"]
    assert sorted(COMMANDS) == kept
    for name in COMMANDS:
        assert f" {name} " in done.out
    assert inside().out.count("Commands") == 1, "without a command, the same"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_its_options(inside: Inside, name: str) -> None:
    done = inside(name, "--help")
    assert done.status == 0
    rows = [line for line in done.out.splitlines() if line.startswith("│") and "--" in line]
    assert all(len(row.strip("│ ").split("  ")) > 1 for row in rows), "each option has its words"
    assert "TEXT" not in done.out.split("Usage")[0]


def test_an_unknown_command_or_option_is_one_short_message(inside: Inside) -> None:
    for arguments in (["serv"], ["serve", "--prot", "1"], ["replay"]):
        done = inside(*arguments)
        assert done.status == 2
        assert "Traceback" not in done.err
        assert "Usage" in done.err
