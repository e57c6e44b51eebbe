// How long the caller waited for each answer, and for what.

import { h } from "../shared/dom.js";

const SHOWN = 6;
const SCALE_MS = 1200; // at least this long is the strip's whole width
const PARTS = [
  ["endpointing_ms", "Endpointing", "deciding that you have finished"],
  ["model_ms", "Model", "finding the words"],
  ["tts_ms", "TTS", "making the voice"],
  ["network_ms", "Network", "there and back, and the browser’s buffer"],
];

export function drawTimes(place, turns) {
  if (!turns.length) {
    place.replaceChildren(h("p", { class: "quiet" }, "From your last word to the agent’s first, turn by turn."));
    return;
  }
  const shown = turns.slice(-SHOWN).reverse();
  const most = Math.max(SCALE_MS, ...shown.map(whole));
  place.replaceChildren(legend(shown[0]), h("ol", { class: "strips" }, ...shown.map((turn) => strip(turn, most))));
}

function strip(turn, most) {
  const bars = PARTS.map(([key]) => {
    const bar = h("span", { class: `part part-${key.slice(0, -3)}` });
    bar.style.width = `${(100 * turn[key]) / most}%`;
    return bar;
  });
  const told = PARTS.map(([key, name]) => `${name} ${turn[key]} ms`).join(", ");
  return h(
    "li",
    { title: told },
    h("span", { class: "visually-hidden" }, `Turn ${turn.n}: ${told}, together `),
    h("span", { class: "bars", "aria-hidden": "true" }, ...bars),
    h("span", { class: "num" }, `${whole(turn)} ms`),
  );
}

// The parts' colours, with the latest turn's figures.
function legend(turn) {
  return h(
    "ul",
    { class: "legend", "aria-hidden": "true" },
    ...PARTS.map(([key, name, about]) => {
      const swatch = h("span", { class: `part part-${key.slice(0, -3)}` });
      return h("li", { title: about }, swatch, name, h("span", { class: "num" }, String(turn[key])));
    }),
  );
}

function whole(turn) {
  return PARTS.reduce((sum, [key]) => sum + turn[key], 0);
}
