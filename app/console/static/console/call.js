// One call: everything on this page hangs on one cursor, a record of the call's journal.

import { hangUp } from "./act.js";
import { follow, getJson } from "./api.js";
import { clock, moment, plural, value } from "./format.js";
import { badge, Records, renderView, turnTable, verdictTable, Views } from "./inspector.js";
import { Listen } from "./listen.js";
import { Player } from "./player.js";
import { Transcript } from "./transcript.js";
import { Waterfall } from "./waterfall.js";
import { h } from "../shared/dom.js";

const REFRESH_MS = 1500; // how often a live call's spans are fetched, at most
const GROW_MS = 250;
const OVERLAP_MS = 30000; // what may still change in a live call's past
const RECORDS_BEFORE = 10;
const TABS = ["State", "Verdicts", "Turns", "Records"];

export class CallView {
  constructor({ id, me, at }) {
    this.path = `/api/calls/${encodeURIComponent(id)}`;
    this.id = id;
    this.me = me;
    this.start = at;
    this.aborted = new AbortController();
    this.element = h("div", { class: "call", "aria-busy": "true" }, h("p", { class: "quiet loading" }, "Loading the call …"));
    this.open();
  }

  async open() {
    try {
      [this.about, this.timeline] = await Promise.all([this.get(""), this.get("/timeline")]);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.element.replaceChildren(
        h("div", { class: "empty" }, h("h1", {}, "This call cannot be shown"), h("p", {}, error.message), backLink()),
      );
      this.element.removeAttribute("aria-busy");
      return;
    }
    this.build();
  }

  get(rest) {
    return getJson(this.path + rest, this.aborted.signal);
  }

  get live() {
    return this.about.row.state === "live";
  }

  build() {
    const { row } = this.about;
    this.cursor = { ms: 0, index: -1, seq: 0 };
    this.pinned = this.live;
    this.views = new Views((seq) => this.get(`/state?seq=${seq}`), (...shown) => this.showView(...shown));
    this.waterfall = new Waterfall({
      onSeek: (ms) => this.seek(ms),
      onStep: (by) => this.step(by),
      onPlay: () => this.player.toggle(),
    });
    this.transcript = new Transcript({ onSeek: (ms, seq) => this.seek(ms, seq) });
    this.player = new Player({
      src: row.recording && !this.live ? `${this.path}/recording` : "",
      duration: this.timeline.duration_ms,
      onMove: (ms) => this.move(ms, null, { fromPlayer: true }),
      onSeek: (ms) => this.seek(ms),
    });
    if (this.live) this.player.note.textContent = row.recording ? "Recording" : "Not recorded";
    this.records = new Records({
      fetch: async (from, limit) => {
        const page = await this.get(`/records?from=${from}&limit=${limit}`);
        return Array.isArray(page) ? page : page.records;
      },
    });
    this.head = h("header", { class: "call-head" });
    this.acts = h("div", { class: "call-acts" });
    this.element.replaceChildren(
      this.head,
      this.acts,
      h("section", { class: "panel wf-panel", "aria-label": "Timeline" }, this.toolbar(), this.waterfall.element),
      h("div", { class: "call-body" }, this.transcript.element, this.side()),
    );
    this.element.removeAttribute("aria-busy");
    this.renderHead();
    this.renderActs();
    this.setTimeline(this.timeline);
    if (this.live) this.followLive();
    const first = this.start ?? (this.live ? this.timeline.duration_ms : 0);
    this.move(first, null);
  }

