"""The clinic's backend behind somebody who misbehaves: a real HTTP server between the flow's tools and the clinic."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from app.demo.backend import VARIABLE, clinic_backend

# What the far side does with one request
PASS = "pass"  # as it should
CUT_AFTER = "cut after"  # the clinic has done it, and the connection breaks before the answer
CUT_BEFORE = "cut before"  # the connection breaks, and the clinic never heard of it
SLOW = "slow"  # the clinic has done it, and the answer comes too late
TWICE = "twice"  # the clinic gets it twice
BROKEN_AFTER = "500 after"  # the clinic has done it, and 500 is the answer
GARBAGE_AFTER = "garbage after"  # the clinic has done it, and the answer is not JSON
TAKEN = "409"  # refused, definitely

SLOW_S = 5.0


class FarSide:
    """`acts` are what it does with the requests for a path, in order; the last one is repeated, and PASS is usual."""

    def __init__(self, backend: str, acts: Mapping[str, Sequence[str]]) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, str]] = []  # path, idempotency key, what was done
        self._backend = backend
        self._acts = {path: list(given) for path, given in acts.items()}

    def keys(self, path: str) -> list[str]:
        return [key for asked, key, _ in self.asked if asked == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                method, target, _ = line.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                answer = await self._act(method, target, headers, body)
                if answer is None:
                    return
                status, data = answer
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _act(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        path = target.partition("?")[0]
        acts = self._acts.get(path, [PASS])
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        self.asked.append((path, headers.get("idempotency-key", ""), act))
        if act in (CUT_BEFORE, TAKEN):
            return (409, b'{"detail": "taken"}') if act == TAKEN else None
        answer = await self._forward(method, target, headers, body)
        match act:
            case "cut after":
                return None
            case "slow":
                await asyncio.sleep(SLOW_S)
            case "twice":
                answer = await self._forward(method, target, headers, body)
            case "500 after":
                return 500, b"{}"
            case "garbage after":
                return 200, b"<html>hello</html>"
        return answer

    async def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        passed: dict[str, str] = {
            name: headers[name] for name in ("content-type", "idempotency-key") if name in headers
        }
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self._backend + target, data=body, headers=passed) as answer,
        ):
            return answer.status, await answer.read()


@asynccontextmanager
async def misbehaving(database: Path, **acts: Sequence[str]) -> AsyncIterator[tuple[FarSide, dict[str, str]]]:
    """`acts` by path without its slash; yields the far side and the variables that the flow needs."""
    async with clinic_backend(database) as variables:
        far = FarSide(variables[VARIABLE], {f"/{path}": given for path, given in acts.items()})
        async with await asyncio.start_server(far.serve, "127.0.0.1", 0) as server:
            far.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield far, {VARIABLE: far.url}
