"""Prints what each piece of the audio path costs for one 20 ms frame: `python -m tests.media.measure`.

The careful detector, here and as its package has it: for so many chunks of 32 ms that are there at once.
"""

import base64
import json
import time
from collections.abc import Callable

import numpy as np

from media.audio import Pcm, Resampler
from media.codec import Codec, Pcma, Pcmu
from media.ear import Ear
from media.opus import Opus
from media.playout import Playout
from media.silero import CHUNK_SAMPLES, RATE_HZ, Silero
from media.websocket.plain import PlainProtocol
from media.websocket.twilio import TwilioProtocol
from tests.media.sounds import noise
from tests.media.test_silero import package, reference

FRAMES = 5000
LOOKS = 1000


class Quiet:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def cost(name: str, each: Callable[[int], object]) -> float:
    for at in range(100):
        each(at)
    started = time.process_time()
    for at in range(100, FRAMES):
        each(at)
    spent_us = (time.process_time() - started) / (FRAMES - 100) * 1e6
    print(f"{name:44} {spent_us:6.2f} us a frame {spent_us * 50 / 1000:6.3f} ms a call-second")
    return spent_us


def sound(rate_hz: int, level: float) -> Pcm:
    return (np.random.default_rng(1).standard_normal(rate_hz // 50) * level).astype(np.int16)


def syllables(rate_hz: int) -> list[Pcm]:
    """Two seconds of something like a voice, in frames."""
    at = np.arange(2 * rate_hz) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 + 15 * np.sin(4 * np.pi * at)) / rate_hz
    pcm = sum((np.sin(number * phase) / number for number in range(1, 25)), np.zeros(len(at)))
    pcm *= 3000 * np.clip(np.sin(5 * np.pi * at), 0.02, 1)
    return np.split(pcm.astype(np.int16), 100)


def codecs() -> None:
    makes: tuple[type[Codec], ...] = (Pcmu, Pcma, Opus)
    for codec in [make() for make in makes]:
        frames, quiet = syllables(codec.rate_hz), np.zeros(codec.rate_hz // 50, np.int16)
        payloads = [codec.encode(frame) for frame in frames]
        cost(f"{codec.name}: encode", lambda at, c=codec, f=frames: c.encode(f[at % 100]))  # type: ignore[misc]
        cost(f"{codec.name}: encode silence", lambda _, c=codec, q=quiet: c.encode(q))  # type: ignore[misc]
        cost(f"{codec.name}: decode", lambda at, c=codec, p=payloads: c.decode(p[at % 100]))  # type: ignore[misc]
        cost(
            f"{codec.name}: decode; conceal the next",
            lambda at, c=codec, p=payloads: (c.decode(p[at % 100]), c.conceal()),  # type: ignore[misc]
        )
        cost(f"{codec.name}: conceal on and on", lambda _, c=codec: c.conceal())  # type: ignore[misc]
        cost(
            f"{codec.name}: recover from the next, decode it",
            lambda at, c=codec, p=payloads: (c.recover(p[at % 100]), c.decode(p[at % 100])),  # type: ignore[misc]
        )


def careful() -> None:
    """By turns; the best, as other programs disturb most of them."""
    here, packaged = Silero(), package()
    for count in (1, 3, 6):
        pcm = noise(RATE_HZ, 1000, 3000)[: count * CHUNK_SAMPLES]
        ways: tuple[Callable[[], object], ...] = (lambda p=pcm: here.hear(p), lambda p=pcm: reference(p, packaged))  # type: ignore[misc]
        best_us = [float("inf")] * len(ways)
        for _ in range(LOOKS):
            for number, way in enumerate(ways):
                started = time.perf_counter()
                way()
                best_us[number] = min(best_us[number], (time.perf_counter() - started) * 1e6)
        print(f"Silero, chunks at once: {count:20} {best_us[0]:6.0f} us, the package's {best_us[1]:.0f}")


def main() -> None:
    careful()
    codecs()
    quiet = Quiet()
    twilio = TwilioProtocol()
    twilio.receive_text('{"event":"connected"}', 0)
    form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = {"streamSid": "MZ1", "callSid": "CA1", "mediaFormat": form}
    twilio.receive_text(json.dumps({"event": "start", "start": start}), 0)
    payload = base64.b64encode(bytes(160)).decode()
    messages = [
        json.dumps({"event": "media", "streamSid": "MZ1", "media": {"chunk": str(at + 1), "payload": payload}})
        for at in range(FRAMES)
    ]
    cost("twilio: receive", lambda at: twilio.receive_text(messages[at], at * 20))
    frame = sound(8000, 500)
    cost("twilio: send", lambda _: twilio.audio(frame))
    plain = PlainProtocol()
    plain.receive_text('{"type":"start"}', 0)
    data = bytes(640)
    cost("plain 16 kHz: receive", lambda at: plain.receive_binary(data, at * 20))
    wide = sound(16000, 500)
    cost("plain 16 kHz: send", lambda _: plain.audio(wide))
    for rate_hz in (8000, 16000):
        for name, level in (("silence", 0), ("a quiet line", 30), ("noise, both detectors", 4000)):
            ear, heard = Ear(rate_hz, quiet), sound(rate_hz, level)
            cost(f"ear {rate_hz} Hz: {name}", lambda at, ear=ear, heard=heard: ear.feed(heard, at * 20))  # type: ignore[misc]
        for marks in (False, True):
            playout = Playout(rate_hz, quiet, quiet, marks=marks)
            playout.begin(1)
            size = rate_hz // 50
            playout.push(1, 0, np.ones(size * FRAMES, np.int16), [(at, at * 20 * size) for at in range(FRAMES // 20)])
            cost(f"playout {rate_hz} Hz: tick, marks {marks}", lambda at, playout=playout: playout.tick(at * 20))  # type: ignore[misc]
    for rate_hz in (24000, 48000):
        resampler, input_ = Resampler(rate_hz, 16000), sound(rate_hz, 1000)
        cost(f"resample {rate_hz} to 16000 Hz", lambda _, r=resampler, i=input_: r.process(i))  # type: ignore[misc]


if __name__ == "__main__":
    main()