  renderHead() {
    const { row, flow, cdr } = this.about;
    const tone = { live: "live", died: "bad" }[row.state] ?? "";
    const facts = [
      ["Caller", row.caller || "unknown"],
      ["Flow", `${flow.name} v${flow.version}`],
      ["Over", row.transport],
      ["Started", moment(row.started_at)],
      [this.live ? "Step" : "Outcome", this.live ? row.step : outcome(row)],
      ["Turns", value(row.turns)],
    ];
    if (cdr?.listeners?.length) facts.push(["Listened in", cdr.listeners.join(", ")]);
    this.head.replaceChildren(
      h(
        "div",
        { class: "call-title" },
        backLink(),
        h("h1", {}, h("span", { class: "quiet" }, "Call "), h("span", { class: "call-id" }, row.call)),
        badge(row.state, tone),
        row.trouble ? h("span", { class: "call-trouble" }, row.trouble_text || plural(row.trouble, "trouble")) : null,
      ),
      h("dl", { class: "facts" }, ...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
      ...(this.about.problem ? [h("p", { class: "notice bad", role: "alert" }, this.about.problem)] : []),
    );
  }

  // What an operator may do to this call. The bar has room for what may be added beside these two.
  renderActs() {
    const operator = this.me.role !== "viewer";
    const links = [h("a", { class: "button", href: `${this.path}/download`, download: "" }, "Download")];
    if (!this.live) {
      this.listening?.close();
      this.acts.replaceChildren(...links);
      return;
    }
    if (!operator) {
      this.acts.replaceChildren(h("p", { class: "quiet" }, "Your token may watch; acting needs an operator's."), ...links);
      return;
    }
    this.listening ??= new Listen({ call: this.id, name: this.me.name });
    const end = h("button", { type: "button", class: "button danger" }, "Hang up");
    end.addEventListener("click", () => hangUp({ path: this.path, row: this.about.row, name: this.me.name }));
    this.acts.replaceChildren(this.listening.element, end, ...links);
  }

  toolbar() {
    const button = (label, text, act) => {
      const one = h("button", { type: "button", class: "button quiet-button", "aria-label": label, title: label }, text);
      one.addEventListener("click", act);
      return one;
    };
    this.atRecord = h("span", { class: "quiet at-record" });
    this.pin = button("Stay with the live call", "Live", () => this.pinToEnd());
    this.pin.classList.add("pin");
    this.pin.hidden = !this.live;
    const zoom = h(
      "div",
      { class: "zoom", role: "group", "aria-label": "Records and zoom" },
      button("Previous record", "‹", () => this.step(-1)),
      this.atRecord,
      button("Next record", "›", () => this.step(1)),
      h("span", { class: "gap" }),
      button("Zoom out", "−", () => this.waterfall.zoom(2, undefined, true)),
      button("Zoom in", "+", () => this.waterfall.zoom(0.5, undefined, true)),
      button("Show the whole call", "Fit", () => this.waterfall.fit()),
      this.pin,
    );
    const keys = "Arrow keys go from record to record, with Shift by a second; plus and minus zoom, 0 shows all, Page keys pan, Space plays.";
    return h("div", { class: "wf-bar" }, this.player.element, zoom, h("p", { id: "wf-keys", class: "visually-hidden" }, keys));
  }

  side() {
    this.panels = TABS.map((name, i) =>
      h("div", { class: "tab-panel", role: "tabpanel", id: `panel-${i}`, "aria-labelledby": `tab-${i}`, tabindex: "0", hidden: i > 0 }),
    );
    this.tabs = TABS.map((name, i) =>
      h("button", { type: "button", role: "tab", id: `tab-${i}`, class: "tab", "aria-controls": `panel-${i}`, "aria-selected": String(!i), tabindex: i ? "-1" : "0" }, name),
    );
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "About the call at the cursor" }, ...this.tabs);
    this.tabs.forEach((tab, i) => tab.addEventListener("click", () => this.openTab(i)));
    list.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.openTab((this.tab + by + TABS.length) % TABS.length);
      this.tabs[this.tab].focus();
    });
    this.tab = 0;
    this.panels[3].append(this.records.element);
    return h("section", { class: "panel side", "aria-label": "State and records" }, list, ...this.panels);
  }

  openTab(index) {
    this.tab = index;
    this.tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
      this.panels[i].hidden = i !== index;
    });
    this.fillTab();
  }

  // The long tables are made when somebody looks at them.
  fillTab() {
    const seek = (ms, seq) => this.seek(ms, seq);
    if (this.tab === 1) this.panels[1].replaceChildren(...verdictTable(this.timeline.verdicts, seek));
    if (this.tab === 2) this.panels[2].replaceChildren(...turnTable(this.timeline.turns, seek));
    if (this.tab === 3) this.records.load(Math.max(0, this.cursor.seq - RECORDS_BEFORE), this.cursor.seq);
  }

  setTimeline(timeline, { lines = true } = {}) {
    this.timeline = timeline;
    this.fetchedAt = performance.now();
    this.marks = marksOf(timeline);
    this.waterfall.set(timeline);
    this.player.grow(timeline.duration_ms);
    if (lines) this.transcript.set(timeline.entries);
  }

  // The cursor

  seek(ms, seq = null) {
    this.pinned = false;
    this.move(ms, seq);
    this.player.seek(this.cursor.ms);
    this.waterfall.follow();
  }

  step(by) {
    const next = this.marks[Math.min(Math.max(this.cursor.index + by, 0), this.marks.length - 1)];
    if (next) this.seek(next.ms, next.seq);
  }

  move(ms, seq, { fromPlayer = false } = {}) {
    ms = Math.min(Math.max(ms, 0), this.waterfall.duration);
    const index = seq === null ? lastAt(this.marks, ms) : this.marks.findIndex((mark) => mark.seq === seq);
    const mark = this.marks[Math.max(index, 0)] ?? { seq: 0 };
    const changed = mark.seq !== this.cursor.seq || this.cursor.index < 0;
    this.cursor = { ms, index: Math.max(index, 0), seq: mark.seq };
    this.waterfall.setCursor(ms, `record ${mark.seq}`);
    if (fromPlayer) this.waterfall.follow();
    else this.player.seek(ms);
    this.pin.setAttribute("aria-pressed", String(this.pinned));
    if (!changed) return;
    this.transcript.setCursor(ms, mark.seq);
    this.atRecord.textContent = `record ${mark.seq}`;
    if (!(this.pinned && this.newest)) this.views.want(mark.seq);
    if (this.tab === 3) this.recordsSoon();
  }

  recordsSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.tab === 3 && this.fillTab(), 250);
  }

  showView(view, seq, error) {
    if (error) {
      if (error.name !== "AbortError") this.panels[0].replaceChildren(h("p", { class: "notice bad" }, error.message));
      return;
    }
    const before = this.shown?.seq === seq ? this.shown.before : this.shown?.view;
    this.shown = { view, seq, before };
    const title = h("p", { class: "quiet state-at" }, this.pinned ? "Now" : `After record ${seq}, ${clock(this.cursor.ms)}`);
    this.panels[0].replaceChildren(title, ...renderView(view, { ms: this.cursor.ms, slots: this.about.slots, before }));
  }

  // A live call

  followLive() {
    this.stopFeed = follow(`${this.path}/events`, { message: (m) => this.take(m), event: (m) => this.take(m) });
    this.growing = setInterval(() => this.grow(), GROW_MS);
    this.refreshing = setInterval(() => this.stale && this.refresh(), REFRESH_MS);
  }

  pinToEnd() {
    this.pinned = true;
    if (this.newest) this.showView(this.newest, this.cursor.seq);
    this.grow();
    this.waterfall.follow();
  }

  take(message) {
    this.stale = true;
    if (message.kind === "entry") {
      this.transcript.add([{ ...message.entry, ms: message.ms ?? this.waterfall.duration }]);
      if (this.pinned) this.transcript.setCursor(Infinity, null);
    } else if (message.kind === "view") {
      this.newest = message.view;
      this.about.row.step = message.view.step;
      if (this.pinned) this.showView(message.view, this.cursor.seq);
    } else if (message.kind === "ended") {
      this.ended();
    }
  }

  grow() {
    const now = this.timeline.duration_ms + (performance.now() - this.fetchedAt);
    this.waterfall.grow(now);
    this.player.grow(now);
    if (this.pinned) this.move(now, null);
  }

  async refresh() {
    if (this.busy) return;
    this.busy = true;
    this.stale = false;
    const from = Math.max(0, Math.floor(this.timeline.duration_ms - OVERLAP_MS));
    try {
      const merged = merge(this.timeline, await this.get(`/timeline${from ? `?from_ms=${from}` : ""}`), from);
      const same = sameLines(this.transcript.lines, merged.entries);
      this.setTimeline(merged, { lines: !same });
      if (this.tab === 1 || this.tab === 2) this.fillTab();
    } catch (error) {
      if (error.name !== "AbortError") this.stale = true;
    } finally {
      this.busy = false;
    }
  }

  async ended() {
    this.stopLive();
    try {
      [this.about, this.timeline] = await Promise.all([this.get(""), this.get("/timeline")]);
    } catch (error) {
      if (error.name !== "AbortError") this.element.prepend(h("p", { class: "notice" }, "The call has ended."));
      return;
    }
    this.about.row.state = this.about.row.state === "live" ? "ended" : this.about.row.state;
    const { ms } = this.cursor;
    this.waterfall.close();
    this.player.close();
    this.build();
    this.move(Math.min(ms, this.timeline.duration_ms), null);
  }

  stopLive() {
    this.stopFeed?.();
    clearInterval(this.growing);
    clearInterval(this.refreshing);
  }

  close() {
    this.aborted.abort();
    clearTimeout(this.soon);
    if (!this.about || !this.waterfall) return;
    this.stopLive();
    this.listening?.close();
    this.waterfall.close();
    this.player.close();
  }
}

