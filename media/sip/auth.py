"""Digest authentication (RFC 3261, 22; RFC 7616; RFC 8760), as the one who asks and the one who is asked.

Headers are read here and not by `sipmessage`, which cuts quoted values at their commas.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sipmessage import Request, Response

from media.sip import message as sip

NONCE_MS: Final = 300_000  # for which a nonce is good
MAX_NONCES: Final = 10_000  # of which we remember how often they were used
MAX_NONCE_CHARS: Final = 512  # of somebody else's
MAX_PARAMETERS: Final = 20

_HASHES: Final[Mapping[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),  # what most of the world still speaks
}
_PARAMETER: Final = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str = field(repr=False)
    realm: str = ""  # empty: for any that asks


class Answerer:
    """Our side of challenges to one peer: counts each nonce's uses (RFC 7616, 3.4)."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._uses: OrderedDict[str, int] = OrderedDict()

    def answers(self, request: Request, response: Response) -> bool:
        """Puts the answers to a 401 or 407 into the request. False: it asks for what we do not have."""
        proxy = response.code == 407
        asked, said = ("Proxy-Authenticate", "Proxy-Authorization") if proxy else ("WWW-Authenticate", "Authorization")
        before = {parameters(value).get("nonce") for value in request.headers.getlist(said)}
        best = self._best(response.headers.getlist(asked))
        if best is None:
            return False
        if best["nonce"] in before or (before and best.get("stale", "").lower() != "true"):
            return False  # the password is wrong
        request.headers.set(said, self._authorization(request, best))
        return True

    def _best(self, challenges: Sequence[str]) -> dict[str, str] | None:
        """The strongest that we can answer."""
        found = []
        for challenge in challenges:
            if not challenge.lower().startswith("digest "):
                continue
            said = parameters(challenge)
            algorithm = said.get("algorithm", "MD5").upper()
            qop = said.get("qop", "")
            known = algorithm in _HASHES and (not qop or "auth" in re.split(r"[\s,]+", qop.lower()))
            ours = not self._credentials.realm or said.get("realm") == self._credentials.realm
            if known and ours and 0 < len(said.get("nonce", "")) <= MAX_NONCE_CHARS:
                found.append(said | {"algorithm": algorithm})
        return min(found, key=lambda said: list(_HASHES).index(said["algorithm"]), default=None)

    def _authorization(self, request: Request, challenge: Mapping[str, str]) -> str:
        nonce, algorithm, realm = challenge["nonce"], challenge["algorithm"], challenge.get("realm", "")
        self._uses[nonce] = count = self._uses.pop(nonce, 0) + 1
        while len(self._uses) > 16:
            self._uses.popitem(last=False)
        said = {"username": self._credentials.user, "realm": realm, "nonce": nonce, "uri": str(request.uri)}
        qop = "auth" if challenge.get("qop") else ""
        nc, cnonce = f"{count:08x}", secrets.token_hex(8)
        secret = secret_of(self._credentials.user, realm, self._credentials.password, algorithm)
        said["response"] = proof(secret, algorithm, request.method, str(request.uri), nonce, nc, cnonce, qop)
        quoted = [f'{name}="{_escaped(value)}"' for name, value in said.items()]
        plain = [f"algorithm={algorithm}"]
        if "opaque" in challenge:
            quoted.append(f'opaque="{_escaped(challenge["opaque"])}"')
        if qop:
            quoted.append(f'cnonce="{cnonce}"')
            plain += [f"qop={qop}", f"nc={nc}"]
        return "Digest " + ", ".join(quoted + plain)


@dataclass(frozen=True, slots=True)
class Known:
    """Whose request it is."""

    user: str


