// The call as a waterfall: one lane per kind of work, drawn on a canvas that only draws what is in sight.
// The cursor is an element of its own above the canvas, so that playing a recording redraws nothing.

import { clock, spoken } from "./format.js";
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
const RULER_PX = 26;
const OVERVIEW_PX = 36;
const MIN_WINDOW_MS = 50;
const DRAG_PX = 4;
const LABEL_PX = 34; // a narrower span has no label
const EASE_MS = 140;
const TICKS_MS = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
const TROUBLE_KINDS = new Set(["failed", "unknown", "error", "timeout", "lost"]);

export class Waterfall {
  // onSeek(ms), onStep(+1 or -1 record), onPlay() and onWindow(from_ms, to_ms) are the user's wishes.
  constructor({ onSeek, onStep, onPlay, onWindow = () => {} }) {
    Object.assign(this, { onSeek, onStep, onPlay, onWindow });
    this.lanes = [];
    this.marks = [];
    this.duration = 1;
    this.from = 0;
    this.to = 1;
    this.ms = 0;
    this.pointers = new Map();

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
    this.listen();
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
    const atEnd = this.to >= this.duration - 1;
    const whole = this.from <= 0 && atEnd;
    const given = new Map(timeline.lanes.map((lane) => [lane.name, lane.spans]));
    const order = [...Object.keys(LANES).filter((name) => given.has(name))];
    for (const name of given.keys()) if (!order.includes(name)) order.push(name);
    this.lanes = order.map((name) => {
      const spans = [...given.get(name)].sort((a, b) => a.from_ms - b.from_ms);
      return { name, label: LANES[name] ?? name, spans, longest: Math.max(0, ...spans.map(lengthOf)) };
    });
    this.marks = timeline.verdicts.filter((verdict) => verdict.decision !== "started");
    this.duration = Math.max(timeline.duration_ms, 1);
    if (whole) this.to = this.duration;
    else if (atEnd) [this.from, this.to] = [this.duration - (this.to - this.from), this.duration];
    this.stage.setAttribute("aria-valuemax", Math.round(this.duration));
    this.picture = null;
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
    clearTimeout(this.told);
    this.told = setTimeout(() => this.onWindow(this.goal.from, this.goal.to), 200);
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
    const c = this.canvas.getContext("2d");
    c.clearRect(0, 0, this.width, this.height);
    this.drawRuler(c);
    this.lanes.forEach((lane, i) => this.drawLane(c, lane, RULER_PX + i * this.laneHeight));
    this.drawVerdicts(c);
    this.drawGutter(c);
    this.drawOverview();
    this.placeCursor();
  }

  drawRuler(c) {
    const span = this.to - this.from;
    const room = Math.max(1, (this.width - this.gutter) / 84);
    const tick = TICKS_MS.find((ms) => span / ms <= room) ?? TICKS_MS.at(-1);
    const digits = tick >= 1000 ? 0 : tick >= 100 ? 1 : 2;
    c.font = this.paint.small;
    c.textBaseline = "middle";
    for (let ms = Math.ceil(this.from / tick) * tick; ms <= this.to; ms += tick) {
      const x = Math.round(this.x(ms)) + 0.5;
      c.fillStyle = this.paint.rule;
      c.fillRect(x - 0.5, RULER_PX - 6, 1, this.height);
      c.fillStyle = this.paint.faint;
      const text = clock(ms, digits);
      if (x + c.measureText(text).width + 6 < this.width) c.fillText(text, x + 4, RULER_PX / 2 + 1);
    }
  }

