"""The server's HTTP side: health now, and the doors that transports and tools bring with them."""

from collections.abc import Callable, Sequence
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from app.api.wire import Health
from app.runtime.registry import Registry

RETRY_S: Final = 5


def create(
    registry: Registry,
    *,
    version: str,
    flows: Sequence[str],
    trouble: Callable[[], str],
    routers: Sequence[APIRouter] = (),
    mounts: Sequence[tuple[str, FastAPI]] = (),
) -> FastAPI:
    """`trouble` says in a word what is wrong, or nothing."""

    def admits() -> bool:
        return registry.admits and not trouble()

    app = FastAPI(title="Voicegate", version=version, docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> JSONResponse:
        """200 while nothing is wrong, 503 where something is. It blocks on nothing: a thread would cost more."""
        wrong = "draining" if registry.draining else trouble()
        body = Health(
            status=wrong or "ok",
            version=version,
            flows=list(flows),
            calls=len(registry),
            max_calls=registry.max_calls,
            admits=admits(),
        )
        return JSONResponse(body.model_dump(), 503 if wrong else 200)

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> JSONResponse:
        """For load balancers: 200 while one more call would be taken, 503 when not."""
        admitted = admits()
        headers = None if admitted else {"Retry-After": str(RETRY_S)}
        return JSONResponse({"admits": admitted}, 200 if admitted else 503, headers)

    for router in routers:
        app.include_router(router)
    for path, mounted in mounts:
        app.mount(path, mounted)
    return app
