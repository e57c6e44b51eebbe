"""How well the embedded recogniser hears what slots are made of: `python -m tests.docs.hearing`.

Synthetic callers, so these are figures to compare slots by, not a promise about people. `docs/speech.md` quotes them.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.core.request import Hearing
from app.ports import Pcm
from app.providers.espeak import EspeakTts
from app.providers.sphinx import SphinxStt
from flows import lexicon
from flows.model import Choice, Slot, SlotType, Value, Voice
from flows.rules import understand
from media.audio import FRAME_MS, frame_samples, pcm_to_ulaw, ulaw_to_pcm

VOICES: Final = ("en-us+m1", "en-us+m3", "en-us+m7", "en-us+f1", "en-us+f2", "en-us+f4")
SPEEDS_WPM: Final = (150, 175)
PEAK: Final = 9000
NOISE_SIGMA: Final = 12.0
QUIET_MS: Final = 300
RATES_HZ: Final = (16_000, 8000)  # the second one as a telephone's mu-law leaves it

Said = Sequence[tuple[str, Value | None]]  # words, and the value that they should give; None: nothing


@dataclass(frozen=True)
class Case:
    slots: tuple[Slot, ...]
    said: Said
    yesno: bool = False
    phrases: tuple[str, ...] = ()


def _choices(*names: str) -> tuple[Choice, ...]:
    return tuple(Choice(name, (name,), "") for name in names)


def _digits(count: int) -> Iterator[tuple[str, Value]]:
    rng = random.Random(count)
    for _ in range(6):
        digits = [rng.randrange(10) for _ in range(count)]
        yield " ".join(lexicon.UNITS[digit] for digit in digits), "".join(map(str, digits))


DAY: Final = Slot("day", SlotType.weekday)
DESKS: Final = (
    "sales", "billing", "returns", "delivery", "repairs", "complaints",
    "accounts", "insurance", "parking", "tickets", "news", "reception",
)  # fmt: skip

CASES: Final = {
    "yes or no": Case(
        (DAY,),
        (("yes", "yes"), ("yes please", "yes"), ("that's right", "yes"), ("no", "no"), ("nope", "no"),
         ("no that's wrong", "no")),
        yesno=True,
    ),
    "weekday": Case((DAY,), tuple((day, day) for day in lexicon.WEEKDAYS)),
    "weekday in a sentence": Case((DAY,), tuple((f"i'd like {day} please", day) for day in lexicon.WEEKDAYS)),
    "correction": Case((DAY,), tuple((f"no make it {day}", day) for day in lexicon.WEEKDAYS), yesno=True),
    "choice of 2": Case(
        (Slot("part", SlotType.choice, choices=_choices("morning", "afternoon")),),
        (("morning", "morning"), ("afternoon", "afternoon"), ("afternoon please", "afternoon")),
    ),
    "choice of 12": Case(
        (Slot("desk", SlotType.choice, choices=_choices(*DESKS)),), tuple((desk, desk) for desk in DESKS)
    ),
    "number to 20": Case(
        (Slot("people", SlotType.number, minimum=1, maximum=20),),
        tuple((lexicon.cardinal_words(n), n) for n in (1, 2, 4, 5, 8, 12, 15, 19)),
    ),
    "digits, 4": Case((Slot("code", SlotType.digits, min_digits=4, max_digits=4),), tuple(_digits(4))),
    "digits, 8": Case((Slot("code", SlotType.digits, min_digits=8, max_digits=8),), tuple(_digits(8))),
    "date": Case(
        (Slot("dob", SlotType.date),),
        (("the thirty first of may nineteen eighty", "1980-05-31"),
         ("march third nineteen ninety four", "1994-03-03"),
         ("the fourteenth of february nineteen seventy five", "1975-02-14"),
         ("november twelfth two thousand and one", "2001-11-12")),
    ),
    "something else": Case(
        (DAY,),
        (("the weather is lovely today", None), ("how much does that cost", None),
         ("i lost my keys on the train", None),
         ("my mother has a broken leg", None), ("can i speak to your manager", None)),
        phrases=("what are your opening hours",),
    ),
}  # fmt: skip


async def main() -> None:
    tts, stt = EspeakTts(), SphinxStt(2)
    await tts.start()
    await stt.start()
    try:
        print("| what callers say | 16 kHz: right | asked again | wrong | 8 kHz: right | asked again | wrong |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, case in CASES.items():
            if len(sys.argv) > 1 and name not in sys.argv[1:]:
                continue
            cells = [f"{100 * share:.0f} %" for rate_hz in RATES_HZ for share in await _shares(tts, stt, case, rate_hz)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    finally:
        await stt.stop()
        await tts.stop()


async def _shares(tts: EspeakTts, stt: SphinxStt, case: Case, rate_hz: int) -> tuple[float, float, float]:
    """Right, asked again, wrong. Each voice is a call of its own."""
    found: Counter[str] = Counter()
    noise = np.random.default_rng(3)
    for voice in VOICES:
        for wpm in SPEEDS_WPM:
            stream = stt.open(rate_hz, "en")
            stream.expect(Hearing("en", case.slots, case.yesno, case.phrases))
            for number, (words, wanted) in enumerate(case.said, 1):
                pcm = await _speak(tts, words, Voice("espeak", voice, wpm), rate_hz, noise)
                stream.begin(number)
                size = frame_samples(rate_hz)
                for start in range(0, len(pcm), size):
                    stream.feed(number, pcm[start : start + size])
                heard = await stream.finish(number)
                value = _read(case, heard.text)
                found["right" if value == wanted else "again" if value is None else "wrong"] += 1
            stream.close()
    total = found.total()
    return found["right"] / total, found["again"] / total, found["wrong"] / total


def _read(case: Case, text: str) -> Value | None:
    """As a call without a model reads it."""
    understood = understand(
        text,
        slots=case.slots,
        asked=case.slots[0].name,
        yesno=case.yesno,
        digressions={"hours": case.phrases, "repeat": ()},
    )
    return next(iter(understood.slots.values()), None) or understood.intent or None


async def _speak(tts: EspeakTts, words: str, voice: Voice, rate_hz: int, noise: np.random.Generator) -> Pcm:
    chunks = [chunk.pcm async for chunk in tts.speak(words, voice, rate_hz)]
    spoken = np.concatenate(chunks).astype(np.float64)
    quiet = np.zeros(rate_hz * QUIET_MS // 1000 // FRAME_MS * FRAME_MS)
    line = np.concatenate((quiet, spoken * (PEAK / max(1.0, float(np.abs(spoken).max()))), quiet))
    pcm: Pcm = np.clip(line + noise.normal(0, NOISE_SIGMA, len(line)), -32768, 32767).astype(np.int16)
    return ulaw_to_pcm(pcm_to_ulaw(pcm)) if rate_hz == 8000 else pcm


if __name__ == "__main__":
    asyncio.run(main())
