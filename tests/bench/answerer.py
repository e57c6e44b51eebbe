"""How often the answerer errs: `python -m tests.bench.answerer [calls of each kind]`. `docs/voicemail.md` quotes it.

The calls are synthetic and made anew from one seed: robots' voices, noise, tones and codecs, no people.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.providers.espeak import EspeakTts
from flows.model import Voice
from media.answerer import Answerer, AnswererLimits, Verdict
from media.audio import FRAME_MS, FULL_SCALE, Pcm, Resampler, frame_samples
from media.codec import Codec, Pcma, Pcmu
from media.opus import Opus

Sound = NDArray[np.float64]

CALLS: Final = 300
SEED: Final = 20
RATE_HZ: Final = 16_000  # of what is made, before the codec
NARROW_BPS: Final = 8000
IN_TIME_MS: Final = 150
SHORT_MS: Final = AnswererLimits().short_ms  # a short greeting, for which the time to decide is told

VOICES: Final = (
    "en-us+m1", "en-us+m3", "en-us+m5", "en-us+m7", "en-us+f1", "en-us+f2", "en-us+f3", "en-us+f5", "en-029+m2",
    "en-gb-x-rp+f4", "en-gb-scotland+m4", "en-us+klatt2", "en-us+klatt4", "en-us+whisper",
)  # fmt: skip
SHORT: Final = (
    "Hello?", "Hello?", "Hello.", "Hi.", "Yes?", "Yes.", "Yeah?", "Yes, speaking.", "Hello, who is this?", "Hey.",
    "Yes, hello?", "Good morning.", "Reception.", "Hello, yes?", "Who's calling?", "Good evening, hello?", "Allo?",
)  # fmt: skip
COMPANY: Final = (
    "Good morning, this is Northside Dental.",
    "Good morning, Northside Dental, how can I help you?",
    "Accounts department, good afternoon.",
    "Thank you for calling the flower shop, how may I help?",
    "City garage, workshop, hello.",
    "Hello, the Green Hotel, reception, what can I do for you?",
    "Support desk, you are speaking with the team leader.",
    "Pizza corner, delivery or pickup?",
)
HESITANT: Final = (
    ("Hello?", "Yes?"), ("Hi,", "who is this?"), ("Hang on.", "Hello?"), ("Good morning.", "How can I help?"),
)  # fmt: skip
PERSONAL: Final = (
    ("Hi, you've reached my voicemail.", "I can't take your call right now.", "Please leave a message."),
    ("Hello, I'm not here at the moment.", "Leave your name and number and I'll call you back."),
    ("Hi.", "This is my mailbox.", "Speak after the beep."),
    ("Hey, it's me, you know what to do.",),
    ("Sorry I missed you, please leave a message after the tone.",),
    ("Hello, we are out at the moment.", "Please try again later, or leave us a message.", "Thank you, bye."),
    ("Hello.", "I am on holiday until the first of the month.", "In urgent cases please call the office."),
    ("You have reached five five five, zero one four two.", "Nobody can answer now.", "Leave a message."),
    ("Hi there, I'm either away from my phone or on another call.", "Leave me a message, and have a great day."),
    ("Please leave a message.",),
)
CARRIER: Final = (
    ("The person you are calling is not available.", "Please leave a message after the tone.",
     "When you have finished recording, you may hang up, or press one for more options."),
    ("Your call has been forwarded to an automatic voice message system.", "Five five five, zero one nine nine,",
     "is not available.", "At the tone, please record your message."),
    ("Welcome to the voice mailbox of", "five five five, zero one seven three.",
     "Record your message after the signal tone."),
    ("The subscriber you have dialled cannot be reached at present.", "Please try again later."),
    ("Thank you for calling Northside Dental.", "Our office is closed.",
     "Our opening hours are Monday to Friday, from eight in the morning to five in the afternoon.",
     "If this is an emergency, please hang up and dial the emergency number.",
     "Otherwise leave your name, your date of birth and your number after the tone, and we will call you back."),
    ("The mailbox is full and cannot accept any messages at this time.", "Goodbye."),
)  # fmt: skip
BEEPS_HZ: Final = (440, 500, 620, 700, 800, 850, 950, 1000, 1000, 1000, 1050, 1200, 1400, 1500, 1750, 2000, 2400)
BEEPS_MS: Final = (120, 150, 200, 250, 300, 400, 500, 700, 1000, 1500, 3000)
SIT_HZ: Final = (950.0, 1400.0, 1800.0)
DTMF_HZ: Final = ((697, 770, 852, 941), (1209, 1336, 1477, 1633))
SEQUENCES: Final = (  # name, parts of hertz, milliseconds on and off
    ("ringback 425", (425.0,), 1000, 4000), ("ringback 440+480", (440.0, 480.0), 2000, 4000),
    ("ringback 400+450", (400.0, 450.0), 400, 200), ("busy 480+620", (480.0, 620.0), 500, 500),
    ("busy 425", (425.0,), 250, 250), ("dial tone 350+440", (350.0, 440.0), 8000, 500),
    ("ringback 450", (450.0,), 1000, 4000), ("fax 2100", (2100.0,), 3300, 500),
)  # fmt: skip


@dataclass(slots=True)
class Call:
    """One answered leg and what is true of it."""

    kind: str
    machine: bool
    sound: Sound = field(default_factory=lambda: np.zeros(0))
    began_ms: int = 0  # the first words
    ended_ms: int = 0  # the first greeting's last word
    beep_ends_ms: list[int] = field(default_factory=list)

    @property
    def at_ms(self) -> int:
        return len(self.sound) * 1000 // RATE_HZ

    def add(self, sound: Sound) -> None:
        self.sound = np.concatenate((self.sound, sound))

    def wait(self, duration_ms: int) -> None:
        self.add(np.zeros(RATE_HZ * duration_ms // 1000))


class Speaker:
    """Everything that is said, synthesized once."""

    def __init__(self, tts: EspeakTts) -> None:
        self._tts = tts
        self._made: dict[tuple[str, str, int], Sound] = {}

    async def say(self, text: str, voice: str, rate_wpm: int) -> Sound:
        """Without silence around it, its peak at 1."""
        key = text, voice, rate_wpm
        if key not in self._made:
            spoken = self._tts.speak(text, Voice("espeak", voice, rate_wpm), RATE_HZ)
            sound = np.concatenate([chunk.pcm async for chunk in spoken]).astype(np.float64)
            heard = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
            sound = sound[heard[0] : heard[-1] + 1]
            self._made[key] = sound / np.abs(sound).max()
        return self._made[key]


def tone(hz: Sequence[float], duration_ms: int, level: float = 0.3, ramp_ms: int = 4) -> Sound:
    at = np.arange(RATE_HZ * duration_ms // 1000) / RATE_HZ
    sound = np.sum([np.sin(2 * np.pi * each * at) for each in hz], axis=0) * level / len(hz)
    ramp = min(RATE_HZ * ramp_ms // 1000, len(sound) // 2)
    sound[:ramp] *= np.linspace(0, 1, ramp)
    sound[len(sound) - ramp :] *= np.linspace(1, 0, ramp)
    return np.asarray(sound, dtype=np.float64)


def note(chord_hz: Sequence[float], duration_ms: int, overtones: Sequence[float]) -> Sound:
    parts = [
        tone([hz * number for hz in chord_hz], duration_ms, 0.4 * part, 10) for number, part in enumerate(overtones, 1)
    ]
    return np.asarray(np.sum(parts, axis=0))


def noise(rng: random.Random, samples: int) -> Sound:
    """White or pink, with an effective level of 1."""
    made = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(samples)
    if rng.random() < 0.5:
        lines = np.fft.rfft(made)
        lines /= np.sqrt(np.maximum(np.arange(len(lines)), 1))
        made = np.fft.irfft(lines, samples)
    return np.asarray(made / max(float(np.std(made)), 1e-9))


async def person(rng: random.Random, speaker: Speaker) -> Call:
    kind = rng.choices(("short", "late", "twice", "company", "hesitant", "breath"), (40, 12, 15, 20, 5, 8))[0]
    call = Call(kind, machine=False)
    voice, rate_wpm = rng.choice(VOICES), rng.choice((130, 150, 170, 190, 210))
    call.wait(rng.randint(1500, 3800) if kind == "late" else rng.randint(100, 1200))
    if kind == "breath":
        breath = noise(rng, RATE_HZ * rng.randint(150, 400) // 1000)
        call.add(breath * np.hanning(len(breath)) * 0.04)
        call.wait(rng.randint(50, 400))
        call.add(rng.uniform(0.2, 0.8) * noise(rng, RATE_HZ * 8 // 1000).clip(-1, 1))
        call.wait(rng.randint(50, 400))
    call.began_ms = call.at_ms
    first: Sequence[str] = (rng.choice(COMPANY),) if kind == "company" else (rng.choice(SHORT),)
    if kind == "hesitant":
        first = rng.choice(HESITANT)
    for number, text in enumerate(first):
        if number:
            call.wait(rng.randint(200, 800))
        call.add(await speaker.say(text, voice, rate_wpm))
    call.ended_ms = call.at_ms
    if kind == "twice":
        call.wait(rng.randint(1200, 3000))
        call.add(await speaker.say(rng.choice(SHORT), voice, rate_wpm))
    call.wait(7000)
    return call


async def voicemail(rng: random.Random, speaker: Speaker) -> Call:
    kind = rng.choices(("personal", "carrier", "no beep", "beep only"), (50, 35, 10, 5))[0]
    call = Call(kind, machine=True)
    voice, rate_wpm = rng.choice(VOICES), rng.choice((140, 160, 180))
    call.wait(rng.randint(100, 1500))
    call.began_ms = call.at_ms
    greeting = rng.choice(CARRIER if kind == "carrier" else PERSONAL if kind == "personal" else PERSONAL + CARRIER)
    for number, text in enumerate(greeting if kind != "beep only" else ()):
        if number:
            call.wait(round(rng.triangular(100, 1300, 500)))
        call.add(await speaker.say(text, voice, rate_wpm))
    call.ended_ms = call.at_ms
    if kind != "no beep":
        call.wait(round(rng.triangular(50, 2000, 500)))
        hz = rng.choice(BEEPS_HZ) * rng.uniform(0.995, 1.005)
        call.add(tone((hz,), rng.choice(BEEPS_MS), 10 ** (rng.uniform(-18, 0) / 20), rng.choice((0, 2, 5, 10))))
        call.beep_ends_ms.append(call.at_ms)
    call.wait(7000)
    return call


async def signals(rng: random.Random, speaker: Speaker) -> Call:
    """20 s of what is no beep: telephone tones, or music."""
    kind = rng.choice(("call progress", "SIT", "DTMF", "melody", "held notes"))
    call = Call(kind, machine=True)
    call.wait(300)
    name_hz = rng.choice(SEQUENCES)
    step_ms = rng.choice((120, 200, 350, 600))
    overtones = rng.choice(((1.0,), (1.0, 0.5, 0.3, 0.2), (1.0, 0.2, 0.1), (0.6, 1.0, 0.5)))
    while call.at_ms < 20_000:
        match kind:
            case "call progress":
                _, hz, on_ms, off_ms = name_hz
                call.add(tone(hz, on_ms))
                call.wait(off_ms)
            case "SIT":
                for each in SIT_HZ:
                    call.add(tone((each,), 330))
                    call.wait(rng.randint(0, 30))
                call.wait(1000)
            case "DTMF":
                call.add(tone((rng.choice(DTMF_HZ[0]), rng.choice(DTMF_HZ[1])), rng.randint(60, 400)))
                call.wait(rng.randint(50, 400))
            case _:
                chord = [262.0 * 2 ** (rng.choice((0, 2, 4, 5, 7, 9, 11, 12, 16)) / 12)]
                if kind == "held notes":
                    chord += [chord[0] * 2 ** (4 / 12), chord[0] * 2 ** (7 / 12)]
                call.add(note(chord, step_ms * rng.choice((1, 1, 2, 4)), overtones))
    call.wait(500)
    return call


def through_line(rng: random.Random, call: Call) -> list[Pcm]:
    """Frames as they come out of the codec at the other end, with noise and losses."""
    gain = FULL_SCALE * 10 ** (rng.uniform(-18, -3) / 20)
    loud = np.abs(call.sound) > 0.02
    level = float(np.sqrt(np.mean(call.sound[loud] ** 2))) if loud.any() else 0.1
    snr_db = rng.choice((15, 20, 30, 45, 60))
    sound = call.sound + noise(rng, len(call.sound)) * level * 10 ** (-snr_db / 20)
    pcm = (sound * gain).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    make: Callable[[], Codec] = rng.choice((Pcmu, Pcma, Opus, lambda: Opus(bitrate_bps=NARROW_BPS)))
    codec = make()
    if codec.rate_hz != RATE_HZ:
        resampler = Resampler(RATE_HZ, codec.rate_hz, live=False)
        pcm = np.concatenate((resampler.process(pcm), resampler.flush()))
    lost = rng.choice((0.0, 0.0, 0.0, 0.01, 0.03))
    size = frame_samples(codec.rate_hz)
    packets = [codec.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]
    return [codec.conceal() if rng.random() < lost else codec.decode(packet) for packet in packets]


@dataclass(slots=True)
class Result:
    call: Call
    decided: Verdict | None = None  # the first verdict
    decided_ms: int = 0
    beeps_ms: list[int] = field(default_factory=list)

    @property
    def said(self) -> str:
        return "nothing" if self.decided is None else self.decided.value


def hear(call: Call, frames: Sequence[Pcm], busy: list[float]) -> Result:
    """`busy`: total of seconds spent and of frames heard; both are added to."""
    answerer = Answerer(len(frames[0]) * 1000 // FRAME_MS)
    result = Result(call)
    began = time.perf_counter()
    for number, frame in enumerate(frames, 1):
        verdict = answerer.feed(frame, number * FRAME_MS)
        if verdict and result.decided is None:
            result.decided, result.decided_ms = verdict, number * FRAME_MS
        if verdict is Verdict.beep:
            result.beeps_ms.append(number * FRAME_MS)
    busy[0] += time.perf_counter() - began
    busy[1] += len(frames)
    return result


class Make(Protocol):
    __name__: str

    def __call__(self, rng: random.Random, speaker: Speaker, /) -> Awaitable[Call]: ...


async def hear_all(make: Make, count: int, seed: int, busy: list[float]) -> list[Result]:
    results = []
    tts = EspeakTts()
    await tts.start()
    try:
        speaker = Speaker(tts)
        for number in range(count):
            rng = random.Random(f"{seed} {make.__name__} {number}")  # each call by itself, whatever came before
            call = await make(rng, speaker)
            results.append(hear(call, through_line(rng, call), busy))
    finally:
        await tts.stop()
    return results


def matched(result: Result) -> tuple[list[int], int]:
    """How late each beep was reported that was, and how many reports there were of none."""
    late_ms, left = [], list(result.beeps_ms)
    for end_ms in result.call.beep_ends_ms:
        near = [at_ms for at_ms in left if 0 <= at_ms - end_ms <= IN_TIME_MS]
        if near:
            left.remove(near[0])
            late_ms.append(near[0] - end_ms)
    return late_ms, len(left)


def show(out: Console, name: str, results: Sequence[Result]) -> None:
    table = Table(title=name, title_justify="left", box=None)
    table.add_column("kind")
    verdicts = ("human", "machine", "beep", "unsure", "silence", "nothing")
    for title in ("calls", *verdicts):
        table.add_column(title, justify="right")
    kinds = Counter(result.call.kind for result in results)
    for kind in (*sorted(kinds), "all"):
        said = Counter(result.said for result in results if kind in (result.call.kind, "all"))
        table.add_row(kind, str(said.total()), *(str(said[each]) for each in verdicts))
    out.print(table)


def show_rates(out: Console, people: Sequence[Result], machines: Sequence[Result], others: Sequence[Result]) -> None:
    wrong = sum(result.said in ("machine", "beep") for result in people)
    mistaken = sum(result.said in ("human", "unsure") for result in machines)
    corrected = sum(result.said in ("human", "unsure") and bool(result.beeps_ms) for result in machines)
    late_ms = [late for result in machines for late in matched(result)[0]]
    beeps = sum(len(result.call.beep_ends_ms) for result in machines)
    short_ms = [
        result.decided_ms - result.call.ended_ms
        for result in people
        if result.said == "human" and result.call.ended_ms - result.call.began_ms <= SHORT_MS
    ]
    long_ms = [
        result.decided_ms - result.call.ended_ms
        for result in people
        if result.said == "human" and result.call.ended_ms - result.call.began_ms > SHORT_MS
    ]
    machine_ms = [result.decided_ms - result.call.began_ms for result in machines if result.said == "machine"]
    table = Table(title="Rates", title_justify="left", box=None)
    for title in ("what", "count", "rate"):
        table.add_column(title)
    for what, count, of in (
        ("human as machine", wrong, len(people)),
        ("human unsure", sum(result.said == "unsure" for result in people), len(people)),
        ("human as silence", sum(result.said == "silence" for result in people), len(people)),
        ("machine as human", mistaken, len(machines)),
        ("  and not put right by a beep", mistaken - corrected, len(machines)),
        (f"beep missed (or later than {IN_TIME_MS} ms)", beeps - len(late_ms), beeps),
        ("calls of people with a false beep", sum(bool(result.beeps_ms) for result in people), len(people)),
        ("false beeps in calls of machines", sum(matched(result)[1] for result in machines), len(machines)),
        ("false beeps in tones and music", sum(len(result.beeps_ms) for result in others), len(others)),
    ):
        table.add_row(what, f"{count} of {of}", f"{100 * count / max(of, 1):.1f} %")
    for what, times_ms in (
        ("decision after the end of a short greeting, ms", short_ms),
        ("decision after the end of a longer one, ms", long_ms),
        ("machine after its first word, ms", machine_ms),
        ("beep after its end, ms", late_ms),
    ):
        middle, high = (int(value) for value in np.percentile(times_ms or [0], (50, 95)))
        table.add_row(what, f"p50 {middle}", f"p95 {high}")
    out.print(table)


async def main(count: int, seed: int) -> None:
    out = Console()
    busy = [0.0, 0.0]
    people = await hear_all(person, count, seed, busy)
    machines = await hear_all(voicemail, count, seed, busy)
    others = await hear_all(signals, max(count // 3, 1), seed, busy)
    show(out, "People", people)
    show(out, "Voicemails", machines)
    show_rates(out, people, machines, others)
    minutes = sum(result.call.at_ms for result in others) / 60_000
    speech_minutes = sum(result.call.at_ms for result in (*people, *machines)) / 60_000
    out.print(f"{speech_minutes:.0f} minutes of calls, {minutes:.0f} of tones and music; {count} calls of each kind")
    out.print(f"{busy[0] * 1e6 / busy[1]:.1f} microseconds for each frame of 20 ms")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS, SEED))
