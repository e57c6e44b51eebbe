"""Models over real HTTP that think: what they answer depends on what they are asked."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

from tests.fakes.openai_server import Exchange, OpenAiServer, call, end, words

Body = dict[str, Any]
Think = Callable[[Body], Sequence[Any]]


class ThinkingServer(OpenAiServer):
    """`think` makes the answer's steps from a request's body."""

    def __init__(self, think: Think) -> None:
        super().__init__([])
        self._think = think

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def _play(
        self, steps: Sequence[Any], exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        return await super()._play(self._think(exchange.body), exchange, reader, writer)

    def bodies(self) -> list[Body]:
        return [exchange.body for exchange in self.exchanges]


def offered(body: Body) -> set[str]:
    """The names of the functions that this request has."""
    return {one["function"]["name"] for one in body.get("tools", ())}


def said(body: Body) -> str:
    """The caller's words, if they are what is to be answered. Functions that read words are only offered then."""
    last = body["messages"][-1]
    return str(last["content"]).lower() if last["role"] == "user" and "set_slots" in offered(body) else ""


def system(body: Body) -> str:
    return str(body["messages"][0]["content"])


def asks(name: str, call_id: str = "c", **arguments: Any) -> list[Any]:
    """One tool call, its arguments in two pieces."""
    text = json.dumps(arguments)
    return [*call(0, call_id, name, text[:3], text[3:]), *end("tool_calls")]


def speaks(text: str) -> list[Any]:
    return [*words(*(word + " " for word in text.split())), *end()]


def cooperative(body: Body) -> list[Any]:
    """A model as one would wish for, in the clinic."""
    tools, told = offered(body), system(body)
    if spoken := said(body):
        choices = {"day": ("monday", "tuesday", "thursday"), "part": ("morning", "afternoon")}
        if found := {name: value for name, known in choices.items() for value in known if value in spoken}:
            return asks("set_slots", **found)
        if "hours" in spoken:
            return asks("digress", to="hours")
        return speaks("I can book an appointment for you.")
    if "find_patient" in tools and "dob = [withheld] (confirmed)" in told:
        return asks("find_patient")
    if "find_slot" in tools and told.count("(confirmed)") >= 2 + ("dob" in told):
        return asks("find_slot")
    if "book" in tools:
        return asks("book")
    if "find_patient" in tools:
        return speaks("Please key in your date of birth.")
    if "day is missing" in told:
        return speaks("Which day would you like?")
    return speaks("In the morning or in the afternoon?")
