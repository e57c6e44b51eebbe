// What the call knows and did: the slots, and the tool calls with their verdicts.

import { h } from "../shared/dom.js";
import { TOOL_STATES, plain, shown, verdictWords } from "./words.js";

const SAID = new Set(["failed", "unknown"]); // states that ask for a reason of their own
const QUESTIONS = { ask: "being asked", readback: "being read back", confirm: "being confirmed" };

export function drawSlots(place, view) {
  const slots = Object.entries(view?.slots ?? {});
  if (!slots.length) {
    place.replaceChildren(h("p", { class: "quiet" }, view ? "This flow keeps nothing." : "It fills while you talk."));
    return;
  }
  const asked = view.question?.slot;
  const rows = slots.map(([name, slot]) => {
    const known = slot.value !== null && slot.value !== undefined && slot.value !== "";
    const state = name === asked ? [QUESTIONS[view.question.kind] ?? QUESTIONS.ask, "busy"] : held(slot, known);
    return h(
      "div",
      { class: `slot${known ? " is-known" : ""}` },
      h("dt", {}, plain(name)),
      h(
        "dd",
        {},
        h("span", { class: "slot-value" }, known ? shown(slot.value) : "–"),
        state ? h("span", { class: `badge tone-${state[1]}` }, state[0]) : null,
      ),
    );
  });
  place.replaceChildren(h("dl", { class: "slot-list" }, ...rows));
}

function held(slot, known) {
  if (slot.confirmed) return ["confirmed", "good"];
  return known ? ["heard", "wait"] : null;
}

export function drawTools(place, tools) {
  if (!tools.size) {
    place.replaceChildren(h("p", { class: "quiet" }, "None yet. Each one is allowed or refused here, with the reason."));
    return;
  }
  const rows = [...tools.values()].toSorted((a, b) => b.n - a.n).map((tool) => {
    const [words, tone] = TOOL_STATES[tool.state] ?? [tool.state, "wait"];
    return h(
      "li",
      { class: `tool-call tool-${tone}` },
      h("div", {}, h("code", {}, tool.tool), h("span", { class: `badge tone-${tone}` }, words)),
      tool.decision ? h("p", { class: "quiet" }, verdictWords(tool)) : null,
      SAID.has(tool.state) && tool.outcome ? h("p", { class: "quiet" }, `${tool.decision ? "Then: " : ""}${plain(tool.outcome)}`) : null,
    );
  });
  place.replaceChildren(h("ol", { class: "tool-calls" }, ...rows));
}
