"""What a user can get wrong has one clear line and status 2."""

import socket
from pathlib import Path

import pytest

from tests.cli.inside import Inside
from tests.cli.process import Done, run, serving
from tests.clients.certificate import self_signed
from tests.e2e.server import TALK


def one_line(done: Done, *words: str) -> None:
    """It ended with status 2 and one clear line that has these words."""
    assert done.status == 2, done
    lines = [line for line in done.err.splitlines() if not line.startswith("warning:")]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], done.err
    assert "Traceback" not in done.out + done.err


async def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await run("serve", TALK, "--port", str(port), "--data-dir", tmp_path / "var", cwd=tmp_path)
    one_line(done, str(port), "in use", "--port")


async def test_a_sip_port_in_use(tmp_path: Path) -> None:
    arguments = ("serve", TALK, "--port", "0", "--data-dir", tmp_path / "var")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        port = datagrams.getsockname()[1]
        one_line(await run(*arguments, "--sip", str(port), cwd=tmp_path), f":{port}: Address already in use", "--sip")
    with socket.create_server(("127.0.0.1", 0)) as stream:
        port = stream.getsockname()[1]
        one_line(await run(*arguments, "--sip", str(port), cwd=tmp_path), f":{port}: Address already in use", "--sip")
        done = await run(
            *arguments,
            "--sip",
            "0",
            cwd=tmp_path,
            VOICEGATE_SIP_TLS_PORT=str(port),
            VOICEGATE_SIP_TLS_CERTIFICATE=str(self_signed(tmp_path / "pem")),
        )
        one_line(done, f":{port}: Address already in use", "VOICEGATE_SIP_TLS_PORT")


async def test_a_data_folder_in_use(tmp_path: Path) -> None:
    async with serving(TALK, folder=tmp_path) as gate:
        done = await run("serve", TALK, "--port", "0", "--data-dir", tmp_path / "var", cwd=tmp_path)
        one_line(done, "in use by another voicegate server", str(gate.process.pid))
        assert (await gate.health())[0] == 200


async def test_a_missing_key(tmp_path: Path) -> None:
    done = await run("serve", TALK, "--port", "0", cwd=tmp_path, VOICEGATE_MODEL="openai:gpt-5-mini")
    one_line(done, "VOICEGATE_OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["serve", "clinicc"], {}, ["clinicc", "there is no such flow", "did you mean clinic?"]),
        (["serve", "{bad}"], {}, ["bad.yaml:3"]),
        (["serve", "[bold]{{.yaml"], {}, ["[bold]{{.yaml", "there is no such flow"]),
        (["serve", "clinic", "clinic"], {}, ["two of the flows", "clinic"]),
        (
            ["serve"],
            {"VOICEGATE_ROUTES": '[{"called": "+1", "flow": "klinik"}]'},
            ["VOICEGATE_ROUTES[0].flow", "klinik"],
        ),
        (["serve", "--host", "0.0.0.0"], {}, ["VOICEGATE_TOKENS"]),
        (["serve", "--port", "70000"], {}, ["--port"]),
        (["serve", "--sip", "70000"], {}, ["--sip:"]),
        (
            ["serve", "--port", "0", "--sip", "0", "--sip-allow", "10.1.2.3/8"],
            {},
            ["--sip-allow[0]", "write 10.0.0.0/8"],
        ),
        (
            ["serve", "--port", "0", "--sip", "0", "--sip-host", "198.51.100.99", "--sip-allow", "10.0.0.0/8"],
            {},
            ["198.51.100.99:0: Cannot assign", "--sip-host"],
        ),
        (
            ["serve", "--port", "0", "--sip", "0"],
            {"VOICEGATE_SIP_TLS_CERTIFICATE": "nothing.pem"},
            ["nothing.pem: No such file", "VOICEGATE_SIP_TLS_CERTIFICATE"],
        ),
        (
            ["serve", "--port", "0", "--sip", "0"],
            {"VOICEGATE_SIP_TLS_CERTIFICATE": "bad.yaml"},
            ["bad.yaml: no certificate and the key", "VOICEGATE_SIP_TLS_KEY"],
        ),
        (["serve", "--config", "nothing.toml"], {}, ["nothing.toml"]),
        (["serve"], {"VOICEGATE_MAX_CALL": "5"}, ["VOICEGATE_MAX_CALL:", "did you mean max_calls?"]),
        (["serve"], {"VOICEGATE_MAX_CALLS": "many"}, ["VOICEGATE_MAX_CALLS:"]),
        (["serve"], {"VOICEGATE_TOKENS": '[{"name": "desk", "role": "boss"}]'}, ["VOICEGATE_TOKENS[0].role"]),
        (["serve"], {"VOICEGATE_TWILIO_AUTH_TOKEN": "secret-secret"}, ["public_url"]),
        (["chat", "nothing.yaml"], {}, ["nothing.yaml"]),
        (["calls"], {}, ["there is no journal here"]),
        (["replay", "abc"], {}, ["there is no journal here"]),
        (["serve", "--data-dir", "/proc/nothing"], {}, ["/proc/nothing"]),
    ],
)
def test_mistakes_get_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    words: list[str],
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("flow: bad\nversion: 1\nstart: nowhere\nsteps:\n  a: {say: Hello., end: done}\n")
    filled = [argument.format(bad=bad) for argument in arguments]
    one_line(Inside(tmp_path, monkeypatch)(*filled, **variables), *[word.format() for word in words])
