"""The documentation against the code: what it shows runs, and what it lists is all there is."""

import ast
import io
import re
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from dotenv import dotenv_values
from pydantic import BaseModel

from app.api import web
from app.cli import app
from app.core import core, gate, replies, turns
from app.settings import PREFIX, Settings, load_settings
from flows import load, schema
from flows.model import SlotType
from media import ear
from media.websocket import plain, protocol, server, socket
from tests.docs import hearing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
EXAMPLES = sorted((DOCS / "examples").glob("*.yaml"))

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")

SKELETON: dict[str, Any] = {
    "flow": "skeleton",
    "version": 1,
    "slots": {"number": {"type": "digits", "ask": "Number?"}, "day": {"type": "weekday", "ask": "Day?"}},
    "tools": {"act": {"effect": "read", "http": {"get": "https://shop.example/{number}"}, "arguments": ["number"]}},
    "start": "begin",
    "steps": {
        "begin": {"collect": ["number", "day"], "tools": ["act"], "next": [{"when": "act.done", "to": "bye"}]},
        "bye": {"say": "Goodbye.", "end": "done"},
    },
}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(info string, content) of the fenced blocks."""
    return [(found[1].strip(), found[2]) for found in FENCE.finditer(text_of(page))]


def section(page: Path, heading: str) -> str:
    """From this heading to the next one of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no section {heading!r}"
    return found[2]


def tables(text: str) -> list[list[list[str]]]:
    """Tables as rows of cells, heads and rulers left out."""
    out: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("| "))])
        elif rows:
            out.append(rows[2:])
            rows = []
    return out


def codes(cell: str) -> list[str]:
    return CODE.findall(cell)


def slug(heading: str) -> str:
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def keys_of(spec: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in spec.model_fields.items()}


def problems(text: str, name: str) -> list[str]:
    return [str(problem) for problem in load.inspect(text, name)[1]]


# Flows


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_whole_flows_have_no_problems(page: Path) -> None:
    for number, (info, content) in enumerate(blocks(page)):
        if info == "yaml":
            assert problems(content, f"block {number} of {page.name}") == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_parts_of_flows_fit_into_one(page: Path) -> None:
    for info, content in blocks(page):
        language, _, part = info.partition(" ")
        if language != "yaml" or not part:
            continue
        given = yaml.safe_load(content)
        whole = yaml.safe_load(yaml.safe_dump(SKELETON))
        match part:
            case "slots":
                whole["slots"] |= given
            case "models":
                whole["models"] = given
            case "http":
                whole["tools"]["act"] |= given | {"effect": "write"}
            case "arguments":
                for name, arguments in given.items():
                    whole["tools"][name] = SKELETON["tools"]["act"] | {
                        "http": {"post": "https://shop.example/"},
                        "arguments": arguments,
                    }
            case _:
                raise AssertionError(f"{page.name}: what is a part named {part!r}?")
        found = problems(yaml.safe_dump(whole, sort_keys=False), part)
        assert [problem for problem in found if "warning" not in problem] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_have_no_problems(path: Path) -> None:
    assert problems(text_of(path), path.name) == []


def test_flows_that_stand_in_pages_are_the_examples() -> None:
    examples = {flow.name: flow for flow in map(load.load, EXAMPLES)}
    shown = [load.loads(content, "block") for page in PAGES for info, content in blocks(page) if info == "yaml"]
    assert {flow.name for flow in shown} == {"parcel", "parcel_desk"}
    for flow in shown:
        assert flow == examples[flow.name]


# The flow language

FLOWS = DOCS / "flows.md"


@pytest.mark.parametrize(
    ("heading", "spec"),
    [
        ("Slots", schema.SlotSpec),
        ("Tools", schema.ToolSpec),
        ("Steps", schema.StepSpec),
        ("Transfers", schema.TransferSpec),
        ("The whole file", schema.FlowSpec),
    ],
)
def test_every_key_is_documented_once(heading: str, spec: type[BaseModel]) -> None:
    listed = [key for row in tables(section(FLOWS, heading))[0] for key in codes(row[0])]
    assert sorted(listed) == sorted(keys_of(spec))


def test_smaller_parts_are_documented() -> None:
    whole = tables(section(FLOWS, "The whole file"))
    limits = {key for row in whole[1] for key in codes(row[0])}
    assert limits == keys_of(schema.LimitsSpec) | {"duration_min"}
    assert {key for row in tables(section(FLOWS, "Models and rules"))[0] for key in codes(row[0])} == keys_of(
        schema.ModelSpec
    )
    voice = next(row for row in whole[0] if row[0] == "`voice`")
    assert keys_of(schema.VoiceSpec) <= set(codes(voice[2]))
    assert keys_of(schema.TransitionSpec) | {"else"} <= set(re.findall(r"\w+", section(FLOWS, "Steps")))
    assert keys_of(schema.ArgumentSpec) <= set(re.findall(r"\w+", section(FLOWS, "Arguments"))) | {"slot"}
    assert set(schema.keys_at(("tools", "x", "http"))) <= set(re.findall(r"\w+", section(FLOWS, "HTTP")))


