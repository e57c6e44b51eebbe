"""How well and how fast the embedded recogniser hears synthetic callers: `python -m tests.bench.bench_stt`.

Prints figures and asserts nothing. Understood means that the words have the meaning of what was said: the same day,
part of the day, yes or no. Real people are harder to understand than these voices.
"""

import asyncio
import time
from dataclasses import dataclass

import numpy as np

from app.core.request import Hearing
from app.ports import Pcm, ProviderError
from app.providers.espeak import EspeakTts
from app.providers.sphinx import SphinxStream, SphinxStt
from flows.model import Choice, Slot, SlotType, Voice

VOICES = ("en-us", "en-us+m3", "en-us+f3", "en")
RATES_HZ = (16_000, 8000)
RATE_WPM = 150
LEVEL = 0.4  # of the voice's own, which is near full scale
BEFORE_MS, AFTER_MS = 300, 600  # of silence: the ear's pre-roll and its endpointing
FRAME_MS = 20
AT_ONCE = (1, 6)
TURNS = 3

DAY = Slot("day", SlotType.weekday)
PART = Slot(
    "part",
    SlotType.choice,
    choices=(
        Choice("morning", ("morning", "in the morning"), "1"),
        Choice("afternoon", ("afternoon", "in the afternoon"), "2"),
    ),
)
HOURS = ("opening hours", "what are your opening hours", "when are you open")
ASK = Hearing("en", (DAY, PART), phrases=HOURS)
CONFIRM = Hearing("en", (DAY, PART), yesno=True, phrases=HOURS)
DIGITS = Hearing("en", (Slot("number", SlotType.digits),))
SAID = {
    "day": (ASK, ("tuesday", "on friday", "monday please", "i'd like thursday", "friday morning", "in the morning")),
    "digression": (ASK, ("what are your opening hours", "repeat that", "when are you open")),
    "yes/no": (CONFIRM, ("yes", "no", "yes please", "that's right", "correct", "wrong")),
    "correction": (CONFIRM, ("no make it friday", "no thursday", "actually wednesday", "no tuesday morning")),
    "digits": (DIGITS, ("five five one two", "nine zero four two one seven three eight", "three")),
}
STRANGE = (
    "the weather is lovely today", "can i bring my dog with me", "seventeen", "my name is peter", "pizza", "computer",
    "how much does that cost", "my mother has a broken leg", "tomorrow evening", "i do not know", "hold on a second",
    "i lost my keys on the train yesterday", "somebody is at the door", "mm hm", "blue", "december",
)  # fmt: skip
MEANING = {
    **{day: day for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")},
    **{word: word for word in ("morning", "afternoon", "hours", "open", "repeat")},
    **dict.fromkeys(("yes", "yeah", "correct", "sure", "okay"), "yes"),
    **dict.fromkeys(("no", "nope", "wrong"), "no"),
    **{digit: digit for digit in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")},
    **dict.fromkeys(("zero", "oh"), "zero"),
}


@dataclass(slots=True)
class Tally:
    tried: int = 0
    understood: int = 0
    rejected: int = 0

    def add(self, text: str, heard: str) -> None:
        self.tried += 1
        self.understood += bool(heard) and meaning(heard) == meaning(text)
        self.rejected += not heard

    def row(self, name: str) -> str:
        wrong = self.tried - self.understood - self.rejected
        shares = (100 * part / self.tried for part in (self.understood, self.rejected, wrong))
        return f"{name:34} {self.tried:5} " + " ".join(f"{share:12.0f}" for share in shares)


HEAD = f"{'':34} {'tries':>5} {'% understood':>12} {'% rejected':>12} {'% wrong':>12}"


def meaning(text: str) -> tuple[str, ...]:
    """What matters in it: "no make it friday" is no and friday."""
    known = tuple(MEANING[word] for word in text.replace("that's right", "yes").split() if word in MEANING)
    return ("repeat",) if "repeat" in known else known


async def speak(tts: EspeakTts, text: str, voice: str, rate_hz: int) -> Pcm:
    parts = [chunk.pcm async for chunk in tts.speak(text, Voice("espeak", voice, RATE_WPM), rate_hz)]
    before, after = (np.zeros(rate_hz * ms // 1000, dtype=np.int16) for ms in (BEFORE_MS, AFTER_MS))
    return np.concatenate((before, (np.concatenate(parts) * LEVEL).astype(np.int16), after))


async def hear(stream: SphinxStream, utterance: int, pcm: Pcm, rate_hz: int, *, paced: bool) -> tuple[str, float]:
    """The words, and the milliseconds that they took after the last frame."""
    stream.begin(utterance)
    frame = rate_hz * FRAME_MS // 1000
    due = time.perf_counter()
    for start in range(0, pcm.size, frame):
        stream.feed(utterance, pcm[start : start + frame])
        if paced:
            due += FRAME_MS / 1000
            await asyncio.sleep(max(due - time.perf_counter(), 0))
    end = time.perf_counter()
    try:
        text = (await stream.finish(utterance)).text
    except ProviderError as error:
        text = f"({error.fault})"
    return text, 1000 * (time.perf_counter() - end)


Tallies = dict[str, Tally]


async def understanding(tts: EspeakTts, stt: SphinxStt, rate_hz: int) -> None:
    tallies: Tallies = {
        name: Tally() for name in (*SAID, *VOICES, "strange, words expected", "strange, digits expected")
    }
    spoken_s = 0.0
    begin = time.perf_counter()

    async def call(voice: str) -> None:
        nonlocal spoken_s
        stream = stt.open(rate_hz, "en")
        lines: list[tuple[Hearing, str, tuple[str, ...]]] = [
            (hearing, text, (kind, voice)) for kind, (hearing, texts) in SAID.items() for text in texts
        ]
        lines += [(CONFIRM, text, ("strange, words expected",)) for text in STRANGE]
        lines += [(DIGITS, text, ("strange, digits expected",)) for text in STRANGE]
        for utterance, (hearing, text, names) in enumerate(lines):
            stream.expect(hearing)
            pcm = await speak(tts, text, voice, rate_hz)
            spoken_s += pcm.size / rate_hz
            heard, _ = await hear(stream, utterance, pcm, rate_hz, paced=False)
            for name in names:
                tallies[name].add(text, heard)

    async with asyncio.TaskGroup() as calls:
        for voice in VOICES:
            calls.create_task(call(voice))
    took_s = time.perf_counter() - begin
    print(f"\n{rate_hz} Hz: {spoken_s:.0f} s of audio in {took_s:.0f} s by {len(stt.pids())} workers\n{HEAD}")
    for name, tally in tallies.items():
        print(tally.row(name))


async def crowd(tts: EspeakTts, stt: SphinxStt, people: int) -> None:
    """People who speak at once, each in real time."""
    rate_hz = RATES_HZ[0]
    texts = SAID["day"][1]
    spoken = [await speak(tts, text, VOICES[0], rate_hz) for text in texts]
    took_ms: list[float] = []

    async def person(number: int) -> None:
        stream = stt.open(rate_hz, "en")
        stream.expect(ASK)
        await asyncio.sleep(number * 0.25)
        for turn in range(TURNS):
            took_ms.append((await hear(stream, turn, spoken[(number + turn) % len(texts)], rate_hz, paced=True))[1])
        stream.close()

    async with asyncio.TaskGroup() as speakers:
        for number in range(people):
            speakers.create_task(person(number))
    late = np.percentile(took_ms, (50, 95))
    print(f"{people} at once in real time: words {late[0]:.0f} ms after the last frame (p95 {late[1]:.0f})")


async def main() -> None:
    tts, stt = EspeakTts(), SphinxStt()
    try:
        await tts.start()
        await stt.start()
        for people in AT_ONCE:
            await crowd(tts, stt, people)
        for rate_hz in RATES_HZ:
            await understanding(tts, stt, rate_hz)
    finally:
        await stt.stop()
        await tts.stop()


if __name__ == "__main__":
    asyncio.run(main())
