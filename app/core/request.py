"""What the core asks of engines and recognisers, and the words of the conversation that go with it."""

from msgspec import Struct

from app.core.events import ToolRequest
from flows.model import Argument, Flow, Slot, Value

WITHHELD = "[withheld]"
"""How everybody but the caller reads a sensitive value."""


class Message(Struct, frozen=True):
    """One entry of the conversation as the call remembers it; an agent's words are those that were heard."""

    role: str  # "caller", "agent", "tool" (an outcome, `call_id` says of which request) or "note" (from the software)
    text: str = ""
    calls: tuple[ToolRequest, ...] = ()  # with the role "agent": the requests made beside these words
    call_id: str = ""


class ToolSpec(Struct, frozen=True):
    """A tool that this step admits, as a model is told of it."""

    name: str
    description: str
    arguments: tuple[Argument, ...]  # only those that the model itself may give


class Request(Struct, frozen=True):
    """One request to an engine. Models read `system`, `messages`, `tools` and `slots`; rules read the rest."""

    flow: Flow
    engine: str  # a name in `flow.models`
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    slots: tuple[Slot, ...]  # that may be proposed now; those asked for come first
    digressions: tuple[str, ...]  # intents that may be proposed now, "repeat" included
    words: str = ""  # the caller's turn that this reply answers; empty: none, the engine may only act
    digits: bool = False  # the turn was keyed
    yesno: bool = False  # a question is open that yes or no answers
    asked: str = ""  # the slot whose question or read-back is open
    ready: tuple[str, ...] = ()  # tools whose every check but confirmation and budgets would pass now
    known: dict[str, Value] = {}  # slots with a value, sensitive ones left out
    max_words_chars: int = 1200


class Hearing(Struct, frozen=True):
    """What a recogniser should expect now: its grammar is made from this and nothing else."""

    language: str
    slots: tuple[Slot, ...] = ()  # the one asked first, then early data and corrections
    yesno: bool = False
    phrases: tuple[str, ...] = ()  # digressions and other fixed things to say
