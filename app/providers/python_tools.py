"""Tools that are Python functions of modules that the settings admit."""

import asyncio
import inspect
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

from app.ports import Fault, ProviderError, ToolFailed, ToolUnknown
from app.providers.tries import Try, persist, typed
from flows.model import Flow, Tool, Value

THREADS = 16

KEY_PARAMETER = "idempotency_key"


class PythonTools:
    """`modules` are the full names of those that flows may call into; what they import is their own business.

    A plain function runs in one of `threads` threads. One that outlives its tool's time keeps its thread until it
    returns, and when all are taken the next tool fails at once as busy.
    """

    def __init__(self, modules: Collection[str], *, threads: int = THREADS) -> None:
        self._modules = frozenset(modules)
        self._threads = threads
        self._running: list[Future[Any]] = []
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tool")

    async def stop(self) -> None:
        """Waits for nobody: a thread that does not end is left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> dict[str, Any]:
        """As `ports.Tools.run`. A function may raise `ToolFailed` or `ToolUnknown` itself, which is believed.

        Cancel it only for reads: a thread cannot be stopped, and nobody would hear how it ended.
        """
        function = self._function(tool)
        call = _bound(function, arguments, key)
        return await persist(tool, lambda current: self._attempt(tool, call, current))

    def _function(self, tool: Tool) -> Callable[..., Any]:
        module, _, name = tool.python.partition(":")
        if module not in self._modules:
            raise ToolFailed(Fault.forbidden, "its module is not admitted")
        if not name.isidentifier() or name.startswith("_"):
            raise ToolFailed(Fault.forbidden, "not a public function's name")
        try:
            function = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            raise ToolFailed(Fault.rejected, "there is no such function") from None
        if not inspect.isroutine(function):
            raise ToolFailed(Fault.rejected, "it is not a function")
        return function

    async def _attempt(self, tool: Tool, call: partial[Any], current: Try) -> dict[str, Any]:
        current.doubt = True
        try:
            if inspect.iscoroutinefunction(call.func):
                result = await _translated_async(call)
            else:
                result = await self._in_thread(call)
        except ToolFailed:
            current.doubt = False
            raise
        if not isinstance(result, Mapping):
            raise ProviderError(Fault.malformed, "not a mapping")
        return typed(tool, dict(result))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        self._running = [future for future in self._running if not future.done()]
        if len(self._running) >= self._threads:
            raise ToolFailed(Fault.busy, f"all {self._threads} threads are taken")
        future = self._pool.submit(_translated, call)
        self._running.append(future)
        return await asyncio.wrap_future(future)


def _bound(function: Callable[..., Any], arguments: dict[str, Value], key: str) -> partial[Any]:
    """The call with its arguments, checked against the signature."""
    signature = inspect.signature(function)
    given: dict[str, Value] = dict(arguments)
    if KEY_PARAMETER in signature.parameters:
        given[KEY_PARAMETER] = key
    try:
        signature.bind(**given)
    except TypeError:
        raise ToolFailed(Fault.rejected, "its parameters are others") from None
    return partial(function, **given)


async def _translated_async(call: Callable[[], Any]) -> Any:
    try:
        return await call()
    except (ToolFailed, ToolUnknown):
        raise
    except Exception as error:  # noqa: BLE001  # foreign code may raise anything; its outcome is told, not swallowed
        raise ProviderError(Fault.broken, type(error).__name__) from None


def _translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (ToolFailed, ToolUnknown):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a thread's exit would otherwise end the server
        raise ProviderError(Fault.broken, type(error).__name__) from None
