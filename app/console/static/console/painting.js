// How a waterfall is drawn: only what is in sight, and what falls on the same pixel once.

import { clock } from "./format.js";
import { endOf, firstAfter } from "./spans.js";

export const RULER_PX = 26;
export const OVERVIEW_PX = 36;
const LABEL_PX = 34; // a narrower span has no label
const TICKS_MS = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
const TROUBLE_KINDS = new Set(["failed", "unknown", "error", "timeout", "lost"]);

export function drawStage(view) {
  const c = view.canvas.getContext("2d");
  c.clearRect(0, 0, view.width, view.height);
  drawRuler(view, c);
  view.lanes.forEach((lane, i) => drawLane(view, c, lane, RULER_PX + i * view.laneHeight));
  drawVerdicts(view, c);
  drawGutter(view, c);
}

function drawRuler(view, c) {
  const span = view.to - view.from;
  const room = Math.max(1, (view.width - view.gutter) / 84);
  const tick = TICKS_MS.find((ms) => span / ms <= room) ?? TICKS_MS.at(-1);
  const digits = tick >= 1000 ? 0 : tick >= 100 ? 1 : 2;
  c.font = view.paint.small;
  c.textBaseline = "middle";
  for (let ms = Math.ceil(view.from / tick) * tick; ms <= view.to; ms += tick) {
    const x = Math.round(view.x(ms)) + 0.5;
    c.fillStyle = view.paint.rule;
    c.fillRect(x - 0.5, RULER_PX - 6, 1, view.height);
    c.fillStyle = view.paint.faint;
    const text = clock(ms, digits);
    if (x + c.measureText(text).width + 6 < view.width) c.fillText(text, x + 4, RULER_PX / 2 + 1);
  }
}

function drawLane(view, c, lane, top) {
  const pad = 4;
  const height = view.laneHeight - 2 * pad;
  c.fillStyle = view.paint.rule;
  c.fillRect(0, top - 0.5, view.width, 1);
  c.font = view.paint.font;
  c.textBaseline = "middle";
  let painted = -1; // where the last thin span ended: what falls on the same pixel is drawn once
  for (let i = firstAfter(lane.spans, view.from - lane.longest); i < lane.spans.length; i++) {
    const span = lane.spans[i];
    if (span.from_ms > view.to) break;
    const left = Math.max(view.x(span.from_ms), view.gutter - 8);
    const right = Math.min(view.x(endOf(span, view.duration)), view.width + 8);
    if (right < view.gutter) continue;
    const thin = right - left < 2;
    if (thin && left < painted) continue;
    const wide = Math.max(right - left, 1.5);
    drawSpan(view, c, lane, span, left, top + pad, wide, height);
    painted = thin ? Math.floor(left) + 1.5 : -1;
  }
}

function drawSpan(view, c, lane, span, left, top, width, height) {
  c.fillStyle = colour(view, lane.name, span.kind);
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
    c.fillStyle = view.paint.cut;
    c.fillRect(left + width - 4, top, 3, height);
  }
  if (width < LABEL_PX || !span.label) return;
  const from = Math.max(left, view.gutter) + 6;
  const room = Math.min(left + width, view.width) - from - 6;
  if (room < 18) return;
  c.fillStyle = quiet || lane.name === "timer" || lane.name === "step" ? view.paint.ink : view.paint.label;
  c.fillText(clipped(c, span.label, room), from, top + height / 2 + 0.5);
}

function colour(view, lane, kind) {
  if (TROUBLE_KINDS.has(kind)) return view.paint.bad;
  if (lane === "floor") return kind === "cut" ? view.paint.cut : view.paint.hold;
  return view.paint[lane];
}

