// The chosen flow's drawing: small beside the call, large in a dialog, with the step lit where the call is.

import { h } from "../shared/dom.js";
import { light } from "../shared/drawing.js";
import { drawingOf } from "./server.js";

export class FlowMap {
  #svg = null;
  #large = null;
  #step = "";
  #visited = new Set();
  #coming = null; // aborts the drawing that is on its way

  // `larger`: the button that opens the dialog
  constructor(frame, larger) {
    this.frame = frame;
    this.larger = larger;
    larger.addEventListener("click", () => this.#enlarge());
  }

  async show(flow) {
    this.#coming?.abort();
    this.#coming = new AbortController();
    this.#svg = null;
    try {
      const svg = await drawingOf(flow, this.#coming.signal);
      this.#svg = svg;
      this.frame.replaceChildren(svg);
      this.#light();
    } catch (error) {
      if (error.name !== "AbortError") this.frame.replaceChildren(h("p", { class: "quiet" }, "The drawing cannot be shown."));
    }
    this.larger.hidden = !this.#svg;
  }

  // "": nowhere
  at(step, visited) {
    this.#step = step;
    this.#visited = visited;
    this.#light();
  }

  #light() {
    if (this.#svg) light(this.#svg, this.#step, this.#visited, this.frame);
    if (this.#large) light(this.#large, this.#step, this.#visited, this.#large.parentElement);
  }

  #enlarge() {
    this.#large = this.#svg.cloneNode(true);
    const close = h("button", { type: "button", class: "button" }, "Close");
    const frame = h("div", { class: "map-frame", tabindex: "0", role: "group", "aria-label": "Drawing of the flow" }, this.#large);
    const dialog = h("dialog", { class: "dialog map-dialog", "aria-label": "The flow" }, frame, h("div", { class: "dialog-acts" }, close));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      this.#large = null;
      this.larger.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
    this.#light();
  }
}
