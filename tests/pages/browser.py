"""A real Chromium with a microphone that plays a file, and what a person would look at afterwards."""

import asyncio
import base64
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from media.audio import Pcm
from tests.conftest import needs

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 20_000
RATE_HZ = 16_000

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]

WATCH = """
window.peers = [];
const Original = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Original {
  constructor(...given) { super(...given); window.peers.push(this); }
};
"""
RECORD = """
async ([seconds, rate]) => {
  const peer = window.peers.at(-1);
  const track = peer.getReceivers().map((one) => one.track).find((one) => one.kind === "audio");
  const context = new AudioContext({ sampleRate: rate });
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const processor = context.createScriptProcessor(4096, 1, 1);
  const parts = [];
  processor.onaudioprocess = (event) => parts.push(Float32Array.from(event.inputBuffer.getChannelData(0)));
  source.connect(processor);
  processor.connect(context.destination);
  await new Promise((done) => setTimeout(done, seconds * 1000));
  await context.close();
  const samples = new Int16Array(parts.reduce((count, part) => count + part.length, 0));
  let at = 0;
  for (const part of parts) for (const value of part) samples[at++] = Math.max(-1, Math.min(1, value)) * 32767;
  let text = "";
  for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}
"""


def room(seconds: float) -> Pcm:
    """Nobody speaks."""
    return np.random.default_rng(1).normal(0, 10, round(RATE_HZ * seconds)).astype(np.int16)


def save(file: Path, *parts: Pcm) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(np.concatenate(parts).tobytes())
    return file


@asynccontextmanager
async def chromium(microphone: Path | None = None, *, allow: bool = True) -> AsyncIterator[Browser]:
    """`microphone` is played once, from when a page asks for it; `allow` says what the person answers then."""
    path = needs("chromium", "apt-get install chromium")
    arguments = [*ARGUMENTS]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    if allow:
        arguments.append("--use-fake-ui-for-media-stream")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, size: ViewportSize = DESKTOP, dark: bool = False
) -> AsyncIterator[Page]:
    """A page as a person has it before them. An error in its scripts fails the test."""
    context = await browser.new_context(viewport=size, color_scheme="dark" if dark else "light")
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(WATCH)
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    await page.goto(url)
    try:
        yield page
    finally:
        await context.close()
    assert not errors


async def photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


async def accessible(page: Page) -> None:
    """A page that is drawn, and in which axe finds nothing to object to."""
    await expect(page.locator("h1").first).to_be_attached(timeout=PATIENCE_MS)
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def heard(page: Page, seconds: float) -> Pcm:
    """What the page's peer sent, recorded in the page."""
    text: str = await page.evaluate(RECORD, [seconds, RATE_HZ])
    return np.frombuffer(base64.b64decode(text), dtype="<i2").astype(np.int16)


def likeness(heard_pcm: Pcm, expected: Pcm) -> float:
    """How much of `expected` is somewhere in what was heard: the median of its tenths of a second, 1 is the same.

    No longer pieces, since the browser stretches and shrinks what it plays.
    """
    size = RATE_HZ // 10
    pieces = [expected[at : at + size] for at in range(0, len(expected) - size, size)]
    return float(np.median([_correlation(heard_pcm, piece) for piece in pieces]))


def _correlation(heard_pcm: Pcm, piece: Pcm) -> float:
    wanted = piece.astype(np.float64)
    given = heard_pcm.astype(np.float64)
    size = len(given) + len(wanted)
    products = np.fft.irfft(np.fft.rfft(given, size) * np.conj(np.fft.rfft(wanted, size)), size)
    energies = np.cumsum(np.concatenate((np.zeros(1), given**2)))
    at = int(np.argmax(np.abs(products[: len(given) - len(wanted)])))
    energy = energies[at + len(wanted)] - energies[at]
    return float(abs(products[at]) / np.sqrt(max(energy, 1) * max(float(wanted @ wanted), 1)))


async def stats(page: Page) -> dict[str, Any]:
    """Of the audio that comes in (W3C webrtc-stats, inbound-rtp)."""
    found: dict[str, Any] = await page.evaluate(
        """async () => {
          for (const one of (await window.peers.at(-1).getStats()).values())
            if (one.type === "inbound-rtp" && one.kind === "audio") return { ...one };
          return {};
        }"""
    )
    return found


async def eventually(true: Any, patience_s: float = PATIENCE_MS / 1000) -> None:
    """Until the coroutine function `true` says so; asked every 50 ms."""
    async with asyncio.timeout(patience_s):
        while not await true():  # noqa: ASYNC110  # a page has no event for it
            await asyncio.sleep(0.05)