class Asker:
    """Our side towards those who call: nonces that say by themselves when they were made, and count their uses."""

    def __init__(self, realm: str, users: Mapping[str, str], algorithms: Sequence[str] = ("SHA-256", "MD5")) -> None:
        """`users`: their passwords. Some telephones give up where they are asked in two ways, or by SHA-256."""
        self._algorithms = tuple(algorithms)
        self.realm = realm
        self._secrets = {
            (user, algorithm): secret_of(user, realm, password, algorithm)
            for user, password in users.items()
            for algorithm in self._algorithms
        }
        self._key = secrets.token_bytes(32)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def challenges(self, now_ms: int, *, stale: bool = False) -> list[str]:
        """For WWW-Authenticate, the strongest first (RFC 8760, 2.3)."""
        nonce = self._nonce(now_ms)
        suffix = ", stale=true" if stale else ""
        return [
            f'Digest realm="{_escaped(self.realm)}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{suffix}'
            for algorithm in self._algorithms
        ]

    def check(self, request: Request, now_ms: int) -> Known | bool:
        """Who it is, else whether the credentials are right but their nonce is too old (`stale`)."""
        for value in request.headers.getlist("Authorization"):
            if not value.lower().startswith("digest "):
                continue
            said = parameters(value)
            if said.get("realm") != self.realm:
                continue
            user, algorithm = said.get("username", ""), said.get("algorithm", "MD5").upper()
            # A user that does not exist takes as long, and is told the same.
            secret = self._secrets.get((user, algorithm), "")
            nonce, nc, cnonce = said.get("nonce", ""), said.get("nc", ""), said.get("cnonce", "")
            qop = said.get("qop", "").lower()
            if qop not in ("", "auth") or algorithm not in _HASHES:
                continue
            expected = proof(secret or "0", algorithm, request.method, said.get("uri", ""), nonce, nc, cnonce, qop)
            right = hmac.compare_digest(expected, said.get("response", "").lower().encode("ascii", "replace").decode())
            if not (right and secret and _same(said.get("uri", ""), request) and self._ours(nonce)):
                continue
            if not self._fresh(nonce, nc, qop, now_ms):
                return True
            return Known(user)
        return False

    def _nonce(self, now_ms: int) -> str:
        made = f"{now_ms:x}.{secrets.token_hex(8)}"
        return f"{made}.{self._sign(made)}"

    def _sign(self, made: str) -> str:
        return hmac.new(self._key, made.encode(), hashlib.sha256).hexdigest()[:32]

    def _ours(self, nonce: str) -> bool:
        made, _, signature = nonce.rpartition(".")
        return nonce.isascii() and hmac.compare_digest(self._sign(made), signature)

    def _fresh(self, nonce: str, nc: str, qop: str, now_ms: int) -> bool:
        """Young enough, and not used so often before: else somebody repeats what was overheard (RFC 7616, 5.12)."""
        made_ms = int(nonce.partition(".")[0], 16)
        if not 0 <= now_ms - made_ms <= NONCE_MS:
            return False
        if qop and not re.fullmatch(r"[0-9a-fA-F]{8}", nc):
            return False
        count = int(nc, 16) if qop else self._counts.get(nonce, 0) + 1
        if count <= self._counts.get(nonce, 0) or (not qop and count > 1):
            return False
        self._counts[nonce] = count
        self._counts.move_to_end(nonce)
        while len(self._counts) > MAX_NONCES:
            self._counts.popitem(last=False)
        return True


def carry(request: Request, ack: Request) -> None:
    """An ACK has the credentials of its INVITE (RFC 3261, 22.1): it cannot be challenged."""
    for name in ("Authorization", "Proxy-Authorization"):
        for value in request.headers.getlist(name):
            ack.headers.add(name, value)


def parameters(value: str) -> dict[str, str]:
    """Of a challenge or an authorization, by lower-case names; what cannot be read is left out."""
    _, _, rest = value.partition(" ")
    found: dict[str, str] = {}
    at = 0
    while at < len(rest) and len(found) < MAX_PARAMETERS:
        matched = _PARAMETER.match(rest, at)
        if matched is None or matched.end() == at:
            break
        quoted, plain = matched[2], matched[3]
        found.setdefault(matched[1].lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = matched.end()
    return found


def secret_of(user: str, realm: str, password: str, algorithm: str) -> str:
    """H(A1) (RFC 7616, 3.4.2)."""
    return _hash(algorithm, f"{user}:{realm}:{password}")


def proof(secret: str, algorithm: str, method: str, uri: str, nonce: str, nc: str, cnonce: str, qop: str) -> str:
    """The `response` (RFC 7616, 3.4.1); without `qop` as RFC 2069 had it."""
    request = _hash(algorithm, f"{method}:{uri}")
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return _hash(algorithm, f"{secret}:{middle}:{request}")


def _hash(algorithm: str, text: str) -> str:
    return _HASHES[algorithm](text.encode()).hexdigest()


def _same(uri: str, request: Request) -> bool:
    """The proof is for this request's address. Some leave out its user or parameters, and proxies change the host."""
    try:
        return sip.uri_of(uri).user in (None, request.uri.user)
    except sip.MessageError:
        return False


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