def test_defaults_of_limits_and_texts_are_those_of_the_schema() -> None:
    whole = tables(section(FLOWS, "The whole file"))
    for row in whole[1]:
        assert int(row[1]) == getattr(schema.LimitsSpec(), codes(row[0])[0])
    assert {codes(row[0])[0]: row[1] for row in whole[2]} == schema.TextsSpec().model_dump()


def test_defaults_of_steps_and_tools_are_those_of_the_schema() -> None:
    for heading, spec in (("Tools", schema.ToolSpec), ("Steps", schema.StepSpec)):
        for row in tables(section(FLOWS, heading))[0]:
            default = next(field.default for name, field in spec.model_fields.items() if name == codes(row[0])[0])
            if re.fullmatch(r"[0-9]+", row[1]):
                assert float(row[1]) == default, row[0]


def test_every_slot_type_is_documented() -> None:
    assert sorted(codes(row[0])[0] for row in tables(section(FLOWS, "Slots"))[1]) == sorted(SlotType)


def test_what_is_not_supported_is_listed() -> None:
    assert set(codes(section(FLOWS, "Not supported yet"))) == schema.NOT_YET


def test_times_are_those_of_the_code() -> None:
    told = [row[1] for row in tables(section(FLOWS, "Taking turns"))[0]]
    assert told == [
        f"{ear.OFFSET_MS} ms",
        f"{turns.ENDPOINT_MS['yesno']} ms",
        f"{turns.ENDPOINT_MS['choice']} ms",
        f"{turns.ENDPOINT_MS['text']} ms",
        f"{turns.ENDPOINT_MS['whole']} ms",
        f"{turns.ENDPOINT_MS['more']} ms",
        f"{turns.DECIDE_MS} ms",
        f"{turns.GO_ON_MS} ms",
        f"{turns.NOISE_MS} ms",
        f"{turns.KEYS_MS // 1000} s",
        f"{gate.FILLER_MS / 1000} s",
        "`limits.silence_s`, `limits.silences`",
    ]
    assert replies.MAX_ROUNDS == 6
    assert "six requests" in section(FLOWS, "Models and rules")


# The audio protocols

AUDIO = DOCS / "audio.md"


def test_close_codes_are_those_of_the_protocol() -> None:
    listed = {codes(row[1])[0]: int(row[0]) for row in tables(section(AUDIO, "Close codes"))[0]}
    assert listed == {str(code): number for code, number in protocol.CLOSE_NUMBERS.items()}


def test_messages_are_those_of_the_protocol() -> None:
    client, start, sent = tables(section(AUDIO, "Messages"))
    assert {codes(row[0])[0] for row in client} == {"start", "digit", "mark", "text", "stop"}
    assert {name for row in start for name in codes(row[0])} == set(plain.Start.__struct_fields__)
    told = {codes(row[0])[0]: set(codes(row[1])) for row in sent}
    kinds = (plain.Started, plain.Mark, plain.Caption, plain.Ended, plain.Error)
    assert told == {kind.__struct_config__.tag: set(kind.__struct_fields__) for kind in kinds} | {"clear": set()}


def test_limits_of_audio_are_those_of_the_code() -> None:
    told = {row[0]: row[1] for row in tables(section(AUDIO, "Limits"))[0]}
    assert told["time for `start`"] == f"{server.START_TIMEOUT_S} s"
    assert told["a text message"] == f"{protocol.MAX_TEXT_CHARS:,} characters"
    assert told["a binary message"] == f"{protocol.MAX_AUDIO_BYTES:,} bytes"
    assert told["audio messages"] == f"{protocol.AUDIO_PER_S} a second, {protocol.AUDIO_BURST} at once"
    assert told["other messages"] == f"{protocol.CONTROL_PER_S} a second, {protocol.CONTROL_BURST} at once"
    assert told["one stretch of speech"] == f"{ear.MAX_UTTERANCE_MS // 1000} s"
    assert (
        told["connections that wait to be admitted"]
        == f"{server.MAX_WAITING}, of one address {server.MAX_WAITING_PER_ADDRESS}"
    )
    assert (
        told["WebSocket frames, whatever is in them"]
        == f"{socket.FRAMES_PER_S} a second, {socket.FRAMES_BURST} at once"
    )
    assert told["the opening request"] == f"{web.MAX_HANDSHAKE_BYTES:,} bytes, {web.MAX_HANDSHAKE_HEADERS} headers"
    assert f"after {web.REQUEST_TIMEOUT_S} s is dropped" in text_of(OPERATE)
    assert (
        told["time that a client may leave what it is sent unread"]
        == f"{server.MAX_STALL_S} s, or {socket.MAX_UNSENT_BYTES // 1024} KiB"
    )
    assert f"For {core.REATTACH_MS // 1000} seconds the call waits" in section(AUDIO, "Resume")


