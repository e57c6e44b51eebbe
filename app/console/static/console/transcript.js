// What was said and done, line by line; the line under the cursor is lit. Moving through the lines moves the cursor.

import { clock } from "./format.js";
import { h } from "../shared/dom.js";

const CHUNK = 400; // lines made per frame, so that an hour's call does not freeze the page
const ROOM_PX = 48;

const WHO = {
  caller: "Caller",
  agent: "Agent",
  step: "Step",
  slot: "Slot",
  gate: "Gate",
  tool: "Tool",
  floor: "Floor",
  time: "Time",
  trouble: "Trouble",
  call: "Call",
};
const FILTERS = [
  { name: "acts", label: "Steps and tools", kinds: ["step", "slot", "gate", "tool"], on: true },
  { name: "floor", label: "Floor", kinds: ["floor", "playout"], on: false },
  { name: "time", label: "Times", kinds: ["time"], on: false },
];
const STATE_OF_PLAYOUT = /^(starts to speak|has finished|was cut off|stopped: )/;

export class Transcript {
  // onSeek(ms, seq) when the reader picks a line.
  constructor({ onSeek }) {
    this.onSeek = onSeek;
    this.lines = [];
    this.made = 0;
    this.current = -1;
    this.cut = new Set();
    this.list = h("div", { class: "lines", role: "listbox", tabindex: "0", "aria-label": "Transcript" });
    const filters = h("div", { class: "chips", role: "group", "aria-label": "Lines to show" });
    for (const filter of FILTERS) {
      const chip = h("button", { class: "chip", type: "button", "aria-pressed": String(filter.on) }, filter.label);
      chip.addEventListener("click", () => {
        filter.now = !filter.now;
        chip.setAttribute("aria-pressed", String(filter.now));
        this.hide();
        this.reveal();
      });
      filter.now = filter.on;
      filters.append(chip);
    }
    this.element = h(
      "section",
      { class: "panel transcript", "aria-labelledby": "transcript-title" },
      h("div", { class: "panel-head" }, h("h2", { id: "transcript-title" }, "Transcript"), filters),
      this.list,
    );
    this.hide();
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("click", (event) => {
      const line = event.target.closest("[role=option]");
      if (line) this.pick(Number(line.dataset.at));
    });
  }

  hide() {
    for (const filter of FILTERS) this.list.classList.toggle(`without-${filter.name}`, !filter.now);
  }

  set(entries) {
    this.lines = entries;
    this.made = 0;
    this.current = -1;
    this.cut = new Set(entries.filter((one) => one.kind === "agent" && one.text === "was cut off").map((one) => one.gen));
    for (const one of entries) if (one.kind === "floor" && one.text.startsWith("agent is cut off")) this.cut.add(one.gen);
    this.list.replaceChildren();
    this.makeMore();
  }

  // Lines of a live call, as they come.
  add(entries) {
    const atEnd = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - ROOM_PX;
    const from = this.lines.length;
    this.lines = this.lines.concat(entries);
    for (const one of entries) {
      if (one.kind === "floor" && one.text.startsWith("agent is cut off")) this.markCut(one.gen);
    }
    if (this.made >= from) this.makeTo(this.lines.length);
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  markCut(gen) {
    this.cut.add(gen);
    for (const line of this.list.querySelectorAll(`[data-gen="${gen}"].is-words`)) line.classList.add("is-cut");
  }

  makeMore() {
    this.makeTo(this.made + CHUNK);
    if (this.made < this.lines.length) requestAnimationFrame(() => this.list.isConnected && this.makeMore());
  }

  makeTo(end) {
    const some = document.createDocumentFragment();
    for (; this.made < Math.min(end, this.lines.length); this.made++) some.append(this.line(this.made));
    this.list.append(some);
  }

  line(at) {
    const { kind, text, ms, gen } = this.lines[at];
    const playout = kind === "agent" && STATE_OF_PLAYOUT.test(text);
    const words = (kind === "agent" && !playout) || kind === "caller";
    const cut = words && kind === "agent" && this.cut.has(gen);
    const element = h(
      "div",
      { role: "option", id: `line-${at}`, "aria-selected": "false", "data-at": at, "data-gen": gen || "" },
      h("span", { class: "line-time" }, clock(ms)),
      h("span", { class: "line-who" }, WHO[kind] ?? kind),
      h("span", { class: "line-text" }, text),
    );
    element.className = `line line-kind-${playout ? "playout" : kind}${words ? " is-words" : ""}${cut ? " is-cut" : ""}`;
    return element;
  }

  shown(at) {
    const kind = this.lines[at].kind === "agent" && STATE_OF_PLAYOUT.test(this.lines[at].text) ? "playout" : this.lines[at].kind;
    return !FILTERS.some((filter) => !filter.now && filter.kinds.includes(kind));
  }

  // Lights the last line at or before this record.
  setCursor(ms, seq) {
    let at = lastBefore(this.lines, ms, seq);
    while (at >= 0 && !this.shown(at)) at--;
    if (at === this.current) return;
    this.list.children[this.current]?.setAttribute("aria-selected", "false");
    this.current = at;
    if (at >= this.made) this.makeTo(at + CHUNK);
    this.reveal();
  }

  reveal() {
    const line = this.list.children[this.current];
    if (!line) {
      this.list.removeAttribute("aria-activedescendant");
      return;
    }
    line.setAttribute("aria-selected", "true");
    this.list.setAttribute("aria-activedescendant", line.id);
    // Scrolls the list alone, never the page.
    const top = line.offsetTop; // from the list's own top: it is positioned
    const view = this.list.clientHeight;
    if (top < this.list.scrollTop + ROOM_PX || top + line.offsetHeight > this.list.scrollTop + view - ROOM_PX) {
      this.list.scrollTop = top - view / 2;
    }
  }

  pick(at) {
    this.onSeek(this.lines[at].ms, this.lines[at].seq);
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    let at = this.current;
    if (event.key === "Home") at = 0;
    else if (event.key === "End") at = this.lines.length - 1;
    else if (!by) return;
    event.preventDefault();
    const one = Math.sign(by || (event.key === "Home" ? 1 : -1));
    for (let left = Math.abs(by || 0); left > 0; left--) {
      do at += one;
      while (this.lines[at] && !this.shown(at));
    }
    while (this.lines[at] && !this.shown(at)) at += one;
    if (this.lines[at]) this.pick(at);
  }
}

function lastBefore(lines, ms, seq) {
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const line = lines[middle];
    const before = seq !== null && line.seq !== undefined ? line.seq <= seq : line.ms <= ms;
    if (before) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
