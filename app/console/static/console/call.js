// One call: everything on this page hangs on one cursor, a record of the call's journal.

import { hangUp } from "./act.js";
import { follow, getJson } from "./api.js";
import { clock } from "./format.js";
import { callHead } from "./head.js";
import { lastWhere, marksOf, merge, sameLines } from "./history.js";
import { Records, renderView, turnTable, verdictTable, Views } from "./inspector.js";
import { Listen } from "./listen.js";
import { Player } from "./player.js";
import { Tabs } from "./tabs.js";
import { Transcript } from "./transcript.js";
import { Waterfall } from "./waterfall.js";
import { h } from "../shared/dom.js";

const REFRESH_MS = 1500; // how often a live call's spans are fetched, at most
const GROW_MS = 250;
const OVERLAP_MS = 30000; // what may still change in a live call's past
const SETTLE_MS = 500; // between two looks whether a call that has ended is on record
const SETTLE_TRIES = 20;
const SOON_MS = 250; // the records follow the cursor when it rests
const RECORDS_BEFORE = 10;

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
        h(
          "div",
          { class: "empty" },
          h("h1", {}, "This call cannot be shown"),
          h("p", {}, error.message),
          h("a", { class: "button", href: "#/live" }, "Back to the calls"),
        ),
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
      src: row.recording && !this.live && this.me.role !== "viewer" ? `${this.path}/recording` : "",
      duration: this.timeline.duration_ms,
      onMove: (ms) => this.move(ms, null, { fromPlayer: true }),
      onSeek: (ms) => this.seek(ms),
    });
    if (this.live) this.player.note.textContent = row.recording ? "Recording" : "Not recorded";
    else if (row.recording && this.me.role === "viewer") this.player.note.textContent = "The recording needs an operator's token";
    this.records = new Records({
      fetch: async (from, limit) => (await this.get(`/records?from=${from}&limit=${limit}`)).records,
    });
    this.head = callHead(this.about);
    this.acts = h("div", { class: "call-acts" });
    this.element.replaceChildren(
      this.head,
      this.acts,
      h("section", { class: "panel wf-panel", "aria-label": "Timeline" }, this.toolbar(), this.waterfall.element),
      h("div", { class: "call-body" }, this.transcript.element, this.side()),
    );
    this.element.removeAttribute("aria-busy");
    this.renderActs();
    this.setTimeline(this.timeline);
    if (this.live) this.followLive();
    const first = this.start ?? (this.live ? this.timeline.duration_ms : 0);
    this.move(first, null);
  }

  renderHead() {
    const head = callHead(this.about);
    if (head.isEqualNode(this.head)) return;
    this.head.replaceWith(head);
    this.head = head;
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
    this.tabs = new Tabs({
      names: ["State", "Verdicts", "Turns", "Records"],
      label: "About the call at the cursor",
      onOpen: () => this.fillTab(),
    });
    this.tabs.panel("Records").append(this.records.element);
    return h("section", { class: "panel side", "aria-label": "State and records" }, this.tabs.list, ...this.tabs.panels);
  }

  // The long tables are made when somebody looks at them.
  fillTab() {
    const seek = (ms, seq) => this.seek(ms, seq);
    const panel = this.tabs.panel(this.tabs.current);
    if (this.tabs.current === "Verdicts") panel.replaceChildren(...verdictTable(this.timeline.verdicts, seek));
    if (this.tabs.current === "Turns") panel.replaceChildren(...turnTable(this.timeline.turns, seek));
    if (this.tabs.current === "Records") this.records.load(Math.max(0, this.cursor.seq - RECORDS_BEFORE), this.cursor.seq);
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
    const index = seq === null ? lastWhere(this.marks, (mark) => mark.ms <= ms) : this.marks.findIndex((mark) => mark.seq === seq);
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
    if (this.tabs.current === "Records") this.recordsSoon();
  }

  recordsSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.tabs.current === "Records" && this.fillTab(), SOON_MS);
  }

  showView(view, seq, error) {
    const panel = this.tabs.panel("State");
    if (error) {
      if (error.name !== "AbortError") panel.replaceChildren(h("p", { class: "notice bad" }, error.message));
      return;
    }
    const { index } = this.cursor;
    const last = this.shown;
    // What differs is marked from one record to the next; after a leap everything would.
    const near = last && (this.pinned || Math.abs(last.index - index) <= 1);
    const before = last?.seq === seq ? last.before : near ? last.view : null;
    this.shown = { view, seq, index, before };
    const title = h("p", { class: "quiet state-at" }, this.pinned ? "Now" : `After record ${seq}, ${clock(this.cursor.ms)}`);
    panel.replaceChildren(title, ...renderView(view, { ms: this.cursor.ms, slots: this.about.slots, before }));
  }

  // A live call

  followLive() {
    // A stream that breaks may be that of a call which has ended: look.
    const onState = (state) => (this.stale ||= state === "lost");
    this.stopFeed = follow(`${this.path}/events`, { message: (m) => this.take(m) }, onState);
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
      this.about.row.turns = message.view.counts.turns;
      this.renderHead();
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
      const [about, fresh] = await Promise.all([this.get(""), this.get(`/timeline?from_ms=${from}`)]);
      if (this.over) return;
      this.about = about;
      if (!this.live) {
        this.ended();
        return;
      }
      this.renderHead();
      const merged = merge(this.timeline, fresh, from);
      this.setTimeline(merged, { lines: !sameLines(this.transcript.lines, merged.entries) });
      if (this.tabs.current === "Verdicts" || this.tabs.current === "Turns") this.fillTab();
    } catch (error) {
      if (error.name !== "AbortError") this.stale = true;
    } finally {
      this.busy = false;
    }
  }

  // From now on this is a call on record, as soon as it is there.
  async ended() {
    if (this.over) return;
    this.over = true;
    this.stopLive();
    try {
      this.about = await this.settled();
      this.timeline = await this.get("/timeline");
    } catch (error) {
      if (error.name !== "AbortError") this.element.prepend(h("p", { class: "notice" }, "The call has ended."));
      return;
    }
    const { ms } = this.cursor;
    const tab = this.tabs.at;
    this.waterfall.close();
    this.player.close();
    this.shown = null;
    this.build();
    this.tabs.open(tab);
    this.move(Math.min(ms, this.timeline.duration_ms), null);
  }

  async settled() {
    for (let tries = 0; ; tries++) {
      const about = await this.get("");
      if (about.row.state !== "live") return about;
      if (tries === SETTLE_TRIES) return { ...about, row: { ...about.row, state: "ended" } };
      await new Promise((done) => setTimeout(done, SETTLE_MS));
    }
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
