"""Which pages may call, and what browsers are told of it."""

import pytest
from fastapi import HTTPException, Request

from app.api.origins import check, is_own

PARTNER = "https://partner.example.com"


def asked(**headers: str) -> Request:
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/webrtc", "headers": lines})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://voice.example.com", "voice.example.com"),  # TLS may end in front of us
        ("https://Voice.Example.com", "voice.example.COM"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_our_own_pages_need_no_permission(origin: str, host: str) -> None:
    assert is_own(origin, host)
    assert check(asked(origin=origin, host=host), []) == {}


def test_programs_name_no_origin() -> None:
    assert check(asked(host="127.0.0.1:8080"), []) == {}


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://",
        "http://127.0.0.1:8081",  # another port is another site
        "http://127.0.0.1",
        "http://127.0.0.1:8080.example.com",
        "ftp://127.0.0.1:8080",
        "http://127.0.0.1:8080/",
        PARTNER + ".evil.example",
        PARTNER + ":8443",
        "http://partner.example.com",
    ],
)
def test_other_pages_are_refused(origin: str) -> None:
    with pytest.raises(HTTPException) as refused:
        check(asked(origin=origin, host="127.0.0.1:8080"), [PARTNER])
    assert refused.value.status_code == 403
    assert "VOICEGATE_ALLOWED_ORIGINS" in refused.value.detail


def test_a_request_without_a_host_has_no_own_pages() -> None:
    assert not is_own("http://", "")
    assert not is_own("", "")


def test_a_page_that_is_allowed_may_read_the_answer() -> None:
    said = check(asked(origin=PARTNER, host="127.0.0.1:8080"), [PARTNER])
    assert said["Access-Control-Allow-Origin"] == PARTNER
    assert said["Vary"] == "Origin"
    assert {"POST", "PATCH", "DELETE"} <= set(said["Access-Control-Allow-Methods"].split(", "))
    assert "Location" in said["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in said  # cookies stay at home
