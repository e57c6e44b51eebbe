// Keeps a phone's screen on while somebody talks: with the screen many phones turn the microphone off.

let lock = null;
let wanted = false;

export function keepAwake(on) {
  wanted = on;
  if (on) ask();
  else {
    lock?.release().catch(() => {});
    lock = null;
  }
}

async function ask() {
  if (!navigator.wakeLock || document.visibilityState !== "visible") return;
  try {
    const got = await navigator.wakeLock.request("screen");
    if (wanted) lock = got;
    else await got.release();
  } catch {
    // The battery is low, or the page is hidden: the screen may go off.
  }
}

// A page that was out of sight has lost its lock.
document.addEventListener("visibilitychange", () => wanted && ask());
