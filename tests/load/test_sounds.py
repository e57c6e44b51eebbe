"""Sounds as they are sent: levels, edges, pauses, rooms, files, and the cache."""

import wave
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pytest

from app.load import sounds
from app.load.line import FRAME_S
from app.load.noise import Noise as Kind
from app.load.plain import LINEAR
from app.load.scenario import loads
from app.load.sounds import Reel, SoundError, Sounds
from app.load.steps import MakeNoise, Noise, Say, Scenario, Speech, Voice
from app.ports import SpeechChunk
from app.providers.scripted import ScriptedTts
from flows import model
from media.audio import FRAME_MS, Pcm, bytes_to_pcm, dbfs
from media.codec import Codec, Pcmu


class Counting(ScriptedTts):
    """The hummed voice, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def speak(self, text: str, voice: model.Voice, rate_hz: int) -> AsyncGenerator[SpeechChunk, None]:
        self.asked += 1
        async for chunk in super().speak(text, voice, rate_hz):
            yield chunk


class Silent(ScriptedTts):
    async def speak(self, text: str, voice: model.Voice, rate_hz: int) -> AsyncGenerator[SpeechChunk, None]:
        yield SpeechChunk(np.zeros(100, np.int16))


def pcm(payloads: tuple[bytes, ...], codec: Codec) -> Pcm:
    return np.concatenate([codec.decode(each) for each in payloads])


def scene(*said: Speech | Noise, room_dbfs: float = -60.0) -> Scenario:
    made = loads(f"scenario: a\nroom: {{level_dbfs: {room_dbfs}}}\nsteps: [hang_up]", "a", Path())
    acts = tuple(Say((one,)) if isinstance(one, Speech) else MakeNoise(one) for one in said)
    return Scenario(made.name, acts, room=made.room)


async def reel(sound: Speech | Noise, codec: Codec, room_dbfs: float = -60.0) -> Reel:
    async with Sounds(tts=ScriptedTts()) as made:
        return (await made.kit(scene(sound, room_dbfs=room_dbfs), codec)).reels[sound]


@pytest.mark.parametrize("rate_hz", sorted(LINEAR))
async def test_words_have_their_level_at_every_rate(rate_hz: int) -> None:
    codec = LINEAR[rate_hz]()
    made = await reel(Speech("one two three four", level_dbfs=-23), codec)
    assert {len(payload) for payload in made.payloads} == {rate_hz * FRAME_MS // 1000 * 2}
    loud = [dbfs(bytes_to_pcm(payload)) for payload in made.payloads]
    assert max(loud) == pytest.approx(-21, abs=2)
    assert made.first == 0, "the silence before is cut off"
    assert made.last >= len(made.payloads) - 3
    assert made.words == "one two three four"


async def test_a_pause_is_as_long_as_written_and_holds_the_room() -> None:
    codec = LINEAR[8000]()
    made = await reel(Speech("one [500] two", level_dbfs=-20), codec, room_dbfs=-50)
    whole = await reel(Speech("one two", level_dbfs=-20), codec)
    assert len(made.payloads) - len(whole.payloads) == pytest.approx(0.5 / FRAME_S, abs=2)
    quiet = [dbfs(bytes_to_pcm(payload)) for payload in made.payloads if dbfs(bytes_to_pcm(payload)) < -40]
    assert len(quiet) >= 20
    assert np.mean(quiet) == pytest.approx(-50, abs=3)
    assert made.words == "one two"


@pytest.mark.parametrize("kind", list(Kind))
async def test_every_noise_has_its_length_and_level_and_is_the_same_each_time(kind: Kind) -> None:
    sound = Noise(kind, 800, -25.0, seed=3)
    first, second = await reel(sound, Pcmu()), await reel(sound, Pcmu())
    assert first == second
    assert first.ms == 800
    loud = pcm(first.payloads, Pcmu())
    peaks = [dbfs(loud[at : at + 40]) for at in range(0, len(loud), 40)]
    assert -30 < max(peaks) < -10


async def test_another_seed_is_another_noise() -> None:
    cough = [await reel(Noise(Kind.cough, 300, -20.0, seed=seed), Pcmu()) for seed in (1, 2)]
    assert cough[0].payloads != cough[1].payloads


async def test_the_room_goes_round_in_whole_frames_at_its_level() -> None:
    async with Sounds(tts=ScriptedTts()) as made:
        kit = await made.kit(scene(room_dbfs=-50), Pcmu())
    assert {len(payload) for payload in kit.room} == {160}
    assert dbfs(pcm(kit.room, Pcmu())) == pytest.approx(-50, abs=2)


def write(path: Path, samples: Pcm, *, rate_hz: int = 8000, channels: int = 1, width: int = 2) -> str:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return str(path)


async def test_a_wav_file_is_played_at_the_lines_rate_and_its_own_level(tmp_path: Path) -> None:
    tone = np.asarray(4000 * np.sin(2 * np.pi * 500 * np.arange(44100) / 44100), dtype=np.int16)
    stereo = np.repeat(tone, 2)
    sound = Speech(wav=write(tmp_path / "a.wav", stereo, rate_hz=44100, channels=2), level_dbfs=None)
    made = await reel(sound, LINEAR[16000]())
    assert made.ms == pytest.approx(1000, abs=20)
    assert dbfs(bytes_to_pcm(made.payloads[10])) == pytest.approx(dbfs(tone), abs=0.5)


@pytest.mark.parametrize("trouble", ["silent", "narrow", "text", "missing", "long"])
async def test_files_that_cannot_be_played_are_said_by_name(tmp_path: Path, trouble: str) -> None:
    path = tmp_path / "sound.wav"
    match trouble:
        case "silent":
            write(path, np.zeros(800, np.int16))
        case "narrow":
            write(path, np.ones(800, np.int8).view(np.int16), width=1)
        case "text":
            path.write_text("no sound at all")
        case "long":
            write(path, np.ones(100 * (sounds.MAX_WAV_S + 1), np.int16), rate_hz=100)
    with pytest.raises(SoundError, match=r"sound\.wav"):
        await reel(Speech(wav=str(path), level_dbfs=None), Pcmu())


@pytest.mark.parametrize(
    ("at", "field", "said"),
    [
        (22, b"\xff\xff", "65535 channels"),
        (24, bytes(4), "at 0 Hz"),
        (24, b"\xff\xff\xff\x7f", "at 2147483647 Hz"),
        (20, b"\3\0", "16-bit PCM"),
        (34, bytes(2), "16-bit PCM"),
        (0, b"OggS", "16-bit PCM"),
    ],
)
async def test_headers_that_make_no_sense_are_told(tmp_path: Path, at: int, field: bytes, said: str) -> None:
    path = tmp_path / "sound.wav"
    write(path, np.arange(4000, dtype=np.int16))
    data = path.read_bytes()
    path.write_bytes(data[:at] + field + data[at + len(field) :])
    with pytest.raises(SoundError, match=rf"sound\.wav.*{said}"):
        await reel(Speech(wav=str(path), level_dbfs=None), Pcmu())


@pytest.mark.parametrize("missing", [1, 2, 3, 1001])
async def test_of_a_file_that_was_cut_whole_samples_are_played(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "sound.wav"
    write(path, np.full(8000, 9000, dtype=np.int16), channels=2)
    path.write_bytes(path.read_bytes()[:-missing])
    made = await reel(Speech(wav=str(path), level_dbfs=None), Pcmu())
    assert 400 <= made.ms <= 500


def damage(folder: Path) -> None:
    for file in folder.glob("*.pcm"):
        file.write_bytes(b"odd")


def total_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.pcm"))


async def test_words_are_made_once_and_kept_for_the_next_run(tmp_path: Path) -> None:
    said = Speech("good morning"), Speech("good morning", level_dbfs=-30.0), Speech("good morning", voice=Voice("de"))
    kits = []
    for _ in range(2):
        tts = Counting()
        async with Sounds(tmp_path / "cache", tts) as made:
            kits.append(await made.kit(scene(*said), Pcmu()))
        assert tts.asked == (2 if len(kits) == 1 else 0)
    assert kits[0] == kits[1]


async def test_a_damaged_cache_and_one_that_cannot_be_written_only_cost_time(tmp_path: Path) -> None:
    said = scene(Speech("good morning"))
    async with Sounds(tmp_path, ScriptedTts()) as made:
        kit = await made.kit(said, Pcmu())
    damage(tmp_path)
    async with Sounds(tmp_path, ScriptedTts()) as made:
        assert await made.kit(said, Pcmu()) == kit
    blocked = tmp_path / "file"
    blocked.write_text("")
    async with Sounds(blocked / "cache", ScriptedTts()) as made:
        assert await made.kit(said, Pcmu()) == kit


async def test_the_cache_has_a_limit_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MAX_CACHE_BYTES", 60_000)
    async with Sounds(tmp_path, ScriptedTts()) as made:
        for number in range(8):
            await made.kit(scene(Speech(f"word {number}")), Pcmu())
    assert total_bytes(tmp_path) < 60_000 + 30_000


async def test_a_voice_that_says_nothing_is_told() -> None:
    with pytest.raises(SoundError, match="no words"):
        await reel(Speech("[300]"), Pcmu())
    with pytest.raises(SoundError, match="says nothing"):
        async with Sounds(tts=Silent()) as made:
            await made.kit(scene(Speech("hello")), Pcmu())