# Settings and commands

OPERATE = DOCS / "operate.md"


def test_every_setting_is_documented_with_its_default() -> None:
    rows = tables(section(OPERATE, "Settings"))[0]
    assert sorted(codes(row[0])[0] for row in rows) == sorted(PREFIX + name.upper() for name in Settings.model_fields)
    for row in rows:
        name = codes(row[0])[0].removeprefix(PREFIX).lower()
        if told := codes(row[1]):
            assert getattr(load_settings({PREFIX + name.upper(): told[0]}), name) == getattr(Settings(), name), name


def test_the_example_of_settings_is_valid() -> None:
    lines = [line.lstrip("#") for line in text_of(ROOT / ".env.example").splitlines() if re.match(r"#?[A-Z_]+=", line)]
    assert len(lines) > 10
    names = {line.partition("=")[0] for line in lines}
    assert names <= {PREFIX + name.upper() for name in Settings.model_fields}
    values = dotenv_values(stream=io.StringIO("\n".join(lines)), interpolate=False)
    given = {name: value for name, value in values.items() if value and name != "VOICEGATE_OPENAI_BASE_URL"}
    load_settings({name: value or "" for name, value in given.items()})


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_variables_that_are_mentioned_exist(page: Path) -> None:
    mentioned = set(re.findall(r"VOICEGATE_[A-Z_]*[A-Z]", text_of(page)))
    assert mentioned <= {PREFIX + name.upper() for name in Settings.model_fields} | {"VOICEGATE_CONFIG"}


def commands() -> dict[str, click.Command]:
    group = typer.main.get_command(app)
    found = getattr(group, "commands")  # noqa: B009  # typer brings a click of its own, whose types are not click's
    assert isinstance(found, dict)
    return found


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_that_are_mentioned_exist(page: Path) -> None:
    known = commands()
    text = text_of(page)
    scripts = [content for info, content in blocks(page) if info == "sh"]
    lines = [*CODE.findall(text), *(line for script in scripts for line in script.splitlines())]
    for line in lines:
        used = re.search(r"(?:^|[ /])voicegate +([a-z]+(?:-[a-z]+)*)\b(.*)", line.partition(" #")[0])
        if used is None or (used[1] not in known and "docker" in line):
            continue
        assert used[1] in known, line
        given = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", used[2])
        assert set(given) <= options(known[used[1]]) | {"--help"}, line
    for option in re.findall(r"`(--[a-z-]+)`", text):
        assert any(option in options(command) for command in known.values()), option


def test_every_command_is_in_the_readme() -> None:
    shown = section(ROOT / "README.md", "The command")
    for name in commands():
        assert f"voicegate {name}" in shown


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_that_are_mentioned_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    mentioned = {code for code in CODE.findall(text_of(page)) if code.startswith("make ")}
    mentioned |= {line for info, content in blocks(page) if info == "sh" for line in content.splitlines()}
    for line in mentioned:
        if found := re.match(r"make ([a-z]+)", line):
            assert found[1] in targets


# Links, places, figures


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(path)), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_places_in_the_code_exist(page: Path) -> None:
    for code in CODE.findall(FENCE.sub("", text_of(page))):
        if re.fullmatch(r"(?:app|media|flows|tests|docs|docker)/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page.name}: {code}"


def test_figures_have_their_source() -> None:
    page = text_of(DOCS / "speech.md")
    found = re.search(r"<!-- figures: .venv/bin/python -m ([\w.]+) -->\n(.*?)<!-- end of figures -->", page, re.DOTALL)
    assert found
    assert found[1] == hearing.__name__
    rows = tables(found[2])[0]
    assert [row[0] for row in rows] == list(hearing.CASES)
    for row in rows:
        shares = [int(cell.removesuffix(" %")) for cell in row[1:]]
        for at in range(0, len(shares), 3):
            assert 99 <= sum(shares[at : at + 3]) <= 101


def test_the_shown_client_is_python() -> None:
    """It stands for more than it shows, so it is only parsed; the whole one is run elsewhere."""
    for info, content in blocks(ROOT / "README.md"):
        if info == "python":
            ast.parse(content)
