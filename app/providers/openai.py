"""Models behind any OpenAI-compatible address, by streaming chat completions.

The vendor's client keeps authentication, addresses and the connection pool; the stream is decoded here, which costs
about a third of its own models per chunk. Source: the API reference's "Chat Completions" and "Streaming events", and
the WHATWG HTML standard, 9.2.6, for the event stream.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import aiohttp
import httpx2
import msgspec
from msgspec import Struct
from openai import APIConnectionError, AsyncOpenAI

from app.core.events import ToolRequest
from app.core.request import Message, Request, ToolSpec
from app.ports import Calls, Fault, Part, Proposal, ProviderError, Used, Words
from app.providers import pool
from flows import values
from flows.model import Slot, SlotType, Value

CONNECT_MS = 3_000
FIRST_MS = 8_000  # from the request to the first byte of the answer, a retry included
GAP_MS = 5_000  # between two pieces of the answer
USAGE_MS = 500  # after the message's end, for the usage that follows it
END_MS = 50  # after the stream's last event, for the end of the HTTP message: without it the connection is given up
RETRY_PAUSE_MS = 250
CONNECTIONS = 500
MAX_ANSWER_BYTES = 1024 * 1024
MAX_EVENT_BYTES = 64 * 1024
MAX_CALLS = 16
MAX_ARGUMENT_CHARS = 8 * 1024
MAX_NAME_CHARS = 200

SET_SLOTS = "set_slots"
DIGRESS = "digress"
ANSWER = "answer"
RESERVED = frozenset((SET_SLOTS, DIGRESS, ANSWER))
"""Names of our own functions: no tool of a flow may have one."""

RETRIED = frozenset((Fault.refused, Fault.cut, Fault.busy))
STILL_RUNNING = "still running"

# At their debug level some versions of the vendor's client log whole requests, and those hold what callers said.
logging.getLogger("openai").setLevel(logging.INFO)


class OpenAiLlm:
    """One far side and its connection pool: make one for the process and keep it.

    `extra` is merged into every request's body, for what a model needs besides: `{"reasoning_effort": "none"}`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        connect_ms: int = CONNECT_MS,
        first_ms: int = FIRST_MS,
        gap_ms: int = GAP_MS,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._first_s = first_ms / 1000
        self._gap_s = gap_ms / 1000
        self._extra = dict(extra or {})
        self._http = pool.http_client(CONNECTIONS)
        # Before the vendor's client would read an error's body: it may be long, and nobody looks at it.
        self._http.event_hooks["response"].append(_check_status)
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # local servers want none, but the client insists
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=connect_ms / 1000),
            default_headers={"Accept-Encoding": "identity"},
            http_client=self._http,
        )

    async def stop(self) -> None:
        await self._client.close()

    async def reply(self, request: Request) -> AsyncGenerator[Part, None]:
        """Answer one request. Raises `ProviderError`.

        Words come as they arrive, proposals and calls when the message ends, then `Used` if the far side tells it,
        also when an error follows. Cancelling, or `aclose`, closes the connection before it returns; a bare `break`
        leaves it open until the garbage collector comes by.
        """
        loop = asyncio.get_running_loop()
        answer = _Answer(request)
        failure: ProviderError | None = None
        async with AsyncExitStack() as stack:
            try:
                deadline = loop.time() + self._first_s
                response = await self._open(stack, body(request, self._extra), deadline)
                stream = await stack.enter_async_context(aclosing(response.aiter_raw()))
                while not answer.over:
                    data = await _read(stream, deadline)
                    for part in answer.feed(data):
                        yield part
                    deadline = loop.time() + (USAGE_MS / 1000 if answer.finished else self._gap_s)
                await _read(stream, loop.time() + END_MS / 1000)
            except ProviderError as error:
                if not answer.finished:
                    failure = error
            if answer.usage is not None:
                model = request.flow.models[request.engine].model
                yield Used(model, answer.usage.prompt_tokens, answer.usage.completion_tokens)
            failure = failure or answer.failure
            if failure is not None:
                raise failure

    async def _open(self, stack: AsyncExitStack, sent: dict[str, Any], deadline: float) -> httpx2.Response:
        for last in (False, True):
            try:
                async with asyncio.timeout_at(deadline):
                    response = await stack.enter_async_context(
                        self._client.chat.completions.with_streaming_response.create(
                            # By way of `extra_body` the vendor's client does not walk through all messages again.
                            model=sent["model"],
                            messages=[],
                            stream=True,
                            extra_body=sent,
                        )
                    )
                    return response.http_response
            except TimeoutError:
                raise ProviderError(Fault.timeout, "no answer") from None
            except (APIConnectionError, httpx2.RequestError, aiohttp.ClientError) as error:
                failure = ProviderError(_fault(error), "before the answer")
            except ProviderError as error:
                failure = error
            if last or failure.fault not in RETRIED or asyncio.get_running_loop().time() >= deadline:
                raise failure from None
            await asyncio.sleep(RETRY_PAUSE_MS / 1000)
        raise AssertionError("the second try returns or raises")


