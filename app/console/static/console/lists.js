// The calls: those that live, as they change, and those that are recorded, page by page.

import { follow, getJson, query } from "./api.js";
import { clock, count, moment, plural, shortId } from "./format.js";
import { Grid, write, writeLink } from "./grid.js";
import { h } from "../shared/dom.js";

const PAGE_CALLS = 100;
const TICK_MS = 1000;
const NEAR_END_PX = 600;

const href = (row) => `#/call/${encodeURIComponent(row.call)}`;
const rowClass = (row) => (row.state === "died" ? "is-died" : row.trouble ? "is-trouble" : "");

const health = {
  name: "health",
  label: "Health",
  fill(cell, row) {
    const bad = row.trouble > 0 || row.state === "died";
    write(cell, bad ? row.trouble_text || (row.state === "died" ? "its server died" : plural(row.trouble, "trouble")) : "fine");
    const name = `cell cell-health ${bad ? "health-bad" : "health-good"}`;
    if (cell.className !== name) cell.className = name;
  },
};
const call = { name: "call", label: "Call", fill: (cell, row) => writeLink(cell, shortId(row.call), href(row)) };
const text = (name, label) => ({ name, label, fill: (cell, row) => write(cell, String(row[name] || "–")) });

const LIVE_COLUMNS = [
  health,
  call,
  text("flow", "Flow"),
  text("step", "Step"),
  text("caller", "Caller"),
  text("transport", "Over"),
  { name: "turns", label: "Turns", fill: (cell, row) => write(cell, String(row.turns)) },
  { name: "duration", label: "Duration", fill: (cell, row) => write(cell, clock(age(row), 0)) },
];
const RECORDED_COLUMNS = [
  health,
  call,
  text("flow", "Flow"),
  { name: "outcome", label: "Outcome", fill: (cell, row) => write(cell, row.outcome || (row.state === "live" ? "live" : "–")) },
  text("caller", "Caller"),
  { name: "started", label: "Started", fill: (cell, row) => write(cell, moment(row.started_at)) },
  { name: "turns", label: "Turns", fill: (cell, row) => write(cell, String(row.turns)) },
  { name: "duration", label: "Duration", fill: (cell, row) => write(cell, clock(row.duration_ms, 0)) },
];

// The server tells a duration when something changes; in between the page counts on.
function age(row) {
  return row.duration_ms + (row.state === "live" && row.seenAt ? performance.now() - row.seenAt : 0);
}

const ORDERS = {
  trouble: ["Trouble first", (a, b) => b.trouble - a.trouble || byStart(a, b)],
  newest: ["Newest first", (a, b) => byStart(a, b)],
  longest: ["Longest first", (a, b) => byStart(b, a)],
};

function byStart(a, b) {
  return a.started_at < b.started_at ? 1 : a.started_at > b.started_at ? -1 : a.call < b.call ? -1 : 1;
}

function select(label, options, onChange) {
  const field = h("select", { "aria-label": label }, ...options.map(([value, name]) => h("option", { value }, name)));
  field.addEventListener("change", () => onChange(field.value));
  return field;
}

function checkbox(label, onChange) {
  const box = h("input", { type: "checkbox" });
  box.addEventListener("change", () => onChange(box.checked));
  return h("label", { class: "check" }, box, label);
}

export class LiveView {
  constructor({ me }) {
    this.calls = new Map();
    this.filter = { text: "", flow: "", transport: "", trouble: false, order: "trouble" };
    this.grid = new Grid({ name: "live", label: "Live calls", columns: LIVE_COLUMNS, rowClass, href });
    this.figures = h("p", { class: "figures", "aria-live": "polite" }, "Connecting …");
    this.notice = h("p", { class: "notice", role: "status", hidden: true });
    this.empty = h("p", { class: "empty", hidden: true });
    const search = h("input", { type: "search", placeholder: "Call, caller or step", "aria-label": "Find live calls" });
    search.addEventListener("input", () => this.set({ text: search.value.trim().toLowerCase() }));
    const flows = [["", "All flows"], ...me.flows.map((flow) => [flow, flow])];
    const orders = Object.entries(ORDERS).map(([value, [name]]) => [value, name]);
    const filters = h(
      "div",
      { class: "filters", role: "group", "aria-label": "Filters" },
      search,
      select("Flow", flows, (flow) => this.set({ flow })),
      select("Order", orders, (order) => this.set({ order })),
      checkbox("Only trouble", (trouble) => this.set({ trouble })),
    );
    this.element = h(
      "div",
      { class: "list" },
      h("div", { class: "list-head" }, h("h1", {}, "Live calls"), this.figures),
      listTabs("live"),
      filters,
      this.notice,
      this.grid.element,
      this.empty,
    );
    this.stop = follow("/api/live", { all: (all) => this.all(all), change: (change) => this.change(change) }, (state) => this.state(state));
    this.ticking = setInterval(() => this.grid.later(), TICK_MS);
  }

  set(filter) {
    Object.assign(this.filter, filter);
    this.grid.element.scrollTop = 0;
    this.sort();
  }

  all({ calls, max_calls: most, draining }) {
    this.calls.clear();
    this.most = most;
    this.draining = draining;
    this.take(calls);
    this.sort();
  }

  change({ set = [], gone = [], draining }) {
    if (draining !== undefined) this.draining = draining;
    for (const id of gone) this.calls.delete(id);
    this.take(set);
    this.sort();
  }

