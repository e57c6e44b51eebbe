"""Opus (RFC 6716, RFC 7587) by libopus: the one that PyAV's wheels carry, else the system's."""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from media.audio import Pcm, frame_samples
from media.codec import Codec, PayloadError

BITRATE_BPS: Final = 28_000  # a bound; speech takes half. At 24,000 with redundancy libopus cuts the sound to 6 kHz
LOSS_PERCENT: Final = 0  # until the peer reports its own: copies of each packet cost a third of its quality and time
COMPLEXITY: Final = 1  # of 10; for voices 2 takes twice the time and sounds the same
MAX_DECODED_MS: Final = 120  # RFC 6716, 3.2.5
MAX_ENCODED_BYTES: Final = 1000  # one packet of the network
DTX_BYTES: Final = 2  # a packet this short says only that silence goes on, and need not be sent
SILENT_FRAMES: Final = 10  # of digital silence under DTX, of which one is really encoded: each costs half of speech

# opus_defines.h
_VOIP: Final = 2048
_SET_BITRATE: Final = 4002
_SET_COMPLEXITY: Final = 4010
_SET_FEC: Final = 4012
_SET_LOSS_PERCENT: Final = 4014
_SET_DTX: Final = 4016
_SET_SIGNAL: Final = 4024
_VOICE: Final = 3001
_OK: Final = 0


class OpusUnavailable(Exception):
    """There is no libopus here; G.711 remains."""


def available() -> bool:
    try:
        _library()
    except OpusUnavailable:
        return False
    return True


class Opus(Codec):
    """16 kHz mono both ways; one thread. Raises `OpusUnavailable` when made where there is no libopus.

    Takes every legal packet: 2.5 to 120 ms, any bandwidth, stereo mixed down. Under `dtx`, silence becomes packets of
    at most `DTX_BYTES`, which the sender may skip, and one that is longer now and then.
    """

    name: ClassVar[str] = "opus"
    rate_hz: ClassVar[int] = 16_000
    clock_hz: ClassVar[int] = 48_000

    def __init__(
        self, *, bitrate_bps: int = BITRATE_BPS, loss_percent: int = LOSS_PERCENT, fec: bool = True, dtx: bool = True
    ) -> None:
        library = _library()
        self._encode = library.opus_encode
        self._decode = library.opus_decode
        self._has_fec = library.opus_packet_has_lbrr
        self._samples_per_frame = library.opus_packet_get_samples_per_frame
        self._init_encoder = library.opus_encoder_init
        self._init_decoder = library.opus_decoder_init
        self._encoder_ctl = library.opus_encoder_ctl
        self._frame_samples = frame_samples(self.rate_hz)
        # Python's own memory for the states, so that nothing is to be freed
        self._encoder = ctypes.create_string_buffer(library.opus_encoder_get_size(1))
        self._decoder = ctypes.create_string_buffer(library.opus_decoder_get_size(1))
        self._options = (
            (_SET_BITRATE, bitrate_bps),
            (_SET_COMPLEXITY, COMPLEXITY),
            (_SET_SIGNAL, _VOICE),
            (_SET_FEC, int(fec)),
            (_SET_DTX, int(dtx)),
            (_SET_LOSS_PERCENT, loss_percent),
        )
        self._silent = b""  # the latest packet, when it was only silence
        self._silent_frames = 0
        self.reset()
        self._input: Pcm = np.zeros(self._frame_samples, dtype=np.int16)
        self._input_at = self._input.ctypes.data
        self._packet = ctypes.create_string_buffer(MAX_ENCODED_BYTES)
        self._output_samples = self.rate_hz * MAX_DECODED_MS // 1000
        self._output: NDArray[np.int16] = np.zeros(self._output_samples, dtype=np.int16)
        self._output_at = self._output.ctypes.data

    def expect_loss(self, percent: int) -> None:
        """What the peer reports (0 to 100): the more, the more of each packet repeats the one before."""
        self._set(_SET_LOSS_PERCENT, percent)

    def encode(self, frame: Pcm) -> bytes:
        if len(frame) != self._frame_samples:
            raise ValueError("a frame is 20 ms")
        if self._silent and not frame.any():
            self._silent_frames += 1
            if self._silent_frames % SILENT_FRAMES:
                return self._silent
        self._input[:] = frame
        size = self._encode(self._encoder, self._input_at, self._frame_samples, self._packet, MAX_ENCODED_BYTES)
        _check(size)
        packet = self._packet.raw[:size]
        self._silent = packet if size <= DTX_BYTES else b""
        return packet

    def decode(self, payload: bytes) -> Pcm:
        if not payload:
            raise PayloadError("an empty packet")
        samples = self._decode(self._decoder, payload, len(payload), self._output_at, self._output_samples, 0)
        if samples < 0:
            raise PayloadError("not a packet of Opus")
        return self._output[:samples].copy()

    def conceal(self) -> Pcm:
        samples = self._decode(self._decoder, None, 0, self._output_at, self._frame_samples, 0)
        _check(samples)
        return self._output[:samples].copy()

    def recover(self, payload: bytes) -> Pcm | None:
        if not payload or self._has_fec(payload, len(payload)) != 1:
            return None
        wanted = max(self._frame_samples, self._samples_per_frame(payload, self.rate_hz))
        samples = self._decode(self._decoder, payload, len(payload), self._output_at, wanted, 1)
        return self._output[:samples].copy() if samples > 0 else None

    def reset(self) -> None:
        self._silent = b""
        self._silent_frames = 0
        _check(self._init_encoder(self._encoder, self.rate_hz, 1, _VOIP))
        _check(self._init_decoder(self._decoder, self.rate_hz, 1))
        for request, value in self._options:
            self._set(request, value)

    def _set(self, request: int, value: int) -> None:
        _check(self._encoder_ctl(self._encoder, request, ctypes.c_int(value)))


def _check(result: int) -> None:
    """For calls that depend on nothing from outside."""
    if result < _OK:
        raise ValueError(f"libopus refuses: error {result}")


@cache
def _library() -> ctypes.PyDLL:
    for path in _candidates():
        try:
            # PyDLL keeps the interpreter's lock: a call takes less than handing the lock to a busy thread and back
            return _declare(ctypes.PyDLL(path))
        except (OSError, AttributeError):  # not loadable, or another library of a like name
            continue
    raise OpusUnavailable("no libopus: install PyAV from a wheel, or libopus 1.5 or later")


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("av")
    if spec and spec.origin:
        package = Path(spec.origin).parent
        for folder in (package.parent / "av.libs", package / ".dylibs"):
            yield from sorted(str(path) for path in folder.glob("*opus*"))
    system = ctypes.util.find_library("opus")
    if system:
        yield system


def _declare(library: ctypes.PyDLL) -> ctypes.PyDLL:
    """Raises `AttributeError` when it is not libopus, or one before 1.5."""
    state, data, number, pcm = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
    library.opus_encoder_get_size.argtypes = [number]
    library.opus_decoder_get_size.argtypes = [number]
    library.opus_encoder_init.argtypes = [state, number, number, number]
    library.opus_decoder_init.argtypes = [state, number, number]
    library.opus_encode.argtypes = [state, pcm, number, data, number]
    library.opus_decode.argtypes = [state, data, number, pcm, number, number]
    library.opus_packet_has_lbrr.argtypes = [data, number]
    library.opus_packet_get_samples_per_frame.argtypes = [data, number]
    # variadic: only the fixed arguments are declared, as Apple's ARM needs
    library.opus_encoder_ctl.argtypes = [state, number]
    return library
