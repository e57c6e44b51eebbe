"""The server's HTTP side: health now, and the doors that transports and tools bring with them."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from app.api.wire import Health
from app.runtime.registry import Registry


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
    app = FastAPI(title="Voicegate", version=version, docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/health", methods=["GET", "HEAD"])
    def health() -> JSONResponse:
        """200 while calls are taken, 503 when not."""
        wrong = "draining" if registry.draining else trouble()
        body = Health(
            status=wrong or "ok", version=version, flows=list(flows), calls=len(registry), max_calls=registry.max_calls
        )
        return JSONResponse(body.model_dump(), 503 if wrong else 200)

    for router in routers:
        app.include_router(router)
    for path, mounted in mounts:
        app.mount(path, mounted)
    return app