  drawLane(c, lane, top) {
    const pad = 4;
    const height = this.laneHeight - 2 * pad;
    c.fillStyle = this.paint.rule;
    c.fillRect(0, top - 0.5, this.width, 1);
    c.font = this.paint.font;
    c.textBaseline = "middle";
    let painted = -1; // where the last thin span ended: what falls on the same pixel is drawn once
    for (let i = firstAfter(lane.spans, this.from - lane.longest); i < lane.spans.length; i++) {
      const span = lane.spans[i];
      if (span.from_ms > this.to) break;
      const left = Math.max(this.x(span.from_ms), this.gutter - 8);
      const right = Math.min(this.x(endOf(span, this.duration)), this.width + 8);
      if (right < this.gutter) continue;
      const thin = right - left < 2;
      if (thin && left < painted) continue;
      const wide = Math.max(right - left, 1.5);
      this.drawSpan(c, lane, span, left, top + pad, wide, height);
      painted = thin ? Math.floor(left) + 1.5 : -1;
    }
  }

  drawSpan(c, lane, span, left, top, width, height) {
    c.fillStyle = this.colour(lane.name, span.kind);
    const quiet = span.kind === "noise" || span.kind === "unheard" || span.kind === "cancelled";
    c.globalAlpha = quiet ? 0.35 : 1;
    if (width < 5) {
      c.fillRect(left, top, width, height);
    } else {
      c.beginPath();
      c.roundRect(left, top, Math.max(width - 1, 2), height, Math.min(4, width / 3));
      c.fill();
    }
    c.globalAlpha = 1;
    if (span.kind === "cut" && lane.name === "agent" && width > 3) {
      c.fillStyle = this.paint.cut;
      c.fillRect(left + width - 4, top, 3, height);
    }
    if (width < LABEL_PX || !span.label) return;
    const from = Math.max(left, this.gutter) + 6;
    const room = Math.min(left + width, this.width) - from - 6;
    if (room < 18) return;
    c.fillStyle = quiet || lane.name === "timer" || lane.name === "step" ? this.paint.ink : this.paint.label;
    c.fillText(clipped(c, span.label, room), from, top + height / 2 + 0.5);
  }

  colour(lane, kind) {
    if (TROUBLE_KINDS.has(kind)) return this.paint.bad;
    if (lane === "floor") return kind === "cut" ? this.paint.cut : this.paint.hold;
    return this.paint[lane];
  }

  // A verdict is a small diamond on the tools' lane: passed, waiting or refused.
  drawVerdicts(c) {
    const index = this.lanes.findIndex((lane) => lane.name === "tool");
    if (index < 0) return;
    const y = RULER_PX + index * this.laneHeight + this.laneHeight / 2;
    let last = -Infinity;
    for (const verdict of this.marks) {
      if (verdict.ms < this.from || verdict.ms > this.to) continue;
      const x = this.x(verdict.ms);
      const refused = verdict.decision !== "allowed" && verdict.decision !== "held";
      if (x - last < 3 && !refused) continue;
      last = x;
      c.fillStyle = refused ? this.paint.bad : verdict.decision === "held" ? this.paint.hold : this.paint.good;
      c.strokeStyle = this.paint.surface;
      c.lineWidth = 1.5;
      c.beginPath();
      c.moveTo(x, y - 6);
      c.lineTo(x + 6, y);
      c.lineTo(x, y + 6);
      c.lineTo(x - 6, y);
      c.closePath();
      c.fill();
      c.stroke();
    }
  }

  drawGutter(c) {
    c.fillStyle = this.paint.surface;
    c.fillRect(0, 0, this.gutter, this.height);
    c.fillStyle = this.paint.rule;
    c.fillRect(this.gutter - 1, RULER_PX, 1, this.height);
    c.font = this.paint.font;
    this.lanes.forEach((lane, i) => {
      const middle = RULER_PX + (i + 0.5) * this.laneHeight;
      c.fillStyle = lane.name === "floor" ? this.paint.hold : this.paint[lane.name];
      c.beginPath();
      c.roundRect(2, middle - 6, 3, 12, 1.5);
      c.fill();
      c.fillStyle = this.paint.ink;
      c.fillText(clipped(c, lane.label, this.gutter - 18), 12, middle + 0.5);
    });
  }

