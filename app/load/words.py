"""Words that were lost on the way from a caller's mouth to what the server understood."""

import re
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(r"[a-z0-9']+")


def lost(said: Sequence[str], understood: Sequence[str]) -> tuple[int, int]:
    """How many of the words said are not among those understood, in the same order; and of how many."""
    ours, theirs = _words(said), _words(understood)
    kept = [0] * (len(theirs) + 1)  # longest common row of words, so far
    for word in ours:
        before = 0
        for at, other in enumerate(theirs, 1):
            above = kept[at]
            kept[at] = before + 1 if word == other else max(above, kept[at - 1])
            before = above
    return len(ours) - kept[-1], len(ours)


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in _WORD.findall(text.casefold())]
