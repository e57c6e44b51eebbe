// Carries out what the machine orders: the microphone, the leg, the pauses, and what a reload must not lose.

import { RtcLeg } from "../shared/rtc.js";
import { forget, keep, kept } from "./kept.js";
import { START, next } from "./machine.js";
import { openMicrophone, silence } from "./microphone.js";

const KEY = "voicegate-call";
const PING_MS = 5000;

export class Call {
  state = START;
  stream = null;
  leg = null;
  muted = false;
  device = "";
  #timer = 0;
  #pings = 0;
  #asked = 0;

  // `on`: {state(state, before), message(object), voice(MediaStream), microphone(MediaStream or null), trouble(problem)}
  constructor(on) {
    this.on = on;
    addEventListener("online", () => this.tell({ is: "retry" }));
  }

  tell(fact) {
    const before = this.state;
    const [state, orders] = next(before, fact);
    this.state = state;
    for (const [name, about] of orders) this[`_${name}`](about);
    if (this.state !== before) this.on.state(this.state, before);
  }

  restore() {
    const saved = kept(KEY);
    this.muted = Boolean(saved?.muted); // nobody is heard again because a page was reloaded
    this.tell({ is: "restored", saved });
  }

  send(message) {
    return this.leg?.send(message) ?? false;
  }

  mute(muted) {
    this.muted = muted;
    if (this.state.resume) this._save();
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  // Also in a call, which goes on with it.
  async choose(device) {
    this.device = device;
    if (!this.stream || this.state.silent) return;
    try {
      const stream = await openMicrophone(device);
      await this.leg?.replaceTrack(stream.getAudioTracks()[0]);
      this._release();
      this.#take(stream);
    } catch (problem) {
      this.on.trouble(problem);
    }
  }

  async _ask({ silent }) {
    const asked = ++this.#asked;
    let stream;
    try {
      stream = silent ? silence() : await openMicrophone(this.device);
    } catch (problem) {
      if (asked === this.#asked) this.tell({ is: "no-microphone", problem });
      return;
    }
    if (asked !== this.#asked || this.state.phase !== "asking") {
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    this.#take(stream);
    this.tell({ is: "microphone" });
  }

  _connect() {
    const { flow, resume } = this.state;
    const path = `/webrtc${flow ? `/${encodeURIComponent(flow)}` : ""}${resume ? `?resume=${encodeURIComponent(resume)}` : ""}`;
    const leg = (this.leg = new RtcLeg({
      path,
      track: this.stream.getAudioTracks()[0],
      on: {
        up: () => this.tell({ is: "up", now_ms: Date.now() }),
        shaky: () => this.tell({ is: "shaky" }),
        down: ({ kind, message }) => this.tell({ is: "down", problem: { kind, message } }),
        track: (stream) => this.on.voice(stream),
        message: (message) => this.#message(message),
      },
    }));
    clearInterval(this.#pings);
    this.#pings = setInterval(() => leg.send({ type: "ping", t: Math.round(performance.now()) }), PING_MS);
    leg.open();
  }

  _drop({ goodbye }) {
    clearInterval(this.#pings);
    clearTimeout(this.#timer);
    this.leg?.close({ goodbye });
  }

  _wait({ ms }) {
    this.#timer = setTimeout(() => this.tell({ is: "retry" }), ms);
  }

  _save() {
    const { flow, call, resume, since_ms, silent } = this.state;
    keep(KEY, { flow, call, resume, since_ms, silent, muted: this.muted });
  }

  _forget() {
    forget(KEY);
    this.leg = null;
  }

  _release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.on.microphone(null);
  }

  #take(stream) {
    this.stream = stream;
    stream.getAudioTracks()[0].onended = () => this.choose(this.device); // unplugged: another one takes its place
    this.mute(this.muted);
    this.on.microphone(stream);
  }

  #message(message) {
    if (message.type === "started") this.tell({ ...message, is: "started" });
    this.on.message(message);
    const over = message.type === "ended" || (message.type === "event" && message.kind === "ended");
    if (over) this.tell({ is: "ended", cause: message.cause, outcome: message.outcome });
  }
}
