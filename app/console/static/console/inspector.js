// The call's state as it was after one record, and the tables that go with it: verdicts, turns, raw records.

import { clock, value } from "./format.js";
import { h } from "../shared/dom.js";

const KEPT_VIEWS = 400;
const RECORDS_A_PAGE = 40;
const TOOL_TONE = { done: "good", running: "busy", allowed: "busy", held: "wait", unknown: "bad", failed: "bad", refused: "bad" };
const DECISION_TONE = { allowed: "good", started: "good", held: "wait", refused: "bad", withdrawn: "bad" };

export function badge(text, tone = "") {
  return h("span", { class: `badge ${tone ? `tone-${tone}` : ""}` }, text);
}

// Fetches views by record: one request under way, the newest wish next, what was seen is kept.
export class Views {
  constructor(fetch, show) {
    this.fetch = fetch;
    this.show = show;
    this.kept = new Map();
    this.wanted = null;
    this.busy = false;
  }

  want(seq) {
    this.wanted = seq;
    const kept = this.kept.get(seq);
    if (kept) this.show(kept, seq);
    else if (!this.busy) this.run();
  }

  async run() {
    this.busy = true;
    while (this.wanted !== null && !this.kept.has(this.wanted)) {
      const seq = this.wanted;
      let view;
      try {
        view = await this.fetch(seq);
      } catch (error) {
        this.show(null, seq, error);
        this.busy = false;
        return;
      }
      this.kept.set(seq, view);
      if (this.kept.size > KEPT_VIEWS) this.kept.delete(this.kept.keys().next().value);
      this.show(view, seq);
    }
    this.busy = false;
  }
}

export function renderView(view, { ms, slots, before }) {
  const sensitive = new Set(slots.filter((slot) => slot.sensitive).map((slot) => slot.name));
  const types = new Map(slots.map((slot) => [slot.name, slot.type]));
  return [
    h(
      "dl",
      { class: "facts" },
      fact("Step", view.step || "–", before && before.step !== view.step),
      fact("Visit", view.visit),
      fact("Phase", view.phase),
      fact("Attempts", view.attempts),
    ),
    h("h3", {}, "Question"),
    question(view),
    h("h3", {}, "Slots"),
    slotTable(view, types, sensitive, before),
    h("h3", {}, "Tools"),
    toolTable(view),
    h("h3", {}, "Timers"),
    timerList(view, ms),
    h("h3", {}, "Counts"),
    h("dl", { class: "facts" }, ...Object.entries(view.counts ?? {}).map(([name, n]) => fact(name.replaceAll("_", " "), n))),
  ];
}

function fact(name, shown, changed = false) {
  return h("div", { class: changed ? "is-changed" : "" }, h("dt", {}, name), h("dd", {}, value(shown)));
}

function question(view) {
  const asked = view.question;
  if (!asked) return h("p", { class: "quiet" }, "No question is pending.");
  const about = asked.slot || (asked.n ? `tool #${asked.n}` : "");
  const words = { ask: "asks for", readback: "reads back", confirm: "asks to confirm" }[asked.kind] ?? asked.kind;
  const heard = asked.heard === undefined ? null : badge(asked.heard ? "heard" : "not heard yet", asked.heard ? "good" : "wait");
  return h("p", { class: "question" }, `The agent ${words} `, h("strong", {}, about), " ", heard);
}

function slotTable(view, types, sensitive, before) {
  const rows = Object.entries(view.slots ?? {}).map(([name, slot]) => {
    const was = before?.slots?.[name];
    const changed = was && (was.rev !== slot.rev || was.confirmed !== slot.confirmed || value(was.value) !== value(slot.value));
    const filled = slot.value !== null && slot.value !== undefined;
    return h(
      "tr",
      { class: changed ? "is-changed" : "" },
      h("th", { scope: "row" }, name, " ", h("span", { class: "quiet" }, types.get(name) ?? "")),
      h("td", { class: filled ? "slot-value" : "quiet" }, value(slot.value)),
      h("td", {}, filled ? badge(slot.confirmed ? "confirmed" : "open", slot.confirmed ? "good" : "wait") : null),
      h("td", { class: "num quiet" }, sensitive.has(name) ? "masked · " : "", `rev ${slot.rev}`),
    );
  });
  if (!rows.length) return h("p", { class: "quiet" }, "This flow has no slots.");
  return table("Slots", ["Slot", "Value", "State", "Revision"], rows);
}

function toolTable(view) {
  const rows = (view.tools ?? []).map((tool) =>
    h(
      "tr",
      {},
      h("td", { class: "num quiet" }, `#${tool.n}`),
      h("th", { scope: "row" }, tool.tool),
      h("td", {}, badge(tool.state, TOOL_TONE[tool.state])),
      h("td", { class: "quiet" }, tool.reason || ""),
    ),
  );
  if (!rows.length) return h("p", { class: "quiet" }, "No tool has been asked for.");
  return table("Tools", ["Number", "Tool", "State", "Reason"], rows.reverse());
}

function timerList(view, ms) {
  const timers = Object.entries(view.timers ?? {}).sort((a, b) => a[1] - b[1]);
  if (!timers.length) return h("p", { class: "quiet" }, "No timer is running.");
  return h(
    "dl",
    { class: "facts" },
    ...timers.map(([name, at]) => fact(name, at > ms ? `in ${clock(at - ms)}` : `due at ${clock(at)}`)),
  );
}

