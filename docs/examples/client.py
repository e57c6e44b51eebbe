"""A caller on the plain protocol: python client.py ws://127.0.0.1:8080/ws/audio/clinic [said.wav [heard.wav]]

Says a WAV of 16 kHz, 16 bit, mono and then nothing, until the call is over. The token comes from VOICEGATE_TOKEN.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sys
import wave

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

RATE, FRAME_BYTES, FRAME_S = 16000, 640, 0.02


async def speak(socket: ClientConnection, said: bytes) -> None:
    due = asyncio.get_running_loop().time()
    with contextlib.suppress(ConnectionClosed):
        for at in itertools.count(0, FRAME_BYTES):  # silence is sent too
            await socket.send(said[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0"))
            due += FRAME_S
            await asyncio.sleep(due - asyncio.get_running_loop().time())


async def call(url: str, said: bytes, heard: wave.Wave_write) -> None:
    async with connect(url) as socket, asyncio.TaskGroup() as tasks:
        token = os.environ.get("VOICEGATE_TOKEN", "")
        await socket.send(json.dumps({"type": "start", "rate": RATE, "marks": True, "token": token}))
        speaking = tasks.create_task(speak(socket, said))
        async for message in socket:
            if isinstance(message, bytes):
                heard.writeframes(message)  # a speaker would buffer this, and drop it at {"type": "clear"}
            elif '"mark"' in message:
                await socket.send(message)  # all audio before it was played
            else:
                print(message)
        speaking.cancel()


def main(url: str, said: str = os.devnull, heard: str = "heard.wav") -> None:
    with open(said, "rb") as voice, wave.open(heard, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        asyncio.run(call(url, voice.read()[44:], file))  # 44: a plain WAV's header


if __name__ == "__main__":
    main(*sys.argv[1:])
