"""The reply job: an engine's parts become facts, its words whole sentences."""

import re
from collections.abc import Callable
from contextlib import aclosing

from app.core.events import (
    AnyEvent,
    IntentProposed,
    ReplyEnded,
    ReplyFailed,
    Sentence,
    SlotsProposed,
    ToolsRequested,
    Usage,
)
from app.core.request import Request
from app.ports import Calls, Llm, Proposal, ProviderError, Used, Words

MIN_SENTENCE_CHARS = 12
"""Shorter pieces wait for what follows: "Dr." and "No." are not worth a synthesis of their own."""

MAX_SENTENCE_CHARS = 300
"""A model that never ends a sentence is cut at the last space before this."""

_END = re.compile(r"[.!?…]+[\"')\]]*(?=\s)|[:;](?=\s)|\n+")
_DECIMAL_BEFORE = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|No|vs|etc|e\.g|i\.e|[A-Z])|\d)\.$")

Post = Callable[[AnyEvent], None]


class Sentences:
    """Cuts a stream of words into what can be synthesized as a whole."""

    def __init__(self) -> None:
        self._buffer = ""

    def feed(self, text: str) -> list[str]:
        self._buffer += text
        out: list[str] = []
        while (end := self._boundary()) is not None:
            out.append(self._buffer[:end].strip())
            self._buffer = self._buffer[end:]
        return [sentence for sentence in out if sentence]

    def rest(self) -> str:
        rest, self._buffer = self._buffer.strip(), ""
        return rest

    def _boundary(self) -> int | None:
        for match in _END.finditer(self._buffer):
            end = match.end()
            if end >= MIN_SENTENCE_CHARS and not _DECIMAL_BEFORE.search(self._buffer[:end]):
                return end
        if len(self._buffer) > MAX_SENTENCE_CHARS:
            return self._buffer.rfind(" ", 1, MAX_SENTENCE_CHARS) + 1 or MAX_SENTENCE_CHARS
        return None


async def produce(llm: Llm, request: Request, gen: int, post: Post) -> None:
    """Run one engine request to its end. Cancelling it closes the engine's connection; then nothing more is posted."""
    sentences = Sentences()
    index = 0
    try:
        async with aclosing(llm.reply(request)) as parts:
            async for part in parts:
                match part:
                    case Words(text=text):
                        for sentence in sentences.feed(text):
                            post(Sentence(gen, index, sentence))
                            index += 1
                    case Proposal(slots=slots, intent=intent, evidence=evidence):
                        if slots:
                            post(SlotsProposed(gen, slots, evidence))
                        if intent:
                            post(IntentProposed(gen, intent))
                    case Calls(calls=calls):
                        if rest := sentences.rest():
                            post(Sentence(gen, index, rest))
                            index += 1
                        post(ToolsRequested(gen, calls))
                    case Used(model=model, input_tokens=given, output_tokens=made):
                        post(Usage(gen, model, given, made))
        if rest := sentences.rest():
            post(Sentence(gen, index, rest))
        post(ReplyEnded(gen))
    except ProviderError as error:
        post(ReplyFailed(gen, error.fault))
