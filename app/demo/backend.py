"""The demo's clinic as a running HTTP server on this machine."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn

from app.demo.clinic import clinic_app, seed

VARIABLE = "FLOW_CLINIC_URL"
"""What the clinic flow calls it, as `{env.FLOW_CLINIC_URL}`."""


@asynccontextmanager
async def clinic_backend(database: Path | None = None, *, latency_ms: int = 0) -> AsyncIterator[dict[str, str]]:
    """Serves until the context ends; yields the variables that the flow needs. Without a file it forgets."""
    with tempfile.TemporaryDirectory() as folder:
        database = database or Path(folder) / "clinic.sqlite"
        seed(database)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(
                clinic_app(database, latency_ms=latency_ms),
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
            )
            server = _Server(config)
            try:
                async with asyncio.TaskGroup() as group:
                    serving = group.create_task(server.serve([listener]))
                    try:
                        yield {VARIABLE: f"http://127.0.0.1:{listener.getsockname()[1]}"}
                    finally:
                        server.should_exit = True
                        await serving
            except BaseExceptionGroup as group_error:  # what happened beside it goes on as it was
                raise group_error.exceptions[0] from None


class _Server(uvicorn.Server):
    """Signals are the process's own, as in `app.main`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
