"""The process that listens: pocketsphinx with one grammar an utterance, and a second opinion on what was none of it.

It runs apart because the library holds Python's lock for hundreds of milliseconds. Utterances of many calls are
interleaved; their audio is decoded as it comes, so that the end of one costs little.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soxr
from msgspec import Struct
from numpy.typing import NDArray

from app.providers.frames import READY, Link
from app.providers.sounding import Stretch

BEGIN, AUDIO, FINISH, DROP = 1, 2, 3, 4
"""To the worker: a `Begin`; 16-bit samples; decide; forget."""
HEARD, FAILED, EARLY = 1, 2, 3
"""From the worker: a `Result`; a `Fault` and a detail as text; an `Early`."""

MODEL_HZ = 16_000
MAX_IDLE_DECODERS = 24
"""Kept for the next utterance: 4 MB each."""
UNSPOKEN = "ZH OY ZH OY ZH OY ZH OY ZH OY ZH"
"""The sound of a word that the dictionary lacks: nobody says it, so what needs the word is never heard, while the
library would refuse the whole grammar (and takes `<VOID>` for the end of a list of alternatives)."""
NOISE_PEAK_WIDE, NOISE_PEAK_NARROW = 60, 80
"""Sigma of the white noise put under the audio, of 32,768: digital silence wrecks the features."""
NARROW_HZ = 8000
NOISE_S = 1
EARLY_MS = 60
MAX_EARLY_MS = 1500
"""How often, and for how long, an utterance is asked for its words so far."""
FIRST_CMN = "50,-2.5,-2.5,7,-4.5,-2.5,-2.5,-9.5,-3,-3.5,1.5,0,-4"
"""Where a call's cepstral mean starts: part of the way from the library's (40, 3, -1) to what synthetic voices end up
with. It halved their errors in a call's first words; it was not tried on people."""

_WORD = re.compile(r"[^\s<>()\[\]{}|*+=;/\"\\#]+")
_HEADER = re.compile(r"\s*#JSGF[^;]*;\s*grammar\s+[^;]*;")
_NAME = re.compile(r"<[^>]*>")


class Begin(Struct, array_like=True):
    grammar: str  # JSGF
    rate_hz: int
    cmn: str  # what the call's last utterance taught of its channel; empty: nothing yet
    floor: float  # the least margin at which words are accepted


class Result(Struct, array_like=True):
    text: str  # empty: rejected
    margin: float  # the grammar's score less that of free sounds, a frame
    cmn: str
    wants_floor: float = 0.0  # as in `ports.Heard`


class Early(Struct, array_like=True):
    text: str  # so far
    margin: float
    wants_floor: float


class Rejected(Exception):
    """A request that cannot be served; holds no words."""


def dictionary(wanted: Iterable[str] | None = None) -> dict[str, str]:
    """The model's pronunciations, "word" and "word(2)" and so on; with `wanted`, only of these words."""
    keep = None if wanted is None else set(wanted)
    found = {}
    with (_model() / "cmudict-en-us.dict").open(encoding="utf-8") as file:
        for line in file:
            word, _, sounds = line.rstrip().partition(" ")
            if keep is None or word.partition("(")[0] in keep:
                found[word] = sounds
    return found


def words_of(grammar: str) -> set[str]:
    """The words that a JSGF grammar speaks."""
    body = _NAME.sub(" ", _HEADER.sub("", grammar, count=1))
    return set(_WORD.findall(re.sub(r"\bpublic\b", " ", body)))


def _model() -> Path:
    import pocketsphinx

    return Path(pocketsphinx.get_model_path()) / "en-us"


class Decoders:
    """Builds decoders and keeps the idle ones, the longest unused going first."""

    def __init__(self) -> None:
        import pocketsphinx

        self._pocketsphinx: Any = pocketsphinx
        self._dictionary = dictionary()
        self._idle: OrderedDict[str, list[Any]] = OrderedDict()

    def take(self, grammar: str) -> Any:
        """One that is not in use; for the grammar "", the one of free sounds. Raises `Rejected`."""
        idle = self._idle.get(grammar)
        if not idle:
            return self._build(grammar) if grammar else self._build_phones()
        decoder = idle.pop()
        if not idle:
            del self._idle[grammar]
        return decoder

    def give(self, grammar: str, decoder: Any) -> None:
        self._idle.setdefault(grammar, []).append(decoder)
        self._idle.move_to_end(grammar)
        while sum(map(len, self._idle.values())) > MAX_IDLE_DECODERS:
            oldest = next(iter(self._idle))
            self._idle[oldest].pop()
            if not self._idle[oldest]:
                del self._idle[oldest]

    def _new(self, **options: Any) -> Any:
        config = self._pocketsphinx.Config(
            hmm=str(_model() / "en-us"),
            lm=None,
            dict=None,
            loglevel="FATAL",
            bestpath=False,
            wip=1e-3,
            silprob=0.3,
            compallsen=True,
            **options,
        )
        return self._pocketsphinx.Decoder(config)

    def _build_phones(self) -> Any:
        return self._new(allphone=str(_model() / "en-us-phone.lm.bin"))

    def _build(self, grammar: str) -> Any:
        decoder = self._new()
        for word in words_of(grammar):
            decoder.add_word(word, self._dictionary.get(word, UNSPOKEN), False)
            variant, number = f"{word}(2)", 2
            while variant in self._dictionary:
                decoder.add_word(variant, self._dictionary[variant], False)
                number += 1
                variant = f"{word}({number})"
        try:
            decoder.add_jsgf_string("grammar", grammar)
            decoder.activate_search("grammar")
        except (ValueError, RuntimeError, KeyError):
            raise Rejected("a grammar that cannot be used") from None
        return decoder


