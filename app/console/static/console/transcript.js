// What was said and done, line by line; the line under the cursor is lit. Moving through the lines moves the cursor.
// Of a long call only the lines around what is in sight exist as elements.

import { clock } from "./format.js";
import { lastWhere } from "./history.js";
import { h } from "../shared/dom.js";

const WINDOW = 600; // lines that exist at once
const SHIFT = 200; // by which they move on
const EDGE_PX = 600; // how near to their end the reader comes before they do
const ROOM_PX = 48;
const PAGE = 10;

const WHO = {
  caller: "Caller",
  agent: "Agent",
  playout: "Agent",
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
  { label: "Steps and tools", kinds: ["step", "slot", "gate", "tool"], on: true },
  { label: "Floor", kinds: ["floor", "playout"], on: false },
  { label: "Times", kinds: ["time"], on: false },
];
const STATE_OF_PLAYOUT = /^(starts to speak|has finished|was cut off|stopped: )/;
const CUT = /^(was cut off|agent is cut off)/;

export class Transcript {
  // onSeek(ms, seq) when the reader picks a line.
  constructor({ onSeek }) {
    this.onSeek = onSeek;
    this.hidden = new Set();
    this.cursor = { ms: 0, seq: null };
    this.list = h("div", { class: "lines", role: "listbox", tabindex: "0", "aria-label": "Transcript" });
    this.element = h(
      "section",
      { class: "panel transcript", "aria-labelledby": "transcript-title" },
      h("div", { class: "panel-head" }, h("h2", { id: "transcript-title" }, "Transcript"), this.filters()),
      this.list,
    );
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.list.addEventListener("click", (event) => {
      const line = event.target.closest("[role=option]");
      if (line) this.pick(Number(line.dataset.place));
    });
    this.set([]);
  }

  filters() {
    const chips = FILTERS.map(({ label, kinds, on }) => {
      const chip = h("button", { class: "chip", type: "button", "aria-pressed": String(on) }, label);
      const hide = () => kinds.forEach((kind) => (on ? this.hidden.delete(kind) : this.hidden.add(kind)));
      hide();
      chip.addEventListener("click", () => {
        on = !on;
        chip.setAttribute("aria-pressed", String(on));
        hide();
        this.fill();
      });
      return chip;
    });
    return h("div", { class: "chips", role: "group", "aria-label": "Lines to show" }, ...chips);
  }

  set(entries) {
    this.lines = [...entries];
    this.cut = new Set(entries.filter(cutsOff).map((one) => one.gen));
    this.fill();
  }

  // Which lines are seen, and the part of them that exists, anew.
  fill() {
    this.seen = [];
    this.lines.forEach((line, at) => !this.hidden.has(kindOf(line)) && this.seen.push(at));
    this.current = -1;
    this.first = 0;
    this.list.replaceChildren();
    this.makeTo(WINDOW);
    this.setCursor(this.cursor.ms, this.cursor.seq);
  }

  // Lines of a live call, as they come.
  add(entries) {
    const atEnd = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - ROOM_PX;
    const whole = this.made === this.seen.length;
    for (const line of entries) {
      if (!this.hidden.has(kindOf(line))) this.seen.push(this.lines.length);
      this.lines.push(line);
      if (cutsOff(line)) this.markCut(line.gen);
    }
    if (whole) this.makeTo(this.seen.length);
    if (this.list.children.length > WINDOW + SHIFT) this.slide(atEnd ? this.seen.length : this.first);
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  markCut(gen) {
    this.cut.add(gen);
    for (const line of this.list.querySelectorAll(`[data-gen="${gen}"].line-kind-agent`)) line.classList.add("is-cut");
  }

  get made() {
    return this.first + this.list.children.length;
  }

  makeTo(end) {
    const some = document.createDocumentFragment();
    for (let place = this.made; place < Math.min(end, this.seen.length); place++) some.append(this.line(place));
    this.list.append(some);
  }

  // Makes the lines from the `first` one on exist, and leaves what is in sight where it is.
  slide(first) {
    first = Math.max(0, Math.min(first, this.seen.length - WINDOW));
    const kept = [...this.list.children].find((line) => line.offsetTop >= this.list.scrollTop);
    const from = kept ? kept.offsetTop - this.list.scrollTop : 0;
    const lines = [];
    for (let place = first; place < Math.min(first + WINDOW, this.seen.length); place++) {
      lines.push(this.elementAt(place) ?? this.line(place));
    }
    this.first = first;
    this.list.replaceChildren(...lines);
    if (kept?.isConnected) this.list.scrollTop = kept.offsetTop - from;
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    if (scrollTop < EDGE_PX && this.first > 0) this.slide(this.first - SHIFT);
    else if (scrollTop + clientHeight > scrollHeight - EDGE_PX && this.made < this.seen.length) this.slide(this.first + SHIFT);
  }

  line(place) {
    const line = this.lines[this.seen[place]];
    const kind = kindOf(line);
    const cut = kind === "agent" && this.cut.has(line.gen);
    const words = kind === "agent" || kind === "caller";
    return h(
      "div",
      {
        class: `line line-kind-${kind}${words ? " is-words" : ""}${cut ? " is-cut" : ""}`,
        role: "option",
        id: `line-${place}`,
        "aria-selected": String(place === this.current),
        "aria-posinset": place + 1,
        "aria-setsize": "-1",
        "data-place": place,
        "data-gen": line.gen || null,
      },
      h("span", { class: "line-time" }, clock(line.ms)),
      h("span", { class: "line-who" }, WHO[kind] ?? kind),
      h("span", { class: "line-text" }, line.text),
    );
  }

  elementAt(place) {
    return place >= this.first ? this.list.children[place - this.first] : undefined;
  }

  // Lights the last line at or before this record.
  setCursor(ms, seq) {
    this.cursor = { ms, seq };
    const upTo = lastWhere(this.lines, (line) => (seq !== null && line.seq !== undefined ? line.seq <= seq : line.ms <= ms));
    const current = lastWhere(this.seen, (at) => at <= upTo);
    if (current === this.current) return;
    this.elementAt(this.current)?.setAttribute("aria-selected", "false");
    this.current = current;
    if (current >= 0 && !this.elementAt(current)) this.slide(current - WINDOW / 2);
    this.reveal();
  }

  reveal() {
    const line = this.elementAt(this.current);
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

  pick(place) {
    const line = this.lines[this.seen[place]];
    if (line) this.onSeek(line.ms, line.seq ?? null);
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE, Home: -Infinity, End: Infinity }[event.key];
    if (!by) return;
    event.preventDefault();
    let place = Math.max(0, Math.min(this.current + by, this.seen.length - 1));
    // The lines of one record are lit as one.
    const seqAt = (one) => this.lines[this.seen[one]]?.seq;
    while (by < 0 && place > 0 && this.current >= 0 && seqAt(place) !== undefined && seqAt(place) === seqAt(this.current)) place--;
    this.pick(place);
  }
}

function kindOf({ kind, text }) {
  return kind === "agent" && STATE_OF_PLAYOUT.test(text) ? "playout" : kind;
}

function cutsOff({ kind, text }) {
  return (kind === "agent" || kind === "floor") && CUT.test(text);
}