  take(rows) {
    const now = performance.now();
    for (const row of rows) {
      row.seenAt = now;
      row.sought = `${row.call} ${row.caller} ${row.step}`.toLowerCase();
      this.calls.set(row.call, row);
    }
  }

  sort() {
    const { text: sought, flow, trouble, order } = this.filter;
    const rows = [];
    let wrong = 0;
    for (const row of this.calls.values()) {
      if (row.trouble) wrong++;
      if (flow && row.flow !== flow) continue;
      if (trouble && !row.trouble) continue;
      if (sought && !row.sought.includes(sought)) continue;
      rows.push(row);
    }
    rows.sort(ORDERS[order][1]);
    this.grid.set(rows);
    this.tell(rows.length, wrong);
  }

  tell(shown, wrong) {
    const all = this.calls.size;
    const parts = [this.most ? `${count(all)} of ${plural(this.most, "call")}` : plural(all, "call")];
    parts.push(wrong ? `${count(wrong)} in trouble` : "nothing wrong");
    if (shown !== all) parts.push(`${count(shown)} shown`);
    const told = parts.join(" · ");
    if (this.figures.textContent !== told) this.figures.textContent = told;
    this.figures.classList.toggle("is-bad", wrong > 0);
    this.empty.hidden = shown > 0;
    this.grid.element.hidden = shown === 0;
    this.empty.textContent = all ? "No live call fits these filters." : "No call is live. The next one appears here by itself.";
    if (!this.lost) this.note(this.draining ? "The server is draining: it finishes these calls and takes no new ones." : "");
  }

  state(state) {
    this.lost = state !== "open";
    if (state === "open") this.note("");
    else this.note("The connection to the server is lost. What you see may be old; it is being tried again.");
  }

  note(words) {
    if (this.notice.textContent !== words) this.notice.textContent = words;
    this.notice.hidden = !words;
  }

  close() {
    this.stop();
    clearInterval(this.ticking);
    this.grid.close();
  }
}

export class RecordedView {
  constructor({ me }) {
    this.filter = { flow: "", outcome: "", trouble: "" };
    this.rows = [];
    this.more = true;
    this.grid = new Grid({ name: "recorded", label: "Recorded calls", columns: RECORDED_COLUMNS, rowClass, href });
    this.figures = h("p", { class: "figures", "aria-live": "polite" });
    this.notice = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.empty = h("p", { class: "empty", hidden: true }, "No recorded call fits these filters.");
    this.older = h("button", { type: "button", class: "button older" }, "Load older calls");
    this.older.addEventListener("click", () => this.load());
    this.outcomes = select("Outcome", [["", "All outcomes"]], (outcome) => this.set({ outcome }));
    const flows = [["", "All flows"], ...me.flows.map((flow) => [flow, flow])];
    this.element = h(
      "div",
      { class: "list" },
      h("div", { class: "list-head" }, h("h1", {}, "Recorded calls"), this.figures),
      listTabs("recorded"),
      h(
        "div",
        { class: "filters", role: "group", "aria-label": "Filters" },
        select("Flow", flows, (flow) => this.set({ flow })),
        this.outcomes,
        checkbox("Only trouble", (trouble) => this.set({ trouble: trouble ? "1" : "" })),
      ),
      this.notice,
      this.grid.element,
      this.empty,
      this.older,
    );
    const list = this.grid.element;
    list.addEventListener("scroll", () => list.scrollTop + list.clientHeight > list.scrollHeight - NEAR_END_PX && this.load(), { passive: true });
    this.load();
  }

  set(filter) {
    Object.assign(this.filter, filter);
    this.rows = [];
    this.more = true;
    this.grid.element.scrollTop = 0;
    this.loading?.abort();
    this.loading = null;
    this.load();
  }

  async load() {
    if (this.loading || !this.more) return;
    const loading = (this.loading = new AbortController());
    try {
      const before = this.rows.at(-1)?.call ?? "";
      const page = await getJson(`/api/calls${query({ limit: PAGE_CALLS, before, ...this.filter })}`, loading.signal);
      this.rows = this.rows.concat(page.calls);
      this.more = page.more && page.calls.length > 0;
      this.notice.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.notice.textContent = error.message;
      this.notice.hidden = false;
      this.more = false;
    }
    this.loading = null;
    this.show();
  }

  show() {
    for (const outcome of new Set(this.rows.map((row) => row.outcome))) {
      if (outcome && ![...this.outcomes.options].some((option) => option.value === outcome)) {
        this.outcomes.append(h("option", { value: outcome }, outcome));
      }
    }
    this.grid.set(this.rows);
    this.empty.hidden = this.rows.length > 0 || !this.notice.hidden;
    this.grid.element.hidden = !this.rows.length;
    this.older.hidden = !this.more;
    this.figures.textContent = `${plural(this.rows.length, "call")}${this.more ? " loaded, there are older ones" : ""}`;
  }

  close() {
    this.loading?.abort();
    this.grid.close();
  }
}

function listTabs(current) {
  const tab = (name, label) => h("a", { class: "tab", href: `#/${name}`, "aria-current": name === current ? "page" : null }, label);
  return h("nav", { class: "tabs", "aria-label": "Which calls" }, tab("live", "Live"), tab("recorded", "Recorded"));
}
