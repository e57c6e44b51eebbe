// Which microphone and which speaker. The choice is kept for the next call.

import { h } from "../shared/dom.js";
import { devices } from "./microphone.js";

const KEY = "voicegate-devices";

export class Devices {
  // `choose` takes the id of a microphone
  constructor({ microphone, speaker, speakerLabel, audio }, choose) {
    this.microphone = microphone;
    this.speaker = speaker;
    this.audio = audio;
    this.choose = choose;
    this.chosen = read();
    if (!audio.setSinkId) speaker.hidden = speakerLabel.hidden = true;
    microphone.addEventListener("change", () => this.#choose("microphone", microphone.value));
    speaker.addEventListener("change", () => this.#choose("speaker", speaker.value));
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.refresh());
    this.#speak();
  }

  async refresh() {
    fill(this.microphone, await devices("audioinput"), this.chosen.microphone);
    fill(this.speaker, await devices("audiooutput"), this.chosen.speaker);
  }

  #choose(what, id) {
    this.chosen[what] = id;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.chosen));
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    if (what === "microphone") this.choose(id);
    else this.#speak();
  }

  #speak() {
    this.audio.setSinkId?.(this.chosen.speaker).catch(() => {}); // it was unplugged: the usual one speaks
  }
}

function fill(select, found, chosen) {
  const options = found.map(({ id, name }) => h("option", { value: id }, name));
  select.replaceChildren(h("option", { value: "" }, "As the system has it"), ...options);
  select.value = found.some(({ id }) => id === chosen) ? chosen : "";
}

function read() {
  try {
    const { microphone = "", speaker = "" } = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return { microphone, speaker };
  } catch {
    return { microphone: "", speaker: "" };
  }
}
