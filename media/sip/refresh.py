"""Session timers (RFC 4028): a call whose other side vanished comes to an end."""

import re
from typing import TYPE_CHECKING, Final

from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from media.sip.call import Call

INTERVAL_S: Final = 1800  # what we ask for
MIN_INTERVAL_S: Final = 90  # RFC 4028, 4
MAX_INTERVAL_S: Final = 86_400
AGAIN_PARTS: Final = 10  # of the interval: a refresh that came to nothing is tried again after one of them
EARLY_S: Final = 32  # before the end, at most, the BYE is sent (10)


class SessionTimer:
    """Whoever refreshes does so at half of the interval; the other one ends the call when nothing comes."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self.interval_s = 0  # 0: none
        self.ours = False  # we refresh
        self._min_s = MIN_INTERVAL_S  # the peer's, once it said 422

    # As the one who is asked

    def refuses(self, transaction: ServerTransaction, request: Request, now_ms: int) -> bool:
        """An interval too small for us was refused (8.1)."""
        asked, _ = _read(request)
        if asked is None or asked >= MIN_INTERVAL_S or "timer" not in sip.tokens(request, "Supported"):
            return False
        transaction.refuse(422, now_ms, Min_SE=str(MIN_INTERVAL_S))
        return True

    def answer(self, request: Request, response: Response, now_ms: int) -> None:
        """What the 2xx says (9, table 2)."""
        asked, refresher = _read(request)
        supported = "timer" in sip.tokens(request, "Supported")
        least = sip.number(request, "Min-SE") or 0
        interval_s = min(max(asked or INTERVAL_S, least, MIN_INTERVAL_S), MAX_INTERVAL_S)
        peer = supported and refresher != "uas" and asked is not None
        response.headers.set("Session-Expires", f"{interval_s};refresher={'uac' if peer else 'uas'}")
        if peer:
            response.headers.set("Require", "timer")
        self._start(interval_s, ours=not peer, now_ms=now_ms)

    # As the one who asks

    def request(self, request: Request) -> None:
        interval_s = max(self.interval_s or INTERVAL_S, self._min_s)
        suffix = "" if not self.interval_s else ";refresher=uac" if self.ours else ";refresher=uas"
        request.headers.set("Session-Expires", f"{interval_s}{suffix}")
        request.headers.set("Min-SE", str(self._min_s))

    def too_small(self, response: Response) -> bool:
        """A 422 that can be met (7.4)."""
        least = sip.number(response, "Min-SE")
        if least is None or not self._min_s < least <= MAX_INTERVAL_S:
            return False
        self._min_s = least
        return True

    def answered(self, response: Response, now_ms: int) -> None:
        interval_s, refresher = _read(response)
        if interval_s is None:  # the peer knows nothing of timers: we may still ask whether it is there (7.2)
            self._start(max(self.interval_s or INTERVAL_S, self._min_s), ours=True, now_ms=now_ms)
        else:
            self._start(min(max(interval_s, 2), MAX_INTERVAL_S), ours=refresher != "uas", now_ms=now_ms)

    # The time

    def _start(self, interval_s: int, *, ours: bool, now_ms: int) -> None:
        self.interval_s, self.ours = interval_s, ours
        timers = self._call.timers
        self.disarm()
        if ours:
            timers.arm((self, "refresh"), now_ms + interval_s * 500, self._refresh)
        early_s = min(EARLY_S, interval_s / 3)
        timers.arm((self, "expiry"), now_ms + int((interval_s - early_s) * 1000), self._call.expired)

    def _refresh(self, now_ms: int) -> None:
        self._call.timers.arm((self, "refresh"), now_ms + self.interval_s * 1000 // AGAIN_PARTS, self._refresh)
        self._call.modification.refresh(now_ms)

    def disarm(self) -> None:
        self._call.timers.disarm((self, "refresh"))
        self._call.timers.disarm((self, "expiry"))


def _read(message: Request | Response) -> tuple[int | None, str]:
    """Session-Expires: seconds and refresher."""
    interval_s = sip.number(message, "Session-Expires")
    found = re.search(r"(?i);\s*refresher\s*=\s*(uac|uas)", message.headers.get("Session-Expires") or "")
    return interval_s, found[1].lower() if found else ""