function backLink() {
  return h("a", { class: "back", href: "#/live", "aria-label": "Back to the calls" }, "‹ Calls");
}

function outcome(row) {
  return [row.outcome, row.cause && row.cause !== row.outcome ? `(${row.cause})` : ""].filter(Boolean).join(" ") || "–";
}

// The records that say something, in their order: what the cursor steps through.
function marksOf(timeline) {
  const marks = new Map();
  for (const list of [timeline.entries, timeline.turns, timeline.verdicts]) {
    for (const { seq, ms } of list) if (seq !== undefined && !marks.has(seq)) marks.set(seq, ms);
  }
  return [...marks].map(([seq, ms]) => ({ seq, ms })).sort((a, b) => a.seq - b.seq);
}

function lastAt(marks, ms) {
  let low = 0;
  let high = marks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (marks[middle].ms <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// `fresh` tells everything from `from` on; before it the old one stays.
export function merge(old, fresh, from) {
  if (!from) return fresh;
  const kept = (list, end) => list.filter((one) => (one[end] ?? Infinity) < from);
  const lanes = fresh.lanes.map((lane) => {
    const before = old.lanes.find((one) => one.name === lane.name)?.spans ?? [];
    return { name: lane.name, spans: kept(before, "to_ms").concat(lane.spans) };
  });
  for (const lane of old.lanes) {
    if (!lanes.some((one) => one.name === lane.name)) lanes.push({ name: lane.name, spans: kept(lane.spans, "to_ms") });
  }
  const listed = (name) => kept(old[name], "ms").concat(fresh[name].filter((one) => one.ms >= from));
  return { duration_ms: fresh.duration_ms, lanes, entries: listed("entries"), turns: listed("turns"), verdicts: listed("verdicts") };
}

// Whether the lines on the page are these, apart from record numbers, which are then taken over.
function sameLines(lines, entries) {
  if (lines.length < entries.length) return false;
  for (let i = 0; i < entries.length; i++) {
    if (lines[i].text !== entries[i].text || lines[i].kind !== entries[i].kind) return false;
    lines[i].seq = entries[i].seq;
  }
  return true;
}