async def _check_status(response: httpx2.Response) -> None:
    if not response.is_success:
        raise ProviderError(_status_fault(response.status_code), f"status {response.status_code}")


def _status_fault(status: int) -> Fault:
    if status in (401, 403):
        return Fault.auth
    if status in (429, 503):
        return Fault.busy
    return Fault.broken if status >= 500 else Fault.rejected


async def _read(stream: AsyncGenerator[bytes, None], deadline: float) -> bytes:
    """The next bytes; empty at the end."""
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(stream, b"")
    except TimeoutError:
        raise ProviderError(Fault.timeout, "stalled") from None
    except (httpx2.RequestError, aiohttp.ClientError) as error:
        raise ProviderError(_fault(error), "in the middle of the answer") from None


def _fault(error: BaseException) -> Fault:
    """By the innermost cause that tells: the layers between call a lost connection a timeout."""
    fault = Fault.cut
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case aiohttp.ServerTimeoutError() | httpx2.ConnectTimeout():
                fault = Fault.timeout
            case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError() | httpx2.ConnectError():
                fault = Fault.refused
            case aiohttp.ClientError():
                fault = Fault.cut
        cause = cause.__cause__
    return fault


# The request


def body(request: Request, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body. Raises `ProviderError` where a tool has a reserved name."""
    sent: dict[str, Any] = {
        "model": request.flow.models[request.engine].model,
        "messages": messages(request.system, request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    functions = [_tool_function(tool) for tool in request.tools] + list(_own_functions(request))
    if functions:
        sent["tools"] = functions
    return sent | dict(extra)


def messages(system: str, history: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation in a form that the protocol admits: each tool call is followed at once by its outcome.

    An outcome that came later takes the place that was kept for it; one without its call, or a second one, is told
    in a note. Ids are made unique, for an engine may have used one twice.
    """
    out: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    waiting: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for message in history:
        match message.role:
            case "caller":
                out.append({"role": "user", "content": message.text})
            case "agent" if message.calls:
                _add_calls(out, message, waiting, used)
            case "agent":
                out.append({"role": "assistant", "content": message.text})
            case "tool" if message.call_id in waiting:
                waiting.pop(message.call_id)["content"] = message.text
            case "tool":
                out.append({"role": "system", "content": f"A tool's later outcome: {message.text}"})
            case _:
                out.append({"role": "system", "content": message.text})
    return out


def _add_calls(out: list[dict[str, Any]], message: Message, waiting: dict[str, dict[str, Any]], used: set[str]) -> None:
    calls = []
    outcomes = []
    for call in message.calls:
        wire_id = call.call_id or "call"
        while wire_id in used:
            wire_id = f"{call.call_id or 'call'}-{len(used)}"
        used.add(wire_id)
        arguments = msgspec.json.encode(call.arguments).decode()
        calls.append({"id": wire_id, "type": "function", "function": {"name": call.tool, "arguments": arguments}})
        outcome = {"role": "tool", "tool_call_id": wire_id, "content": STILL_RUNNING}
        waiting[call.call_id] = outcome
        outcomes.append(outcome)
    out.append({"role": "assistant", "content": message.text or None, "tool_calls": calls})
    out.extend(outcomes)


def _function(name: str, description: str, properties: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _tool_function(tool: ToolSpec) -> dict[str, Any]:
    if tool.name in RESERVED:
        raise ProviderError(Fault.rejected, "a tool has a reserved name")
    properties: dict[str, Any] = {}
    for argument in tool.arguments:
        properties[argument.name] = values.json_type(argument.type)
        if argument.type is SlotType.string:
            properties[argument.name]["maxLength"] = argument.max_chars
    return _function(tool.name, tool.description, properties, list(properties))


def _own_functions(request: Request) -> Iterator[dict[str, Any]]:
    """What the caller's words may mean. Without words there is nothing to read values from."""
    if not request.words:
        return
    if request.slots:
        description = "Record values that the caller has just given or corrected, and no others."
        yield _function(SET_SLOTS, description, {slot.name: _slot_type(slot) for slot in request.slots}, ())
    if request.yesno:
        description = "The caller has just answered the open question with yes or no."
        yield _function(ANSWER, description, {"yes": {"type": "boolean"}}, ("yes",))
    if request.digressions:
        description = "The caller wants something else than this step is about."
        to = {"type": "string", "enum": list(request.digressions)}
        yield _function(DIGRESS, description, {"to": to}, ("to",))


def _slot_type(slot: Slot) -> dict[str, Any]:
    schema = values.json_slot(slot)
    if slot.ask:
        schema["description"] = slot.ask
    return schema


# The answer


class _FunctionDelta(Struct):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(Struct):
    index: int = 0
    id: str | None = None
    function: _FunctionDelta | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Call(Struct):
    id: str = ""
    name: str = ""
    arguments: str = ""


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_arguments_decoder = msgspec.json.Decoder(dict[str, Value | None])


class _Answer:
    """One stream's decoding: bytes in, parts out.

    `finished` is the message's end and `over` the stream's. `failure` is what the end says went wrong.
    """

    def __init__(self, request: Request) -> None:
        self.usage: _Usage | None = None
        self.finished = False
        self.over = False
        self.failure: ProviderError | None = None
        self._request = request
        self._lines = _Lines()
        self._bytes = 0
        self._words_chars = 0
        self._refused = False
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def feed(self, data: bytes) -> Iterator[Part]:
        """Raises `ProviderError`. Empty `data` is the end."""
        self._bytes += len(data)
        if self._bytes > MAX_ANSWER_BYTES:
            raise ProviderError(Fault.too_large, f"more than {MAX_ANSWER_BYTES} bytes")
        if not data:
            self.over = True
            if not self.finished:
                raise ProviderError(Fault.cut, "no end")
        for event in self._lines.feed(data):
            if event == b"[DONE]":
                self.over = True
                if not self.finished:
                    raise ProviderError(Fault.malformed, "no finish reason")
                return
            try:
                chunk = _chunk_decoder.decode(event)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                raise ProviderError(Fault.malformed, "not a chunk") from None
            yield from self._take(chunk)

    def _take(self, chunk: _Chunk) -> Iterator[Part]:
        if chunk.error is not None:
            raise ProviderError(Fault.broken, "an error in the stream")
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not chunk.choices or self.finished:
            return
        choice = chunk.choices[0]
        delta = choice.delta
        if delta is not None:
            if delta.content:
                self._words_chars += len(delta.content)
                if self._words_chars > self._request.max_words_chars:
                    raise ProviderError(Fault.too_large, f"more than {self._request.max_words_chars} characters")
                yield Words(delta.content)
            self._refused = self._refused or bool(delta.refusal)
            for call in delta.tool_calls or ():
                self._add(call)
        if choice.finish_reason:
            self.finished = True
            yield from self._finish(choice.finish_reason)

    def _add(self, delta: _CallDelta) -> None:
        call = self._by_index.get(delta.index)
        # Some servers give every call the same index, and only the id tells a new one.
        if call is None or (delta.id and call.id and delta.id != call.id):
            call = self._by_index[delta.index] = _Call()
            self._calls.append(call)
            if len(self._calls) > MAX_CALLS:
                raise ProviderError(Fault.too_large, f"more than {MAX_CALLS} tool calls")
        call.id = delta.id or call.id
        if delta.function is not None:
            call.name += delta.function.name or ""
            call.arguments += delta.function.arguments or ""
        if len(call.arguments) > MAX_ARGUMENT_CHARS or max(len(call.name), len(call.id)) > MAX_NAME_CHARS:
            raise ProviderError(Fault.too_large, "a tool call")

    def _finish(self, reason: str) -> Iterator[Part]:
        """Whatever is wrong now is kept, so that the usage which follows is still read."""
        if reason == "length":
            self.failure = ProviderError(Fault.truncated)
        elif reason == "content_filter" or self._refused:
            self.failure = ProviderError(Fault.filtered)
        elif reason not in ("stop", "tool_calls", "function_call"):
            self.failure = ProviderError(Fault.malformed, "an unknown finish reason")
        else:
            try:
                parts = self._parts()
            except ProviderError as error:
                self.failure = error
            else:
                yield from parts

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        requests: list[ToolRequest] = []
        for number, call in enumerate(self._calls):
            arguments = _arguments(call.arguments)
            if not call.name:
                raise ProviderError(Fault.malformed, "a tool call without a name")
            if call.name in RESERVED:
                parts.append(self._proposal(call.name, arguments))
            else:
                requests.append(ToolRequest(call.id or f"call-{number}", call.name, arguments))
        if requests:
            parts.append(Calls(tuple(requests)))
        return parts

    def _proposal(self, name: str, arguments: dict[str, Value]) -> Proposal:
        words = self._request.words
        match name, arguments:
            case "set_slots", _:
                return Proposal(slots=arguments, evidence=words)
            case "digress", {"to": str(to)}:
                return Proposal(intent=to, evidence=words)
            case "answer", {"yes": bool(yes)}:
                return Proposal(intent="yes" if yes else "no", evidence=words)
        raise ProviderError(Fault.malformed, "arguments")


def _arguments(text: str) -> dict[str, Value]:
    """No text means no arguments, and null means that one is not given."""
    try:
        decoded = _arguments_decoder.decode(text) if text.strip() else {}
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        raise ProviderError(Fault.malformed, "arguments") from None
    return {name: value for name, value in decoded.items() if value is not None}


class _Lines:
    """An event stream's lines, as they arrive, to its events' data. Other fields than `data` say nothing here."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._data_bytes += len(line)
            elif not line and self._data:
                event = b"\n".join(self._data)
                self._data.clear()
                self._data_bytes = 0
                yield event
        if len(self._rest) + self._data_bytes > MAX_EVENT_BYTES:
            raise ProviderError(Fault.too_large, f"an event of more than {MAX_EVENT_BYTES} bytes")
