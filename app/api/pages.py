"""The web pages: the talk page, the console, and what they are made of. Plain files, no build step."""

import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

STATIC: Final = Path(__file__).parent.parent / "console" / "static"
PAGES: Final = {"/": "index.html", "/console": "console.html"}

HEADERS: Final = {
    # A flow's drawing is styled by what it brings along; scripts come from this server alone.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again each time, answered with 304: an upgrade is there at once
}

mimetypes.add_type("text/javascript", ".js")  # some systems' tables say otherwise
mimetypes.add_type("image/svg+xml", ".svg")
mimetypes.add_type("application/manifest+json", ".webmanifest")


def router() -> APIRouter:
    """`/`, `/console` and `/static/...`."""
    pages = APIRouter(include_in_schema=False)
    files = {str(file.relative_to(STATIC)): file for file in STATIC.rglob("*") if file.is_file()}

    def add(path: str, name: str) -> None:
        @pages.api_route(path, methods=["GET", "HEAD"])
        def page() -> Response:
            return _file(STATIC / name)

    for path, name in PAGES.items():
        add(path, name)

    @pages.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    def static(name: str) -> Response:
        file = files.get(name)
        return _file(file) if file is not None else Response(status_code=404)

    return pages


def _file(file: Path) -> Response:
    return FileResponse(file, headers=HEADERS)
