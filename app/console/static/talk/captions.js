// The conversation, as it is said and as it was heard.

import { h } from "../shared/dom.js";
import { plain, shown } from "./words.js";

const NEAR_PX = 48; // so near to the end the newest words are followed

export class Captions {
  #rows = new Map(); // id -> {version, element}

  #follows = true;

  constructor(log) {
    this.log = log;
    log.addEventListener("scroll", () => {
      this.#follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
    });
    new ResizeObserver(() => this.#follow()).observe(log);
  }

  clear() {
    this.#rows.clear();
    this.#follows = true;
    this.log.replaceChildren();
  }

  draw(rows) {
    const { log } = this;
    const wanted = new Set(rows.map((row) => row.id));
    for (const [id, { element }] of this.#rows) {
      if (wanted.has(id)) continue;
      element.remove();
      this.#rows.delete(id);
    }
    for (const row of rows) {
      const drawn = this.#rows.get(row.id);
      if (drawn?.version === row.version) continue;
      const element = DRAWN[row.side](row);
      if (drawn) {
        drawn.element.className = element.className; // the element stays: it has arrived already
        drawn.element.replaceChildren(...element.childNodes);
      } else log.append(element);
      this.#rows.set(row.id, { version: row.version, element: drawn?.element ?? element });
    }
    this.#follow();
  }

  #follow() {
    if (this.#follows) this.log.scrollTop = this.log.scrollHeight;
  }
}

const DRAWN = {
  agent: (row) =>
    h(
      "div",
      { class: `said said-agent${row.over ? "" : " is-open"}` },
      h("span", { class: "speaker" }, "Agent"),
      h("p", {}, ...row.sentences.toSorted((a, b) => a.index - b.index).flatMap((one, i) => [i ? " " : "", ...sentence(one)])),
      wasCut(row) ? h("span", { class: "cut-mark" }, row.cause === "lost" ? "connection lost" : "cut off") : null,
    ),
  caller: (row) =>
    h(
      "div",
      { class: "said said-you" },
      h("span", { class: "speaker" }, row.keys ? "Your keys" : "You"),
      row.text ? h("p", { class: row.keys ? "keys num" : "" }, shown(row.text)) : h("p", { class: "quiet" }, "(not understood)"),
    ),
  step: (row) => h("div", { class: "step-mark" }, h("span", {}, h("span", { class: "visually-hidden" }, "Step: "), row.steps.map(plain).join(" → "))),
  note: (row) => h("p", { class: "log-note" }, row.text),
};

function sentence({ text, begun, heard }) {
  if (heard === null) return [h("span", { class: begun ? "" : "to-come" }, shown(text))];
  const after = text.slice(heard).trimStart();
  const before = text.slice(0, text.length - after.length);
  return [before, after ? h("del", {}, h("span", { class: "visually-hidden" }, "(not heard:) "), after) : ""];
}

function wasCut(row) {
  return row.over && row.sentences.some(({ text, heard }) => heard !== null && text.slice(heard).trim());
}