export function table(label, heads, rows, caption = true) {
  return h(
    "table",
    { class: "table" },
    caption ? h("caption", { class: "visually-hidden" }, label) : null,
    h("thead", { class: "visually-hidden" }, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows),
  );
}

export function verdictTable(verdicts, onSeek) {
  if (!verdicts.length) return [h("p", { class: "quiet" }, "The gate had nothing to decide in this call.")];
  const rows = verdicts.map((verdict) =>
    h(
      "tr",
      { class: "row-lazy" },
      h("td", {}, timeButton(verdict, onSeek)),
      h("th", { scope: "row" }, `#${verdict.n} ${verdict.tool}`),
      h("td", {}, badge(verdict.decision, DECISION_TONE[verdict.decision] ?? "bad")),
      h("td", {}, h("code", {}, verdict.rule), " ", h("span", { class: "quiet" }, verdict.reason)),
    ),
  );
  return [table("Verdicts", ["Time", "Tool", "Decision", "Rule and reason"], rows)];
}

function timeButton({ ms, seq }, onSeek) {
  const button = h("button", { type: "button", class: "time-link", "aria-label": `Go to ${clock(ms)}` }, clock(ms));
  button.addEventListener("click", () => onSeek(ms, seq));
  return button;
}

const PARTS = [
  ["endpointing_ms", "Endpointing"],
  ["model_ms", "Model"],
  ["tts_ms", "TTS"],
];

export function turnTable(turns, onSeek) {
  const timed = turns.filter((turn) => turn.total_ms > 0);
  if (!timed.length) return [h("p", { class: "quiet" }, "No turn has been answered yet.")];
  const sorted = timed.map((turn) => turn.total_ms).sort((a, b) => a - b);
  const longest = sorted.at(-1);
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  const rows = timed.map((turn) =>
    h(
      "tr",
      { class: "row-lazy" },
      h("td", {}, timeButton(turn, onSeek)),
      h("td", { class: "turn-cell" }, turnBar(turn, longest)),
      h("td", { class: "num" }, `${Math.round(turn.total_ms)} ms`),
    ),
  );
  return [
    h("dl", { class: "facts" }, fact("Median", `${at(0.5)} ms`), fact("95 of 100 within", `${at(0.95)} ms`), fact("Slowest", `${Math.round(longest)} ms`)),
    h("p", { class: "legend" }, ...PARTS.map(([key, label]) => h("span", { class: `key part-${key}` }, label))),
    table("Turns", ["Time", "Endpointing, model, TTS", "Total"], rows),
  ];
}

function turnBar(turn, longest) {
  const told = PARTS.filter(([key]) => turn[key] > 0).map(([key, label]) => `${label} ${Math.round(turn[key])} ms`);
  const bar = h("div", { class: "turn-bar", role: "img", "aria-label": told.join(", "), title: told.join(" · ") });
  for (const [key] of PARTS) {
    const part = h("span", { class: `part-${key}` });
    part.style.width = `${(100 * (turn[key] ?? 0)) / longest}%`;
    bar.append(part);
  }
  return bar;
}

// Raw records, a page at a time, around the cursor.
export class Records {
  constructor({ fetch, onSeek }) {
    this.fetch = fetch;
    this.onSeek = onSeek;
    this.list = h("div", { class: "records" });
    this.earlier = h("button", { type: "button", class: "button quiet-button" }, "Earlier");
    this.later = h("button", { type: "button", class: "button quiet-button" }, "Later");
    this.where = h("p", { class: "quiet", "aria-live": "polite" });
    this.element = h("div", {}, h("div", { class: "pager" }, this.earlier, this.where, this.later), this.list);
    this.earlier.addEventListener("click", () => this.load(Math.max(0, this.from - RECORDS_A_PAGE)));
    this.later.addEventListener("click", () => this.load(this.from + RECORDS_A_PAGE));
  }

  async load(from, mark = null) {
    this.from = from;
    this.where.textContent = "Loading …";
    let records;
    try {
      records = await this.fetch(from, RECORDS_A_PAGE);
    } catch (error) {
      this.where.textContent = error.message;
      return;
    }
    if (this.from !== from) return;
    const last = records.at(-1)?.seq ?? from;
    this.where.textContent = records.length ? `Records ${records[0].seq} to ${last}` : "No more records";
    this.earlier.disabled = from <= 0;
    this.later.disabled = records.length < RECORDS_A_PAGE;
    this.list.replaceChildren(...records.map((record) => this.row(record, record.seq === mark)));
    this.list.querySelector(".is-current")?.scrollIntoView({ block: "nearest" });
  }

  row(record, current) {
    const body = h("pre", { tabindex: "0" });
    const type = record.event?.type ?? record.type ?? "record";
    const details = h(
      "details",
      { class: current ? "record is-current" : "record" },
      h("summary", {}, h("span", { class: "num quiet" }, `#${record.seq}`), h("span", { class: "num" }, clock(record.ms ?? 0, 2)), h("code", {}, type)),
      body,
    );
    details.addEventListener("toggle", () => {
      if (details.open && !body.textContent) body.textContent = JSON.stringify(record, null, 2);
    });
    return details;
  }
}