  // The whole call, small. Drawn once into a picture; the window moves over it.
  drawOverview() {
    const c = this.overview.getContext("2d");
    const ratio = devicePixelRatio || 1;
    const room = this.width - this.gutter;
    this.picture ??= this.drawPicture(room, ratio);
    c.clearRect(0, 0, this.width, OVERVIEW_PX);
    c.drawImage(this.picture, this.gutter, 0, room, OVERVIEW_PX);
    const left = this.gutter + (this.from / this.duration) * room;
    const wide = Math.max(((this.to - this.from) / this.duration) * room, 3);
    c.fillStyle = this.paint.window;
    c.fillRect(this.gutter, 0, left - this.gutter, OVERVIEW_PX);
    c.fillRect(left + wide, 0, this.width - left - wide, OVERVIEW_PX);
    c.strokeStyle = this.paint.faint;
    c.lineWidth = 1;
    c.strokeRect(left + 0.5, 0.5, Math.max(wide - 1, 2), OVERVIEW_PX - 1);
    c.fillStyle = this.paint.ink;
    c.fillRect(Math.round(this.gutter + (this.ms / this.duration) * room) - 0.5, 0, 1.5, OVERVIEW_PX);
  }

  drawPicture(room, ratio) {
    const picture = document.createElement("canvas");
    picture.width = Math.max(1, Math.round(room * ratio));
    picture.height = Math.round(OVERVIEW_PX * ratio);
    const c = picture.getContext("2d");
    c.scale(ratio, ratio);
    c.fillStyle = this.paint.stripe;
    c.fillRect(0, 0, room, OVERVIEW_PX);
    const shown = this.lanes.filter((lane) => lane.name !== "timer" && lane.name !== "step");
    const tall = (OVERVIEW_PX - 8) / Math.max(shown.length, 1);
    shown.forEach((lane, i) => {
      let painted = -1;
      for (const span of lane.spans) {
        const left = (span.from_ms / this.duration) * room;
        const wide = Math.max(((endOf(span, this.duration) - span.from_ms) / this.duration) * room, 1);
        if (left + wide < painted + 0.5) continue;
        painted = left + wide;
        c.fillStyle = this.colour(lane.name, span.kind);
        c.fillRect(left, 4 + i * tall, wide, Math.max(tall - 1, 1));
      }
    });
    return picture;
  }

  placeCursor() {
    const x = this.x(this.ms);
    const out = !this.width || x < this.gutter - 0.5 || x > this.width + 0.5;
    this.line.hidden = out;
    if (out) return;
    this.line.style.transform = `translateX(${x}px)`;
    this.line.classList.toggle("is-right", x > this.width - 64);
    this.line.firstElementChild.textContent = clock(this.ms);
    if (!this.frame && this.picture) this.drawOverview();
  }

  // Wishes

