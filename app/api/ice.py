"""STUN and TURN servers for a peer, with credentials that end soon where the servers share a secret with us."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

from app.settings import IceServer

CREDENTIAL_S: Final = 3600  # long enough for a call's first allocation; refreshes go on with it


def ice_servers(servers: Sequence[IceServer], secret: str, name: str, now_s: float) -> list[dict[str, Any]]:
    """In the form of `RTCPeerConnection`'s `iceServers`.

    A TURN server without a credential gets one that it can check with the shared `secret`: the user name holds the time
    of its end, the password is its HMAC (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest-00).
    """
    username = f"{int(now_s) + CREDENTIAL_S}:{name}"
    password = base64.b64encode(hmac.digest(secret.encode(), username.encode(), hashlib.sha1)).decode()
    found = []
    for server in servers:
        entry: dict[str, Any] = {"urls": list(server.urls)}
        if server.username or server.credential.get_secret_value():
            entry |= {"username": server.username, "credential": server.credential.get_secret_value()}
        elif secret and any(url.startswith("turn") for url in server.urls):
            entry |= {"username": username, "credential": password}
        found.append(entry)
    return found
