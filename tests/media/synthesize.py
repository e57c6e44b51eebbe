"""A helper process: says its arguments (voice, text) with espeak-ng and writes 22,050 Hz 16-bit mono to stdout."""

import ctypes
import sys

import espeakng_loader

SYNCHRONOUS = 2
UTF8 = 1


def main(voice: str, text: str) -> None:
    library = ctypes.cdll.LoadLibrary(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    assert rate_hz == 22050
    chunks: list[bytes] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    words = text.encode()
    library.espeak_Synth(words, len(words) + 1, 0, 0, 0, UTF8, None, None)
    sys.stdout.buffer.write(b"".join(chunks))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