// A verdict is a small diamond on the tools' lane: passed, waiting or refused.
function drawVerdicts(view, c) {
  const index = view.lanes.findIndex((lane) => lane.name === "tool");
  if (index < 0) return;
  const y = RULER_PX + index * view.laneHeight + view.laneHeight / 2;
  let last = -Infinity;
  for (const verdict of view.marks) {
    if (verdict.ms < view.from || verdict.ms > view.to) continue;
    const x = view.x(verdict.ms);
    const refused = verdict.decision !== "allowed" && verdict.decision !== "held";
    if (x - last < 3 && !refused) continue;
    last = x;
    c.fillStyle = refused ? view.paint.bad : verdict.decision === "held" ? view.paint.hold : view.paint.good;
    c.strokeStyle = view.paint.surface;
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

function drawGutter(view, c) {
  c.fillStyle = view.paint.surface;
  c.fillRect(0, 0, view.gutter, view.height);
  c.fillStyle = view.paint.rule;
  c.fillRect(view.gutter - 1, RULER_PX, 1, view.height);
  c.font = view.paint.font;
  view.lanes.forEach((lane, i) => {
    const middle = RULER_PX + (i + 0.5) * view.laneHeight;
    c.fillStyle = lane.name === "floor" ? view.paint.hold : view.paint[lane.name];
    c.beginPath();
    c.roundRect(2, middle - 6, 3, 12, 1.5);
    c.fill();
    c.fillStyle = view.paint.ink;
    c.fillText(clipped(c, lane.label, view.gutter - 18), 12, middle + 0.5);
  });
}

// The whole call, small. Drawn once into a picture; the window moves over it.
export function drawOverview(view) {
  const c = view.overview.getContext("2d");
  const ratio = devicePixelRatio || 1;
  const room = view.width - view.gutter;
  view.picture ??= drawPicture(view, room, ratio);
  c.clearRect(0, 0, view.width, OVERVIEW_PX);
  c.drawImage(view.picture, view.gutter, 0, room, OVERVIEW_PX);
  const left = view.gutter + (view.from / view.duration) * room;
  const wide = Math.max(((view.to - view.from) / view.duration) * room, 3);
  c.fillStyle = view.paint.window;
  c.fillRect(view.gutter, 0, left - view.gutter, OVERVIEW_PX);
  c.fillRect(left + wide, 0, view.width - left - wide, OVERVIEW_PX);
  c.strokeStyle = view.paint.faint;
  c.lineWidth = 1;
  c.strokeRect(left + 0.5, 0.5, Math.max(wide - 1, 2), OVERVIEW_PX - 1);
  c.fillStyle = view.paint.ink;
  c.fillRect(Math.round(view.gutter + (view.ms / view.duration) * room) - 0.5, 0, 1.5, OVERVIEW_PX);
}

function drawPicture(view, room, ratio) {
  const picture = document.createElement("canvas");
  picture.width = Math.max(1, Math.round(room * ratio));
  picture.height = Math.round(OVERVIEW_PX * ratio);
  const c = picture.getContext("2d");
  c.scale(ratio, ratio);
  c.fillStyle = view.paint.stripe;
  c.fillRect(0, 0, room, OVERVIEW_PX);
  const shown = view.lanes.filter((lane) => lane.name !== "timer" && lane.name !== "step");
  const tall = (OVERVIEW_PX - 8) / Math.max(shown.length, 1);
  shown.forEach((lane, i) => {
    let painted = -1;
    for (const span of lane.spans) {
      const left = (span.from_ms / view.duration) * room;
      const wide = Math.max(((endOf(span, view.duration) - span.from_ms) / view.duration) * room, 1);
      if (left + wide < painted + 0.5) continue;
      painted = left + wide;
      c.fillStyle = colour(view, lane.name, span.kind);
      c.fillRect(left, 4 + i * tall, wide, Math.max(tall - 1, 1));
    }
  });
  return picture;
}

function clipped(c, text, room) {
  if (text.length * 3.4 < room && c.measureText(text).width <= room) return text;
  let fits = Math.min(text.length, Math.floor(room / 4));
  while (fits > 0 && c.measureText(text.slice(0, fits) + "…").width > room) fits -= Math.max(1, fits >> 3);
  return fits > 0 ? text.slice(0, fits).trimEnd() + "…" : "";
}
