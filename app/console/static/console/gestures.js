// What a mouse, fingers, a wheel and keys wish of a waterfall: seek, scrub, pan, pinch, zoom.

import { RULER_PX } from "./painting.js";

const DRAG_PX = 4; // a press that moves less is a click
const NOTCH_PX = 120; // of a wheel, at most, in one event
const LINE_PX = 16;
const NOTCH = 1.35;
const STEP_MS = 1000;

export function gestures(view) {
  byKeys(view);
  byWheel(view);
  byPointers(view);
  byOverview(view);
}

function byKeys(view) {
  const acts = {
    ArrowLeft: (shift) => (shift ? view.onSeek(view.ms - STEP_MS) : view.onStep(-1)),
    ArrowRight: (shift) => (shift ? view.onSeek(view.ms + STEP_MS) : view.onStep(1)),
    ArrowUp: () => view.onStep(-1),
    ArrowDown: () => view.onStep(1),
    Home: () => view.onSeek(0),
    End: () => view.onSeek(view.duration),
    PageUp: () => view.pan(-0.8, true),
    PageDown: () => view.pan(0.8, true),
    "+": () => view.zoom(0.5, view.ms, true),
    "=": () => view.zoom(0.5, view.ms, true),
    "-": () => view.zoom(2, view.ms, true),
    0: () => view.fit(),
    " ": () => view.onPlay(),
  };
  view.stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !acts[event.key]) return;
    event.preventDefault();
    acts[event.key](event.shiftKey);
  });
}

// Along it the wheel pans; up and down it zooms.
function byWheel(view) {
  view.stage.addEventListener(
    "wheel",
    (event) => {
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PX : 1;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        view.pan(((event.deltaX || event.deltaY) * unit) / (view.width - view.gutter));
      } else {
        const notches = Math.max(-1, Math.min(1, (event.deltaY * unit) / NOTCH_PX));
        view.zoom(NOTCH ** notches, view.at(place(view, event).x));
      }
      event.preventDefault();
    },
    { passive: false },
  );
}

function byPointers(view) {
  const { stage } = view;
  const down = new Map(); // by pointer, where it is
  let mode = null; // "press", "pan", "scrub", "pinch" or "done"
  let pressed = null;
  let pinch = null;

  const spread = () => {
    const [a, b] = [...down.values()];
    return { apart: Math.max(Math.abs(a - b), 10), middle: (a + b) / 2 };
  };
  const seek = (x) => view.onSeek(view.bounded(view.at(x)));

  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    const { x, y } = place(view, event);
    down.set(event.pointerId, x);
    view.tip.hidden = true;
    if (down.size === 2) {
      mode = "pinch";
      pinch = spread();
      return;
    }
    mode = y < RULER_PX ? "scrub" : "press";
    pressed = { x, from: view.from, to: view.to };
    if (mode === "scrub") seek(x);
  });

  stage.addEventListener("pointermove", (event) => {
    const { x, y } = place(view, event);
    if (!down.has(event.pointerId)) {
      if (event.pointerType === "mouse") hover(view, x, y);
      return;
    }
    down.set(event.pointerId, x);
    if (mode === "pinch") {
      const now = spread();
      view.zoom(pinch.apart / now.apart, view.at(pinch.middle));
      view.pan((pinch.middle - now.middle) / (view.width - view.gutter));
      pinch = now;
    } else if (mode === "scrub") {
      seek(x);
    } else {
      const by = x - pressed.x;
      if (mode === "press" && Math.abs(by) > DRAG_PX) mode = "pan";
      if (mode !== "pan") return;
      const ms = (by / (view.width - view.gutter)) * (pressed.to - pressed.from);
      view.show(pressed.from - ms, pressed.to - ms);
    }
  });

  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (mode === "press" && event.type === "pointerup") seek(place(view, event).x);
    mode = down.size ? "done" : null;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => (view.tip.hidden = true));
}

// The whole call, small: its window is carried along.
function byOverview(view) {
  const carry = (event) => {
    if (!event.buttons) return;
    const share = (event.offsetX - view.gutter) / (view.width - view.gutter);
    const half = (view.to - view.from) / 2;
    view.show(share * view.duration - half, share * view.duration + half);
    if (view.to - view.from >= view.duration) view.onSeek(view.bounded(share * view.duration));
  };
  view.overview.addEventListener("pointerdown", (event) => {
    view.overview.setPointerCapture(event.pointerId);
    carry(event);
  });
  view.overview.addEventListener("pointermove", carry);
}

function hover(view, x, y) {
  const { tip } = view;
  const lane = view.lanes[Math.floor((y - RULER_PX) / view.laneHeight)];
  const told = lane && x >= view.gutter ? view.tell(lane, view.at(x)) : "";
  tip.hidden = !told;
  if (!told) return;
  tip.textContent = told;
  const left = Math.min(Math.max(x + 12, 0), view.width - tip.offsetWidth - 4);
  const top = y + 16 + tip.offsetHeight > view.height ? y - tip.offsetHeight - 8 : y + 16;
  tip.style.transform = `translate(${left}px, ${top}px)`;
}

function place(view, event) {
  const box = view.stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}
