// What a call is, in a few words: whose, over what, how it stands or ended.

import { moment, plural, value } from "./format.js";
import { badge } from "./inspector.js";
import { h } from "../shared/dom.js";

const TONES = { live: "live", died: "bad" };

export function callHead({ row, flow, cdr, problem }) {
  const live = row.state === "live";
  const facts = [
    ["Caller", row.caller || "unknown"],
    ["Flow", flow.version ? `${flow.name} v${flow.version}` : flow.name],
    ["Over", value(row.transport)],
    ["Started", moment(row.started_at)],
    live ? ["Step", row.step] : ["Outcome", outcome(row)],
    ["Turns", value(row.turns)],
  ];
  if (cdr?.listeners?.length) facts.push(["Listened in", cdr.listeners.join(", ")]);
  return h(
    "header",
    { class: "call-head" },
    h(
      "div",
      { class: "call-title" },
      backLink(),
      h("h1", {}, h("span", { class: "quiet" }, "Call "), h("span", { class: "call-id" }, row.call)),
      badge(row.state, TONES[row.state]),
      row.trouble ? h("span", { class: "call-trouble" }, row.trouble_text || plural(row.trouble, "trouble")) : null,
    ),
    h("dl", { class: "facts" }, ...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
    problem ? h("p", { class: "notice bad", role: "alert" }, `The records cannot be told${row.step ? " to their end" : ""}: ${problem}.`) : null,
  );
}

function backLink() {
  return h("a", { class: "back", href: "#/live", "aria-label": "Back to the calls" }, "‹ Calls");
}

function outcome(row) {
  return [row.outcome, row.cause && row.cause !== row.outcome ? `(${row.cause})` : ""].filter(Boolean).join(" ") || "–";
}
