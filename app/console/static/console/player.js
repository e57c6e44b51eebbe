// The recording, under the same cursor as everything else.

import { clock } from "./format.js";
import { h } from "../shared/dom.js";

const SPEEDS = [1, 1.5, 2, 0.75];
const SKIP_MS = 5000;

export class Player {
  // src: the recording's address, or "" where there is none. onMove(ms) while it plays.
  constructor({ src, duration, onMove, onSeek }) {
    this.onMove = onMove;
    this.onSeek = onSeek;
    this.ms = 0;
    this.duration = duration;
    this.speed = 0;
    this.audio = src ? h("audio", { src, preload: "metadata" }) : null;
    this.play = h("button", { type: "button", class: "play", "aria-label": "Play the recording" });
    this.back = h("button", { type: "button", class: "button quiet-button", "aria-label": "Back 5 seconds" }, "−5 s");
    this.forth = h("button", { type: "button", class: "button quiet-button", "aria-label": "Forward 5 seconds" }, "+5 s");
    this.rate = h("button", { type: "button", class: "button quiet-button", "aria-label": "Speed: 1 times" }, "1×");
    this.time = h("output", { class: "player-time" });
    this.note = h("span", { class: "quiet player-note" });
    this.play.disabled = this.rate.disabled = !src;
    if (!src) this.note.textContent = "No recording";
    this.element = h(
      "div",
      { class: "player", role: "group", "aria-label": "Recording" },
      this.play,
      this.back,
      this.forth,
      this.rate,
      this.time,
      this.note,
      this.audio,
    );
    this.play.addEventListener("click", () => this.toggle());
    this.back.addEventListener("click", () => this.onSeek(this.ms - SKIP_MS));
    this.forth.addEventListener("click", () => this.onSeek(this.ms + SKIP_MS));
    this.rate.addEventListener("click", () => this.faster());
    this.tick = this.tick.bind(this);
    if (this.audio) this.listen();
    this.show();
  }

  listen() {
    const audio = this.audio;
    audio.addEventListener("play", () => this.playing(true));
    audio.addEventListener("pause", () => this.playing(false));
    audio.addEventListener("ended", () => this.playing(false));
    audio.addEventListener("error", () => {
      this.note.textContent = "The recording cannot be played.";
      this.play.disabled = true;
    });
  }

  toggle() {
    if (!this.audio || this.play.disabled) return;
    if (!this.audio.paused) {
      this.audio.pause();
      return;
    }
    this.audio.currentTime = this.ms / 1000;
    this.audio.play().catch(() => (this.note.textContent = "The recording cannot be played."));
  }

  playing(on) {
    this.play.classList.toggle("is-playing", on);
    this.play.setAttribute("aria-label", on ? "Pause the recording" : "Play the recording");
    cancelAnimationFrame(this.frame);
    if (on) this.frame = requestAnimationFrame(this.tick);
  }

  tick() {
    if (this.audio.paused) return;
    this.ms = this.audio.currentTime * 1000;
    this.onMove(this.ms);
    this.show();
    this.frame = requestAnimationFrame(this.tick);
  }

  faster() {
    this.speed = (this.speed + 1) % SPEEDS.length;
    this.audio.playbackRate = SPEEDS[this.speed];
    this.rate.textContent = `${SPEEDS[this.speed]}×`;
    this.rate.setAttribute("aria-label", `Speed: ${SPEEDS[this.speed]} times`);
  }

  // The cursor was moved by something else than the recording.
  seek(ms) {
    this.ms = ms;
    if (this.audio && Math.abs(this.audio.currentTime * 1000 - ms) > 60) this.audio.currentTime = ms / 1000;
    this.show();
  }

  grow(duration) {
    this.duration = duration;
    this.show();
  }

  show() {
    const text = `${clock(this.ms)} / ${clock(this.duration)}`;
    if (this.time.textContent !== text) this.time.textContent = text;
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.audio?.pause();
    this.audio?.removeAttribute("src");
  }
}
