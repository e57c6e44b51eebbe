"""Somebody who calls the clinic, hears what is asked, and answers with keys or typed words."""

from collections.abc import Callable, Mapping

from tests.e2e.clients import Plain

MAX_TURNS = 40
KEYS = frozenset("0123456789*#")
HANGS_UP = "(hangs up)"

PATIENT: Mapping[str, str] = {
    "date of birth": "31051980",
    "is that right": "yes",
    "which day": "tuesday",
    "or the afternoon": "morning",
    "in the afternoon?": "morning",
    "shall i book": "yes",
}


class Typist:
    """`answers` by what was asked last. A list is used up from its front, and its last entry stays."""

    def __init__(
        self, caller: Plain, *, before: Mapping[str, Callable[[], None]] | None = None, **answers: str | list[str]
    ) -> None:
        """What is in `before` is done as that question is heard, before it is answered."""
        self.caller = caller
        self._before = dict(before or {})
        self.heard: list[str] = []
        self.said: list[tuple[str, str]] = []  # to which question, what
        self._answers = {name: [text] for name, text in PATIENT.items()}
        for name, given in answers.items():
            self._answers[name.replace("_", " ")] = [given] if isinstance(given, str) else list(given)

    async def call(self) -> None:
        """To the end of the call."""
        caller = self.caller
        for _ in range(MAX_TURNS):
            await caller.until(lambda: caller.captions or caller.closed)
            if caller.closed:
                return
            await caller.silence()
            if caller.closed:
                return
            asked = " ".join(caller.captions).lower()
            self.heard += caller.captions
            caller.captions = []
            await self._answer(asked)
        raise AssertionError("this call does not end")

    async def _answer(self, asked: str) -> None:
        found = max(self._answers, key=lambda name: asked.rfind(name))
        if found not in asked:
            return
        if (act := self._before.pop(found, None)) is not None:
            act()
        given = self._answers[found]
        text = given.pop(0) if len(given) > 1 else given[0]
        self.said.append((found, text))
        if text == HANGS_UP:
            await self.caller.send({"type": "stop"})
        elif text and set(text) <= KEYS:
            await self.caller.key(text)
        elif text:
            await self.caller.type(text)
