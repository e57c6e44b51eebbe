// Keys, on the screen and on the keyboard.

import { h } from "../shared/dom.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const NAMES = { "*": "star", "#": "hash" };
const SHOWN = 20;
const FLASH_MS = 140;

export class Keypad {
  // `press` takes a digit and says whether it was sent
  constructor(place, press) {
    this.press = press;
    this.pressed = h("output", { class: "keys-pressed num", "aria-label": "Keys pressed" });
    this.buttons = new Map(KEYS.map((key) => [key, h("button", { type: "button", class: "key", "aria-label": NAMES[key] ?? null }, key)]));
    for (const [key, button] of this.buttons) button.addEventListener("click", () => this.#take(key));
    place.append(this.pressed, ...this.buttons.values());
    addEventListener("keydown", (event) => this.#typed(event));
  }

  enable(on) {
    for (const button of this.buttons.values()) button.disabled = !on;
    if (!on) this.clear();
  }

  clear() {
    this.pressed.textContent = "";
  }

  #take(key) {
    if (!this.press(key)) return;
    this.pressed.textContent = (this.pressed.textContent + key).slice(-SHOWN);
    const button = this.buttons.get(key);
    button.classList.add("is-pressed");
    setTimeout(() => button.classList.remove("is-pressed"), FLASH_MS);
  }

  #typed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (!this.buttons.has(event.key) || event.target.closest?.("input, select, textarea, dialog")) return;
    event.preventDefault();
    this.#take(event.key);
  }
}
