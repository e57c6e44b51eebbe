"""STUN and TURN servers as a browser gets them."""

import base64
import hashlib
import hmac

import pytest

from app.api.ice import CREDENTIAL_S, ice_servers
from app.settings import IceServer, SettingsError, load_settings

STUN = IceServer(urls=("stun:stun.example.com",))
TURN = IceServer(urls=("turn:turn.example.com?transport=udp", "turns:turn.example.com"))
FIXED = IceServer.model_validate({"urls": ["turn:t.example.com"], "username": "u", "credential": "c"})


def test_servers_without_a_secret_are_told_as_they_are() -> None:
    assert ice_servers((STUN, TURN, FIXED), "", "desk", 0) == [
        {"urls": ["stun:stun.example.com"]},
        {"urls": ["turn:turn.example.com?transport=udp", "turns:turn.example.com"]},
        {"urls": ["turn:t.example.com"], "username": "u", "credential": "c"},
    ]


def test_a_shared_secret_gives_credentials_that_end() -> None:
    stun, turn, fixed = ice_servers((STUN, TURN, FIXED), "s3cret", "desk", 1000.9)
    assert "credential" not in stun
    assert fixed["credential"] == "c"
    assert turn["username"] == f"{1000 + CREDENTIAL_S}:desk"
    expected = hmac.new(b"s3cret", turn["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(turn["credential"]) == expected


@pytest.mark.parametrize("wrong", ['[{"urls": []}]', '[{"urls": ["http://x"]}]', '[{"urls": ["turn:"]}]', "x"])
def test_wrong_servers_are_told_at_the_start(wrong: str) -> None:
    with pytest.raises(SettingsError, match="VOICEGATE_ICE_SERVERS"):
        load_settings({"VOICEGATE_ICE_SERVERS": wrong})
