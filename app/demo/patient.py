"""The demo's caller. It reacts to what it hears as a person would, and wants one appointment.

It keys its birth date wrong once, interrupts the long introduction, changes its mind about the day when everything
seems settled, says no to whatever was read back wrong, and takes the keys when it is not understood.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import numpy as np

from app.load.phone import Phone
from app.ports import Pcm, Tts
from flows.model import Voice

QUIET_S: Final = 0.5  # of the agent's silence before a person answers
PATIENCE_S: Final = 20.0
INTERRUPT_AFTER_S: Final = 3.0  # into the introduction
LONG_CHARS: Final = 150  # words that one does not wait for
MAX_TURNS: Final = 60
LOUDNESS_PEAK: Final = 12_000

KEYS: Final = {
    "yes": "#",
    "no": "*",
    "tuesday": "2",
    "thursday": "4",
    "morning": "1",
}


class Patient:
    """`wrong_keys` are keyed first, then `keys`; `day` is asked for first and changed to `final_day`."""

    keys = "31051980"
    wrong_keys = "31051990"
    spoken_date = "May 31st, 1980"
    day = "tuesday"
    final_day = "thursday"
    part = "morning"

    def __init__(self, phone: Phone, tts: Tts, voice: Voice, tell: Callable[[str], None]) -> None:
        self.phone = phone
        self.interrupted = False
        self.corrected = False
        self.mistaken = False
        self.fell_back_to_keys = 0
        self._tts = tts
        self._voice = voice
        self._tell = tell
        self._read = 0  # captions taken in
        self._last = ""
        self._misses = 0
        self._wanted_day = self.day

    async def call(self) -> None:
        """The whole call, until it is over or this person loses patience."""
        for _ in range(MAX_TURNS):
            said = await self._listen()
            if self.phone.over.is_set():
                return
            await self._answer(said.lower())
        self._tell("gives up")
        await self.phone.hang_up()

    async def _listen(self) -> str:
        """What the agent said since the last turn, once it has finished or bores us."""
        phone = self.phone
        waited = asyncio.get_running_loop().time()
        while not phone.over.is_set():
            fresh = [caption.text for caption in phone.heard.captions[self._read :]]
            if not self.interrupted and any(len(text) > LONG_CHARS for text in fresh):
                await self._interrupt()
                continue
            if fresh and phone.quiet_for() >= QUIET_S and phone.last_audible_s > phone.heard.captions[-1].at_s:
                self._read += len(fresh)
                return " ".join(fresh)
            if asyncio.get_running_loop().time() - waited > PATIENCE_S:
                return "silence"
            await phone.changed(0.1)
        return ""

    async def _answer(self, said: str) -> None:
        if re.search(r"did not|didn't|not understand|sorry", said) and self._last:
            self._misses += 1
        else:
            self._misses = 0
        if "is that right" in said:
            await self._check(said)
        elif "shall i book" in said:
            await self._confirm(said)
        elif "date of birth" in said:
            await self._key(self.keys if self.mistaken else self.wrong_keys)
            self.mistaken = True
        elif re.search(r"which day|what day|day would", said):
            await self._say(self._wanted_day)
        elif re.search(r"morning or|afternoon", said):
            await self._say(self.part)
        elif re.search(r"goodbye|bye", said):
            await self.phone.hang_up()
        elif self._last:
            await self._say(self._last)

    async def _check(self, said: str) -> None:
        """A read-back: right or wrong?"""
        read_back = re.split(r"(?<=[.!?])\s+", said.rpartition("is that right")[0].strip())[-1]
        right = {self.spoken_date.lower(), self._wanted_day, self.part}
        await self._say("yes" if any(value in read_back for value in right) else "no")

    async def _confirm(self, said: str) -> None:
        if not self.corrected and self._wanted_day in said:
            self.corrected = True
            self._wanted_day = self.final_day
            await self._say(f"no, make it {self.final_day}")
        elif self._wanted_day in said and self.part in said:
            await self._say("yes")
        elif self._wanted_day not in said:
            await self._say(f"no, make it {self._wanted_day}")
        else:
            await self._say(f"no, make it {self.part}")

    async def _interrupt(self) -> None:
        """Once the long sentence is well under way."""
        phone = self.phone
        began = phone.heard.captions[-1].at_s
        while phone.last_audible_s < began and not phone.over.is_set():
            await phone.changed(0.1)
        await asyncio.sleep(INTERRUPT_AFTER_S)
        words = await self._voiced(self._wanted_day)
        while phone.quiet_for() > 0.04 and not phone.over.is_set():  # in the middle of a word, not between two
            await phone.changed(0.02)
        self.interrupted = True
        self._read = len(phone.heard.captions)
        self._last = self._wanted_day
        self._tell(f"interrupts with “{self._wanted_day}”")
        await phone.say(words, interrupting=True)

    async def _say(self, words: str) -> None:
        if self._misses >= 2 and (keys := KEYS.get(words)):
            self.fell_back_to_keys += 1
            await self._key(keys)
            return
        self._last = words
        self._tell(f"says “{words}”")
        await self.phone.say(await self._voiced(words))

    async def _key(self, keys: str) -> None:
        self._tell("keys " + "•" * len(keys))
        await self.phone.key(keys)

    async def _voiced(self, words: str) -> Pcm:
        chunks = [chunk.pcm async for chunk in self._tts.speak(words, self._voice, self.phone.rate_hz)]
        pcm = np.concatenate(chunks).astype(np.float64)
        return (pcm * (LOUDNESS_PEAK / max(1.0, float(np.abs(pcm).max())))).astype(np.int16)