class Utterance:
    """Two decoders over the same audio: the grammar's, and one of free sounds to compare its score with."""

    def __init__(self, decoders: Decoders, begin: Begin) -> None:
        self._decoders = decoders
        self._begin = begin
        self._resampler = None
        if begin.rate_hz != MODEL_HZ:
            self._resampler = soxr.ResampleStream(begin.rate_hz, MODEL_HZ, 1, dtype="int16")
        sigma = NOISE_PEAK_NARROW if begin.rate_hz <= NARROW_HZ else NOISE_PEAK_WIDE
        # The same noise each time: an utterance that is heard again is heard alike.
        self._noise = np.random.default_rng(1).normal(0, sigma, NOISE_S * MODEL_HZ).astype(np.int16)
        self._place = 0
        self._place_ms = 0.0
        self._early_at_ms = 0.0
        self._told = "", 0.0
        self._stretch = Stretch(begin.rate_hz)
        self._words = decoders.take(begin.grammar)
        self._sounds = decoders.take("")
        for decoder in (self._words, self._sounds):
            decoder.reinit_feat()  # or what it remembers of another call's sound goes on
            decoder.set_cmn(begin.cmn or FIRST_CMN)
            decoder.start_utt()

    def feed(self, pcm: NDArray[np.int16], *, last: bool = False) -> None:
        self._stretch.feed(pcm)
        if self._resampler is not None:
            pcm = self._resampler.resample_chunk(pcm, last)
        if pcm.size == 0:
            return
        self._place_ms += pcm.size * 1000 / MODEL_HZ
        noise = self._noise.take(np.arange(self._place, self._place + pcm.size), mode="wrap")
        self._place = (self._place + pcm.size) % self._noise.size
        noisy = np.clip(pcm.astype(np.int32) + noise, -32768, 32767).astype(np.int16).tobytes()
        self._words.process_raw(noisy, False, False)
        self._sounds.process_raw(noisy, False, False)

    def early(self) -> Early | None:
        """Now and then the words so far, believed or not: they may be the beginning of more. At once its sound."""
        wants_floor = self._stretch.wants_floor
        is_due = self._early_at_ms <= self._place_ms < MAX_EARLY_MS
        if not is_due and wants_floor == self._told[1]:
            return None
        self._early_at_ms = self._place_ms + EARLY_MS
        text, margin = self._judge()
        told, self._told = self._told, (text, wants_floor)
        return Early(text, margin, wants_floor) if text or told[0] or wants_floor else None

    def finish(self) -> Result:
        """The utterance cannot be used after it."""
        self.feed(np.zeros(0, dtype=np.int16), last=True)
        self._words.end_utt()
        self._sounds.end_utt()
        text, margin = self._judge()
        cmn = self._words.get_cmn(True)
        self._give_back()
        return Result(text if margin >= self._begin.floor else "", margin, cmn, self._stretch.finish())

    def _judge(self) -> tuple[str, float]:
        """What fits best, and how much worse it fits than free sounds do: over the frames of its words only, so that
        the silence around them does not flatter it."""
        heard, free = self._words.hyp(), self._sounds.hyp()
        if heard is None or free is None:
            return "", -np.inf
        spoken = [part for part in self._words.seg() if not part.word.startswith("<")]
        frames = sum(part.end_frame - part.start_frame + 1 for part in spoken)
        if frames == 0:
            return "", -np.inf
        log = self._words.get_logmath().log
        return heard.hypstr, (log(heard.score) - log(free.score)) / frames

    def drop(self) -> None:
        self._words.end_utt()
        self._sounds.end_utt()
        self._give_back()

    def _give_back(self) -> None:
        self._decoders.give(self._begin.grammar, self._words)
        self._decoders.give("", self._sounds)


class Worker:
    """Serves frames in the order in which they come."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._decoders = Decoders()
        self._open: dict[int, Utterance] = {}

    def run(self) -> None:
        self._warm_up()
        self._link.write(READY, 0)
        while True:
            for kind, number, body in self._link.read(wait=True):
                try:
                    self._serve(kind, number, body)
                except Rejected as rejected:
                    self._fail(number, "rejected", str(rejected))
                except RuntimeError:
                    self._fail(number, "broken", "the recogniser failed")

    def _fail(self, number: int, fault: str, detail: str) -> None:
        self._open.pop(number, None)
        self._link.write(FAILED, number, msgspec.msgpack.encode((fault, detail)))

    def _warm_up(self) -> None:
        grammar = "#JSGF V1.0; grammar g; public <g> = yes | no;"
        utterance = Utterance(self._decoders, Begin(grammar, MODEL_HZ, "", 0.0))
        utterance.feed(np.zeros(MODEL_HZ // 2, dtype=np.int16))
        utterance.finish()

    def _serve(self, kind: int, number: int, body: bytes) -> None:
        if kind == AUDIO:
            if number in self._open:
                utterance = self._open[number]
                utterance.feed(np.frombuffer(body, dtype=np.int16))
                early = utterance.early()
                if early is not None:
                    self._link.write(EARLY, number, msgspec.msgpack.encode(early))
        elif kind == BEGIN:
            self._open[number] = Utterance(self._decoders, msgspec.msgpack.decode(body, type=Begin))
        elif kind == FINISH:
            ended = self._open.pop(number, None)
            if ended is not None:
                self._link.write(HEARD, number, msgspec.msgpack.encode(ended.finish()))
        elif kind == DROP:
            dropped = self._open.pop(number, None)
            if dropped is not None:
                dropped.drop()


def main() -> None:
    try:
        Worker(Link()).run()
    except EOFError:
        sys.exit(0)


if __name__ == "__main__":
    main()
