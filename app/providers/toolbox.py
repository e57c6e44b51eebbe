"""All of a flow's tools behind the one port."""

from typing import Any

from app.ports import Fault, ToolFailed
from app.providers.http_tools import HttpTools
from app.providers.python_tools import PythonTools
from flows.model import Flow, Tool, Value


class Toolbox:
    """Owns both: `stop` stops them."""

    def __init__(self, http: HttpTools, python: PythonTools) -> None:
        self._http = http
        self._python = python

    async def run(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> dict[str, Any]:
        if tool.http is not None:
            return await self._http.run(flow, tool, arguments, key)
        if tool.python:
            return await self._python.run(flow, tool, arguments, key)
        raise ToolFailed(Fault.rejected, "it has nothing to run")

    async def stop(self) -> None:
        await self._http.stop()
        await self._python.stop()
