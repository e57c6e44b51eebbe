// A flow's drawing, with the step lit where a call is.

const SVG = "image/svg+xml";

// The SVG's text as an element of this page, without anything that could run.
export function parseDrawing(text) {
  const svg = new DOMParser().parseFromString(text, SVG).documentElement;
  if (svg.localName !== "svg") throw new Error("no drawing");
  for (const element of svg.querySelectorAll("script, foreignObject")) element.remove();
  for (const element of [svg, ...svg.querySelectorAll("*")]) {
    for (const { name } of [...element.attributes]) if (name.startsWith("on")) element.removeAttribute(name);
  }
  const drawing = document.importNode(svg, true);
  drawing.style.setProperty("--natural", `${Number(svg.getAttribute("width")) || 0}px`);
  return drawing;
}

// Lights `step` and marks the others of `visited` as passed; brings it into sight within `frame`.
export function light(svg, step, visited, frame) {
  for (const element of svg.querySelectorAll("[data-step]")) {
    const name = element.dataset.step;
    element.classList.toggle("current", name === step);
    element.classList.toggle("visited", name !== step && visited.has(name));
  }
  const current = svg.querySelector(".current");
  if (!current || !frame) return;
  const [at, around] = [current.getBoundingClientRect(), frame.getBoundingClientRect()];
  const middle = (from, to, size) => from + to / 2 - size / 2;
  frame.scrollTo({
    top: frame.scrollTop + middle(at.top - around.top, at.height, around.height),
    left: frame.scrollLeft + middle(at.left - around.left, at.width, around.width),
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
  });
}