  listen() {
    const stage = this.stage;
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", (event) => this.up(event));
    stage.addEventListener("pointerleave", () => (this.tip.hidden = true));
    const carry = (event) => {
      if (!event.buttons) return;
      const share = (event.offsetX - this.gutter) / (this.width - this.gutter);
      const half = (this.to - this.from) / 2;
      this.show(share * this.duration - half, share * this.duration + half);
      if (this.to - this.from >= this.duration) this.onSeek(Math.min(Math.max(share, 0), 1) * this.duration);
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      carry(event);
    });
    this.overview.addEventListener("pointermove", carry);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const acts = {
      ArrowLeft: () => (event.shiftKey ? this.onSeek(this.ms - 1000) : this.onStep(-1)),
      ArrowRight: () => (event.shiftKey ? this.onSeek(this.ms + 1000) : this.onStep(1)),
      ArrowUp: () => this.onStep(-1),
      ArrowDown: () => this.onStep(1),
      Home: () => this.onSeek(0),
      End: () => this.onSeek(this.duration),
      PageUp: () => this.pan(-0.8, true),
      PageDown: () => this.pan(0.8, true),
      "+": () => this.zoom(0.5, this.ms, true),
      "=": () => this.zoom(0.5, this.ms, true),
      "-": () => this.zoom(2, this.ms, true),
      0: () => this.fit(),
      " ": () => this.onPlay(),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.pan(((event.deltaX || event.deltaY) * unit) / (this.width - this.gutter));
    } else {
      const steps = Math.max(-1, Math.min(1, (event.deltaY * unit) / 120));
      this.zoom(1.35 ** steps, this.at(this.offset(event)));
    }
  }

  offset(event) {
    return event.clientX - this.stage.getBoundingClientRect().left;
  }

  down(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    const x = this.offset(event);
    const y = event.clientY - this.stage.getBoundingClientRect().top;
    this.pointers.set(event.pointerId, x);
    this.tip.hidden = true;
    if (this.pointers.size === 2) {
      this.mode = "pinch";
      this.pinch = this.spread();
    } else {
      this.mode = y < RULER_PX ? "scrub" : "press";
      this.pressed = { x, from: this.from, to: this.to };
      if (this.mode === "scrub") this.onSeek(this.bounded(this.at(x)));
    }
  }

  move(event) {
    const x = this.offset(event);
    if (!this.pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") this.hover(event, x);
      return;
    }
    this.pointers.set(event.pointerId, x);
    if (this.mode === "pinch") {
      const now = this.spread();
      const middle = this.at(now.middle) - ((now.middle - this.pinch.middle) / this.width) * (this.to - this.from);
      this.zoom(this.pinch.apart / now.apart, middle);
      this.pan((this.pinch.middle - now.middle) / (this.width - this.gutter));
      this.pinch = now;
    } else if (this.mode === "scrub") {
      this.onSeek(this.bounded(this.at(x)));
    } else {
      const by = x - this.pressed.x;
      if (this.mode === "press" && Math.abs(by) > DRAG_PX) this.mode = "pan";
      if (this.mode !== "pan") return;
      const ms = (by / (this.width - this.gutter)) * (this.pressed.to - this.pressed.from);
      this.show(this.pressed.from - ms, this.pressed.to - ms);
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.mode === "press" && event.type === "pointerup") this.onSeek(this.bounded(this.at(this.offset(event))));
    this.mode = this.pointers.size ? "done" : null;
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    return { apart: Math.max(Math.abs(a - b), 10), middle: (a + b) / 2 };
  }

  bounded(ms) {
    return Math.min(Math.max(ms, 0), this.duration);
  }

  hover(event, x) {
    const y = event.clientY - this.stage.getBoundingClientRect().top;
    const lane = this.lanes[Math.floor((y - RULER_PX) / this.laneHeight)];
    const told = lane && x >= this.gutter ? this.told_at(lane, this.at(x)) : "";
    this.tip.hidden = !told;
    if (!told) return;
    this.tip.textContent = told;
    const left = Math.min(Math.max(x + 12, 0), this.width - this.tip.offsetWidth - 4);
    const top = y + 16 + this.tip.offsetHeight > this.height ? y - this.tip.offsetHeight - 8 : y + 16;
    this.tip.style.transform = `translate(${left}px, ${top}px)`;
  }

  told_at(lane, ms) {
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

  close() {
    this.resized.disconnect();
    this.themed.disconnect();
    this.scheme.removeEventListener("change", this.schemed);
    cancelAnimationFrame(this.frame);
    clearTimeout(this.told);
  }
}

function lengthOf(span) {
  return (span.to_ms ?? Infinity) - span.from_ms;
}

// A span that has no end yet lasts until now.
function endOf(span, now) {
  return span.to_ms ?? Math.max(now, span.from_ms);
}

function took(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function firstAfter(spans, ms) {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].from_ms < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

function clipped(c, text, room) {
  if (text.length * 3.4 < room && c.measureText(text).width <= room) return text;
  let fits = Math.min(text.length, Math.floor(room / 4));
  while (fits > 0 && c.measureText(text.slice(0, fits) + "…").width > room) fits -= Math.max(1, fits >> 3);
  return fits > 0 ? text.slice(0, fits).trimEnd() + "…" : "";
}
