// The call as a waterfall: one lane per kind of work, drawn on a canvas that only draws what is in sight.
// The cursor is an element of its own above the canvas, so that playing a recording redraws nothing.

import { clock, spoken } from "./format.js";
import { gestures } from "./gestures.js";
import { drawOverview, drawStage, OVERVIEW_PX, RULER_PX } from "./painting.js";
import { endOf, firstAfter, lengthOf } from "./spans.js";
import { h } from "../shared/dom.js";

const LANES = {
  step: "Step",
  caller: "Caller",
  agent: "Agent",
  floor: "Holds, cuts",
  model: "Model",
  tts: "TTS",
  tool: "Tools",
  timer: "Timers",
};
const MIN_WINDOW_MS = 50;
const EASE_MS = 140;

export class Waterfall {
  // onSeek(ms), onStep(+1 or -1 record) and onPlay() are the user's wishes.
  constructor({ onSeek, onStep, onPlay }) {
    Object.assign(this, { onSeek, onStep, onPlay });
    this.lanes = [];
    this.marks = [];
    this.duration = 1;
    this.from = 0;
    this.to = 1;
    this.ms = 0;

    this.canvas = h("canvas", { class: "wf-canvas" });
    this.line = h("div", { class: "wf-cursor" }, h("span", { class: "wf-cursor-time" }));
    this.tip = h("div", { class: "wf-tip", hidden: true });
    this.stage = h(
      "div",
      {
        class: "wf-stage",
        role: "slider",
        tabindex: "0",
        "aria-label": "Position in the call",
        "aria-describedby": "wf-keys",
        "aria-valuemin": "0",
      },
      this.canvas,
      this.line,
      this.tip,
    );
    this.overview = h("canvas", { class: "wf-overview", "aria-hidden": "true" });
    this.element = h("div", { class: "wf" }, this.overview, this.stage);

    this.draw = this.draw.bind(this);
    gestures(this);
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.element);
    this.themed = new MutationObserver(() => this.restyle());
    this.themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.schemed = () => this.restyle();
    this.scheme.addEventListener("change", this.schemed);
  }

  // timeline: what /api/calls/ID/timeline says. The window stays where it is, or follows the end of a live call.
  set(timeline) {
    const given = new Map(timeline.lanes.map((lane) => [lane.name, lane.spans]));
    const order = Object.keys(LANES).filter((name) => given.has(name));
    for (const name of given.keys()) if (!order.includes(name)) order.push(name);
    this.lanes = order.map((name) => {
      const spans = [...given.get(name)].sort((a, b) => a.from_ms - b.from_ms);
      return { name, label: LANES[name] ?? name, spans, longest: spans.reduce((most, span) => Math.max(most, lengthOf(span)), 0) };
    });
    this.marks = timeline.verdicts.filter((verdict) => verdict.decision !== "started");
    this.grow(timeline.duration_ms);
    this.resize();
  }

  // The end of a live call moves on by itself.
  grow(duration) {
    const atEnd = this.to >= this.duration - 1;
    const span = this.to - this.from;
    const whole = this.from <= 0 && atEnd;
    this.duration = Math.max(duration, 1);
    if (whole) this.to = this.duration;
    else if (atEnd) [this.from, this.to] = [this.duration - span, this.duration];
    this.stage.setAttribute("aria-valuemax", Math.round(this.duration));
    this.picture = null;
    this.later();
  }

  setCursor(ms, said) {
    this.ms = ms;
    this.placeCursor();
    this.stage.setAttribute("aria-valuenow", Math.round(ms));
    this.stage.setAttribute("aria-valuetext", said ? `${spoken(ms)}, ${said}` : spoken(ms));
  }

  // Brings the cursor into sight, as a page turns.
  follow() {
    const span = this.to - this.from;
    if (this.ms >= this.from && this.ms <= this.to) return;
    this.show(this.ms - span * 0.08, this.ms + span * 0.92);
  }

  show(from, to, { ease = false } = {}) {
    let span = Math.min(Math.max(to - from, MIN_WINDOW_MS), this.duration);
    if (!Number.isFinite(span)) span = this.duration;
    from = Math.min(Math.max(from, 0), this.duration - span);
    this.goal = { from, to: from + span };
    if (ease && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.eased = { from: this.from, to: this.to, start: performance.now() };
    } else {
      this.eased = null;
      this.from = from;
      this.to = from + span;
    }
    this.later();
  }

  zoom(factor, at = this.ms, ease = false) {
    const now = this.eased ? this.goal : this;
    if (at < now.from || at > now.to) at = (now.from + now.to) / 2;
    const share = (at - now.from) / (now.to - now.from);
    const span = Math.min(Math.max((now.to - now.from) * factor, MIN_WINDOW_MS), this.duration);
    this.show(at - share * span, at + (1 - share) * span, { ease });
  }

  pan(share, ease = false) {
    const now = this.eased ? this.goal : this;
    const by = (now.to - now.from) * share;
    this.show(now.from + by, now.to + by, { ease });
  }

  fit() {
    this.show(0, this.duration, { ease: true });
  }

  // Geometry

  resize() {
    const style = getComputedStyle(this.element);
    this.gutter = parseFloat(style.getPropertyValue("--wf-gutter")) || 92;
    this.laneHeight = parseFloat(style.getPropertyValue("--wf-lane")) || 28;
    this.width = this.element.clientWidth;
    this.height = RULER_PX + this.lanes.length * this.laneHeight + 4;
    if (!this.width) return;
    const ratio = devicePixelRatio || 1;
    for (const [canvas, height] of [
      [this.canvas, this.height],
      [this.overview, OVERVIEW_PX],
    ]) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.stage.style.height = `${this.height}px`;
    this.restyle();
  }

  restyle() {
    const style = getComputedStyle(this.element);
    const token = (name) => style.getPropertyValue(name).trim();
    this.paint = { font: `500 11px ${style.fontFamily}`, small: `500 10.5px ${style.fontFamily}` };
    for (const name of ["ink", "faint", "rule", "stripe", "surface", "label", "hold", "cut", "bad", "good", "window"]) {
      this.paint[name] = token(`--wf-${name}`);
    }
    for (const lane of this.lanes) this.paint[lane.name] = token(`--wf-${lane.name}`) || this.paint.faint;
    this.picture = null;
    this.later();
  }

  x(ms) {
    return this.gutter + ((ms - this.from) / (this.to - this.from)) * (this.width - this.gutter);
  }

  at(x) {
    return this.from + ((x - this.gutter) / (this.width - this.gutter)) * (this.to - this.from);
  }

  // Drawing

  later() {
    if (!this.frame) this.frame = requestAnimationFrame(this.draw);
  }

  draw(now) {
    this.frame = 0;
    if (!this.width || !this.element.isConnected) return;
    if (this.eased) {
      const t = Math.min(1, Math.max(0, now - this.eased.start) / EASE_MS);
      const k = 1 - (1 - t) ** 3;
      this.from = this.eased.from + (this.goal.from - this.eased.from) * k;
      this.to = this.eased.to + (this.goal.to - this.eased.to) * k;
      if (t < 1) this.later();
      else this.eased = null;
    }
    drawStage(this);
    drawOverview(this);
    this.placeCursor();
  }

  placeCursor() {
    const x = this.x(this.ms);
    const out = !this.width || x < this.gutter - 0.5 || x > this.width + 0.5;
    this.line.hidden = out;
    if (out) return;
    this.line.style.transform = `translateX(${x}px)`;
    this.line.classList.toggle("is-right", x > this.width - 64);
    this.line.firstElementChild.textContent = clock(this.ms);
    if (!this.frame && this.picture) drawOverview(this);
  }

  // What is there, in words.
  tell(lane, ms) {
    const near = ((this.to - this.from) / (this.width - this.gutter)) * 6;
    if (lane.name === "tool") {
      const verdict = this.marks.find((one) => Math.abs(one.ms - ms) < near);
      if (verdict) return `#${verdict.n} ${verdict.tool}: ${verdict.decision} [${verdict.rule}] ${verdict.reason}`;
    }
    const slack = near / 3;
    for (let i = firstAfter(lane.spans, ms - lane.longest - slack); i < lane.spans.length; i++) {
      const span = lane.spans[i];
      if (span.from_ms - slack > ms) break;
      const end = endOf(span, this.duration);
      if (end + slack < ms) continue;
      const kind = span.kind && span.kind !== lane.name ? `${span.kind} · ` : "";
      return `${kind}${span.label || lane.label} · ${clock(span.from_ms, 2)} · ${took(end - span.from_ms)}`;
    }
    return "";
  }

  bounded(ms) {
    return Math.min(Math.max(ms, 0), this.duration);
  }

  close() {
    this.resized.disconnect();
    this.themed.disconnect();
    this.scheme.removeEventListener("change", this.schemed);
    cancelAnimationFrame(this.frame);
  }
}

function took(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
