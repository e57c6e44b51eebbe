// The flows: what they look like, how their calls end, where callers are lost, and what the gate said.

import { getJson, getText } from "./api.js";
import { count, percent, plural } from "./format.js";
import { h } from "../shared/dom.js";
import { parseDrawing } from "../shared/drawing.js";

// What each of the gate's rules asks for, in the order in which it asks (docs/flows.md, Admission).
const RULES = {
  live: "the call was ending",
  gen: "the reply that asked had been replaced",
  step: "the step does not admit it",
  requires: "what the step requires was not done",
  arguments: "a value was missing, not confirmed or of another type",
  guard: "its condition did not hold",
  level: "the caller had not the level",
  budget: "the call's tool calls were used up",
  duplicate: "the same call was held, running or of unknown outcome",
  confirm: "the caller said no",
  once: "it was done before, or under way",
  "one-act": "another tool of the same message acted",
  visit: "the step was left",
  rev: "a value that it uses was changed",
  "barge-in": "the caller interrupted",
  journal: "it could not be recorded",
};

export class FlowsView {
  constructor({ name }) {
    this.name = name;
    this.aborted = new AbortController();
    this.element = h("div", { class: "flows" }, h("h1", {}, "Flows"), h("p", { class: "quiet loading" }, "Loading …"));
    this.open();
  }

  async open() {
    let flows;
    try {
      flows = await getJson("/api/flows", this.aborted.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.element.lastChild.textContent = error.message;
      return;
    }
    const flow = flows.find((one) => one.name === this.name) ?? flows[0];
    if (!flow) {
      this.element.lastChild.textContent = "No flow is served.";
      return;
    }
    const links = flows.map((one) =>
      h("a", { class: "tab", href: `#/flows/${encodeURIComponent(one.name)}`, "aria-current": one === flow ? "page" : null }, one.name),
    );
    this.element.replaceChildren(
      h("h1", {}, "Flows"),
      h("nav", { class: "tabs", "aria-label": "Flows" }, ...links),
      h(
        "dl",
        { class: "facts" },
        ...[["Version", `v${flow.version}`], ["Content", flow.hash.slice(0, 12)], ["Calls", count(flow.calls)]].map(([name, text]) =>
          h("div", {}, h("dt", {}, name), h("dd", {}, text)),
        ),
      ),
      h("div", { class: "flow-body" }, this.drawing(flow), h("div", { class: "flow-figures" }, ...this.figures(flow))),
    );
  }

  drawing(flow) {
    const place = h("div", { class: "drawing", tabindex: "0", role: "group", "aria-label": `Drawing of ${flow.name}` });
    getText(`/api/flows/${encodeURIComponent(flow.name)}/graph.svg`, this.aborted.signal).then(
      (text) => place.append(parseDrawing(text)),
    ).catch((error) => {
      if (error.name !== "AbortError") place.append(h("p", { class: "quiet" }, "The drawing cannot be shown."));
    });
    return h("section", { class: "panel flow-drawing", "aria-label": "Drawing" }, h("h2", {}, "Drawing"), place);
  }

  figures(flow) {
    const outcomes = Object.entries(flow.outcomes).sort((a, b) => b[1] - a[1]);
    // In the flow's order; steps of its earlier versions come last.
    const steps = new Set([...flow.steps, ...Object.keys(flow.dropoff)]);
    const lost = [...steps].filter((step) => flow.dropoff[step]).map((step) => [step, flow.dropoff[step]]);
    return [
      section("Outcomes", "How its calls ended.", bars("Outcomes", "Outcome", outcomes, flow.calls)),
      section("Drop-off by step", "Where callers left before the flow had ended.", bars("Drop-off by step", "Step", lost, flow.calls, "bad")),
      section("Tools", "What was asked for, what the gate allowed, and why it refused.", tools(flow.tools)),
    ];
  }

  close() {
    this.aborted.abort();
  }
}

function section(title, about, content) {
  return h("section", { class: "panel" }, h("h2", {}, title), h("p", { class: "quiet" }, about), content);
}

function bars(label, head, pairs, whole, tone = "") {
  if (!pairs.length) return h("p", { class: "quiet" }, "Nothing yet.");
  const most = Math.max(...pairs.map(([, n]) => n), 1);
  const rows = pairs.map(([name, n]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "bar-cell" }, bar([[n, tone]], most)), h("td", { class: "num" }, count(n)), h("td", { class: "num quiet" }, percent(n, whole))),
  );
  return h(
    "table",
    { class: "table bars" },
    h("caption", { class: "visually-hidden" }, label),
    h("thead", { class: "visually-hidden" }, h("tr", {}, ...[head, "Bar", "Calls", "Share"].map((one) => h("th", { scope: "col" }, one)))),
    h("tbody", {}, ...rows),
  );
}

function bar(parts, most) {
  const element = h("div", { class: "bar", "aria-hidden": "true" });
  for (const [n, tone] of parts) {
    if (!n) continue;
    const part = h("span", { class: tone ? `bar-${tone}` : "" });
    part.style.width = `${(100 * n) / most}%`;
    element.append(part);
  }
  return element;
}

function tools(given) {
  const names = Object.entries(given).sort((a, b) => b[1].requested - a[1].requested);
  if (!names.length) return h("p", { class: "quiet" }, "This flow has no tools.");
  const most = Math.max(...names.map(([, tool]) => tool.requested), 1);
  return h(
    "div",
    { class: "tool-list" },
    ...names.map(([name, tool]) => {
      const refused = Object.entries(tool.refused).sort((a, b) => b[1] - a[1]);
      const total = refused.reduce((sum, [, n]) => sum + n, 0);
      return h(
        "div",
        { class: "tool" },
        h("h3", {}, name),
        h("p", { class: "tool-told" }, `${plural(tool.requested, "request")} · ${count(tool.allowed)} allowed · ${count(total)} refused`),
        bar([[tool.allowed, "good"], [total, "bad"]], most),
        refused.length
          ? h("ul", { class: "reasons", "aria-label": `Why ${name} was refused` }, ...refused.map(([rule, n]) => h("li", {}, h("code", {}, rule), ` ${RULES[rule] ?? ""} × ${count(n)}`)))
          : null,
      );
    }),
  );
}
