"""Text that others wrote, on a terminal."""

import io
import json

import pytest

from app.core.timeline import Entry
from app.screen import Screen, print_entry

HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\u202etxt.exe\rd"
SHOWN = "a\N{REPLACEMENT CHARACTER}]0;title"


@pytest.fixture
def terminal() -> Screen:
    return Screen(highlight=False, force_terminal=True, width=100, file=io.StringIO())


def shown(screen: Screen) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_callers_text_sends_no_command_to_the_terminal(terminal: Screen) -> None:
    print_entry(terminal, Entry(1, "caller", HOSTILE))
    terminal.print(HOSTILE, markup=False)
    told = shown(terminal)
    assert "\x1b[2m" in told, "our own colours stay"
    assert SHOWN in told
    assert not set(told) & set("\x07\x9b\u202e\r")
    assert "\x1b]" not in told


@pytest.mark.parametrize("text", ["Grüße, 你好, שלום", "👩\u200d🔬", "two\nlines"])
def test_plain_text_of_any_language_stays(terminal: Screen, text: str) -> None:
    terminal.print(text, markup=False)
    assert text in shown(terminal)


def test_json_keeps_what_it_cannot_show() -> None:
    terminal = Screen(highlight=False, width=200, file=io.StringIO())
    terminal.print_json(json.dumps({"caller": HOSTILE}), ensure_ascii=True)
    assert json.loads(shown(terminal)) == {"caller": HOSTILE}
