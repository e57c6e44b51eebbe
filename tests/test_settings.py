"""Settings from variables, a file and the command line, and what is said about wrong ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import (
    MAX_FILE_BYTES,
    PREFIX,
    Role,
    Route,
    Settings,
    SettingsError,
    Token,
    check_exposure,
    is_loopback,
    load_settings,
    with_dotenv,
)

SECRET = "s3cret-s3cret-s3cret"
TOKEN = {"name": "desk", "role": "operator", "token": SECRET}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(environment: dict[str, str], file: Path | None = None, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment, file, **overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_defaults_are_local_and_need_nothing() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.data_dir, settings.model) == (
        "127.0.0.1",
        8080,
        Path("var"),
        "rules",
    )
    check_exposure(settings)


def test_command_line_over_variables_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('port = 1\nhost = "10.0.0.1"\nmax_calls = 7\ndata_dir = "/srv/vg"\nflows = ["a", "b"]\n')
    environment = {"VOICEGATE_PORT": "2", "VOICEGATE_HOST": "10.0.0.2", "VOICEGATE_DRAIN_S": "", "HOME": "/"}
    settings = load_settings(environment, file, port=3, host=None)
    assert (settings.port, settings.host, settings.max_calls, settings.drain_s) == (3, "10.0.0.2", 7, 30)
    assert (settings.data_dir, settings.flows) == (Path("/srv/vg"), ("a", "b"))


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "voicegate.toml").write_text("port = 1")
    (tmp_path / "other.toml").write_text("port = 2")
    (tmp_path / "third.toml").write_text("port = 3")
    other = {"VOICEGATE_CONFIG": "other.toml"}
    assert load_settings({}).port == 1
    assert load_settings(other).port == 2
    assert load_settings(other, Path("third.toml")).port == 3


def test_lists_in_variables() -> None:
    settings = load_settings(
        {
            "VOICEGATE_FLOWS": "clinic, ./my flow.yaml,",
            "VOICEGATE_TOOL_ENV": '["SHOP", "DESK_*"]',
            "VOICEGATE_TOKENS": json.dumps([TOKEN]),
            "VOICEGATE_ROUTES": '[{"called": "+15550100", "flow": "a"}, {"pattern": "\\\\+1.*|sales", "flow": "b"}]',
        }
    )
    assert settings.flows == ("clinic", "./my flow.yaml")
    assert settings.tool_env == ("SHOP", "DESK_*")
    assert settings.tokens == (Token(name="desk", role=Role.operator, token=SecretStr(SECRET)),)
    assert [settings.flow_for(called) for called in ("+15550100", "+1999", "15550100")] == ["a", "b", None]
    assert settings.flow_for("", "sales") == "b"


def test_tables_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "voicegate.toml").write_text(
        f'[[tokens]]\nname = "desk"\nrole = "admin"\ntoken_hash = "{hashlib.sha256(SECRET.encode()).hexdigest()}"\n'
        '[[routes]]\nuser = "sales"\nflow = "clinic"\n'
    )
    settings = load_settings({})
    assert settings.tokens[0].digest() == hashlib.sha256(SECRET.encode()).digest()
    assert settings.flow_for("sales") is None
    assert settings.flow_for("", "sales") == "clinic"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PORT", "eighty", "VOICEGATE_PORT: input should be a valid integer"),
        ("PORT", "65536", "VOICEGATE_PORT: input should be less than or equal to 65535"),
        ("MAX_CALLS", "0", "VOICEGATE_MAX_CALLS: input should be greater than"),
        ("MAX_CALLS_PER_ADDRESS", "-1", "VOICEGATE_MAX_CALLS_PER_ADDRESS: input should be greater than"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "VOICEGATE_TRUSTED_PROXIES[1]: must be an IP address or a network"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.1/8",
            "VOICEGATE_TRUSTED_PROXIES[0]: is an address within a network: write 10.0.0.0/8",
        ),
        ("SIP_ALLOW", "192.168.1.300", "VOICEGATE_SIP_ALLOW[0]: must be an IP address or a network"),
        (
            "SIP_TRUNKS",
            '[{"name": "a", "uri": "a.example"}]',
            "VOICEGATE_SIP_TRUNKS[0].uri: must be sip: or sips:",
        ),
        ("SPEECH", "loud", "VOICEGATE_SPEECH: input should be 'embedded' or 'scripted'"),
        ("MODEL", "gpt", "VOICEGATE_MODEL: string should match pattern"),
        ("OPENAI_BASE_URL", "ftp://x", "VOICEGATE_OPENAI_BASE_URL: must be an address"),
        ("PUBLIC_URL", "voice.example.com", "VOICEGATE_PUBLIC_URL: must be an address"),
        ("PUBLIC_URL", "https://voice.example.com:99999", "VOICEGATE_PUBLIC_URL: must be an address"),
        ("PUBLIC_URL", "https://[::1", "VOICEGATE_PUBLIC_URL: must be an address"),
        ("PUBLIC_URL", "https://voice.example.com/path", "VOICEGATE_PUBLIC_URL: must have no path"),
        ("TOKENS", "abc", "VOICEGATE_TOKENS: must be a JSON list of objects"),
        ("TOKENS", "[{", "VOICEGATE_TOKENS: is not valid JSON"),
        ("TOKENS", '[{"name": "x", "role": "king", "token": "' + SECRET + '"}]', "VOICEGATE_TOKENS[0].role: input"),
        ("TOKENS", '[{"name": "x", "role": "admin"}]', "VOICEGATE_TOKENS[0]: needs either token or token_hash"),
        ("TOKENS", '[{"name": "drain", "role": "admin"}]', "VOICEGATE_TOKENS[0]: name must not be drain"),
        ("MEDIA_PORTS", "40000", "VOICEGATE_MEDIA_PORTS: must be a range such as 40000-40999"),
        ("MEDIA_PORTS", "5-70000", "VOICEGATE_MEDIA_PORTS: must be a range within 1024-65535"),
        ("MEDIA_HOST", "here", "VOICEGATE_MEDIA_HOST: must be an IP address"),
        ("ALLOWED_ORIGINS", "https://a.example/path", "VOICEGATE_ALLOWED_ORIGINS[0]: must have no path"),
        ("TOKENS", '[{"name": "x", "role": "admin", "token": "short-s3cret"}]', "VOICEGATE_TOKENS[0]: token must have"),
        (
            "TOKENS",
            '[{"name": "x", "role": "admin", "token_hash": "s3cret"}]',
            "VOICEGATE_TOKENS[0].token_hash: string",
        ),
        ("ROUTES", '[{"flow": "a"}]', "VOICEGATE_ROUTES[0]: needs exactly one of called, user and pattern"),
        ("ROUTES", '[{"flow": "a", "pattern": "("}]', "VOICEGATE_ROUTES[0]: pattern is not a regular expression"),
        ("ROUTES", '[{"flow": "a", "pattern": "(1*)*"}]', "VOICEGATE_ROUTES[0]: pattern could take forever"),
        ("ROUTES", '[{"flow": "a", "to": "b"}]', "VOICEGATE_ROUTES[0].to: there is no such setting"),
        ("TOOL_ENV", "*", "VOICEGATE_TOOL_ENV[0]: must be a variable's name"),
        ("TOOL_ENV", "A,V*", "VOICEGATE_TOOL_ENV[1]: must not give VOICEGATE_ variables"),
        ("TOOL_ENV", "VOICEGATE_OPENAI_API_KEY", "VOICEGATE_TOOL_ENV[0]: must not give VOICEGATE_ variables"),
        ("MAX_CALL", "5", "VOICEGATE_MAX_CALL: there is no such setting, did you mean max_calls?"),
        ("ZZZ", "5", "VOICEGATE_ZZZ: there is no such setting"),
        ("TWILIO_AUTH_TOKEN", SECRET, "settings: twilio_auth_token needs public_url"),
        ("TTS_SPEED", "0", "VOICEGATE_TTS_SPEED: input should be greater than 0"),
        ("STT_FINAL_MS", "-1", "VOICEGATE_STT_FINAL_MS: input should be greater"),
    ],
)
def test_each_problem_is_one_line_that_names_the_variable_and_no_secret(name: str, value: str, complaint: str) -> None:
    found = problems({PREFIX + name: value})
    assert found[0].startswith(complaint)
    assert len(found) == 1
    assert "s3cret" not in found[0]
    assert "\n" not in found[0]


def test_all_problems_are_told_with_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('prot = 1\nmax_calls = "many"\n[[tokens]]\nname = "a b"\n')
    found = problems({"VOICEGATE_HOST": "x" * 300}, file, port="http", drain_s=None)
    assert sorted(line.split(": ")[0] for line in found) == sorted(["--port", "VOICEGATE_HOST", *[str(file)] * 4])
    assert f"{file}: prot: there is no such setting, did you mean port?" in found
    assert any(line.startswith(f"{file}: tokens[0].name: ") for line in found)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"port = ", "Invalid value"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than"),
        (b"port = 1\nport = 2", "Cannot overwrite"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    (line,) = problems({}, file)
    assert line.startswith(f"{file}: ")
    assert complaint in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert problems({"VOICEGATE_CONFIG": "gone.toml"}) == ("gone.toml: No such file or directory",)
    assert problems({}, tmp_path) == (f"{tmp_path}: Is a directory",)


def test_two_tokens_may_not_be_the_same() -> None:
    twice = [TOKEN, {**TOKEN, "name": "other"}]
    assert problems({}, tokens=twice) == ("settings: tokens must differ: two have the same value",)
    twice = [TOKEN, {**TOKEN, "token": SECRET + "2"}]
    assert problems({}, tokens=twice) == ("settings: tokens must differ: two have the same name",)


def test_secrets_do_not_show() -> None:
    settings = load_settings({"VOICEGATE_OPENAI_API_KEY": SECRET, "VOICEGATE_TOKENS": json.dumps([TOKEN])})
    assert settings.openai_api_key.get_secret_value() == SECRET
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text
    with pytest.raises(ValidationError) as caught:
        Token.model_validate({**TOKEN, "role": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.nip.io"]
)
def test_no_exposure_without_tokens(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="VOICEGATE_TOKENS"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, tokens=(Token.model_validate(TOKEN),)))


def test_sip_is_open_only_where_somebody_may_call() -> None:
    away: dict[str, Any] = {"sip_port": 5060, "sip_host": "192.168.1.7"}
    with pytest.raises(SettingsError, match=r"none may call: set .* or VOICEGATE_SIP_TRUNKS"):
        check_exposure(load_settings({}, **away))
    named: tuple[dict[str, Any], ...] = (
        {"sip_allow": "192.168.1.0/24"},
        {"sip_users": [{"user": "desk", "password": "long-enough-for-it"}]},
        {"sip_trunks": [{"name": "main", "uri": "sip:provider.example"}]},
    )
    for somebody in named:
        check_exposure(load_settings({}, **away, **somebody))
    check_exposure(load_settings({}, sip_port=5060))


@pytest.mark.parametrize(
    ("uri", "srtp", "right"),
    [
        ("sip:provider.example", "none", True),
        ("sip:provider.example", "dtls", True),
        ("sip:provider.example", "sdes", False),
        ("sip:provider.example;transport=tcp", "sdes", False),
        ("sip:provider.example;transport=TLS", "sdes", True),
        ("sips:provider.example", "sdes", True),
        ("sip:provider.example", "zrtp", False),
    ],
)
def test_what_a_trunk_may_be_offered(uri: str, srtp: str, right: bool) -> None:
    trunk = {"name": "main", "uri": uri, "srtp": srtp}
    if right:
        assert load_settings({}, sip_trunks=[trunk]).sip_trunks[0].srtp == srtp
    else:
        with pytest.raises(SettingsError, match="srtp"):
            load_settings({}, sip_trunks=[trunk])


def test_no_trunk_is_without_srtp_where_that_is_required() -> None:
    trunk = {"name": "main", "uri": "sip:provider.example", "srtp": "none"}
    with pytest.raises(SettingsError, match="cannot be none"):
        load_settings({}, sip_trunks=[trunk], sip_srtp="required")


def test_a_public_address_counts_as_exposure() -> None:
    with pytest.raises(SettingsError, match="VOICEGATE_PUBLIC_URL"):
        check_exposure(Settings(public_url="https://voice.example.com"))
    assert Settings().loopback_is_trusted
    assert not Settings(public_url="https://voice.example.com").loopback_is_trusted
    assert Settings(public_url="https://voice.example.com", trust_loopback=True).loopback_is_trusted
    assert not Settings(trust_loopback=False).loopback_is_trusted


def test_flows_see_only_their_variables() -> None:
    environment = {"FLOW_SHOP": "1", "FLOW": "2", "SHOP": "3", "VOICEGATE_OPENAI_API_KEY": "4", "PATH": "5"}
    assert Settings().tool_environment(environment) == {"FLOW_SHOP": "1"}
    assert Settings(tool_env=("SHOP",)).tool_environment(environment) == {"SHOP": "3"}
    assert Settings(tool_env=()).tool_environment(environment) == {}


def test_dotenv_stands_behind_the_environment(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert with_dotenv({"A": "1"}, file) == {"A": "1"}
    file.write_text('# comment\nA=2\nB="two words"\nC=${A}\nVOICEGATE_PORT=99\nEMPTY\n')
    environment = with_dotenv({"A": "1"}, file)
    assert environment == {"A": "1", "B": "two words", "C": "${A}", "VOICEGATE_PORT": "99"}
    assert load_settings(environment).port == 99
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        with_dotenv({}, file)


def test_the_example_is_what_the_settings_say() -> None:
    """Each line of `.env.example`, its comment mark taken off, is a known variable with an acceptable value."""
    example = Path(__file__).parent.parent / ".env.example"
    lines = [line.removeprefix("#") for line in example.read_text().splitlines() if PREFIX in line and "=" in line]
    environment = dict(line.split("=", 1) for line in lines)
    load_settings({name: value.strip("'") for name, value in environment.items()})
    assert len(environment) > 10
    with pytest.raises(SettingsError):
        load_settings({**environment, "VOICEGATE_PORT": "x"})


@pytest.mark.parametrize(
    ("have", "need", "covered"),
    [
        (Role.viewer, Role.viewer, True),
        (Role.viewer, Role.operator, False),
        (Role.operator, Role.viewer, True),
        (Role.operator, Role.admin, False),
        (Role.admin, Role.viewer, True),
        (Role.admin, Role.admin, True),
    ],
)
def test_roles_are_ordered(have: Role, need: Role, covered: bool) -> None:
    assert have.covers(need) is covered


def test_a_route_matches_whole_names_only() -> None:
    assert not Route(flow="a", called="+1555").matches("+15550100")
    assert not Route(flow="a", pattern="1555").matches("+1555")
    assert not Route(flow="a", pattern=".*").matches("", "")
    assert not Route(flow="a", pattern=".*").matches("1" * 65)
