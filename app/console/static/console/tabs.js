// Panels of which one is seen, as ARIA wants them: arrow keys go from tab to tab.

import { h } from "../shared/dom.js";

export class Tabs {
  // onOpen(name) whenever one is shown, also anew.
  constructor({ names, label, onOpen }) {
    this.names = names;
    this.onOpen = onOpen;
    this.panels = names.map((name, i) => h("div", { class: "tab-panel", role: "tabpanel", id: `panel-${i}`, "aria-labelledby": `tab-${i}`, tabindex: "0" }));
    this.buttons = names.map((name, i) => h("button", { type: "button", class: "tab", role: "tab", id: `tab-${i}`, "aria-controls": `panel-${i}` }, name));
    this.buttons.forEach((button, i) => button.addEventListener("click", () => this.open(i)));
    this.list = h("div", { class: "tabs", role: "tablist", "aria-label": label }, ...this.buttons);
    this.list.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.open((this.at + by + names.length) % names.length);
      this.buttons[this.at].focus();
    });
    this.show(0);
  }

  get current() {
    return this.names[this.at];
  }

  panel(name) {
    return this.panels[this.names.indexOf(name)];
  }

  open(at) {
    this.show(at);
    this.onOpen(this.current);
  }

  show(at) {
    this.at = at;
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === at));
      button.tabIndex = i === at ? 0 : -1;
      this.panels[i].hidden = i !== at;
    });
  }
}
