"""Which pages may call: our own, and those of the origins that the settings name."""

from collections.abc import Collection
from typing import Final

from fastapi import HTTPException, Request

CORS_S: Final = 600  # that a browser remembers the answer


def check(request: Request, allowed: Collection[str]) -> dict[str, str]:
    """The headers of the answer (Fetch standard, CORS protocol). Raises 403 for a page of another origin.

    Programs that are no browsers name no origin; they have tokens or nothing.
    """
    origin = request.headers.get("origin")
    if origin is None or is_own(origin, request.headers.get("host", "")):
        return {}
    if origin not in allowed:
        raise HTTPException(403, "pages of this origin may not call: see VOICEGATE_ALLOWED_ORIGINS")
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "POST, PATCH, DELETE",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Expose-Headers": "Location, Retry-After, Voicegate-Resume",
        "Access-Control-Max-Age": str(CORS_S),
        "Vary": "Origin",
    }


def is_own(origin: str, host: str) -> bool:
    """A page that this server gave; TLS may end at a proxy in front."""
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
