// Spans of time, sorted by their beginning.

export function lengthOf(span) {
  return (span.to_ms ?? Infinity) - span.from_ms;
}

// A span that has no end yet lasts until now.
export function endOf(span, now) {
  return span.to_ms ?? Math.max(now, span.from_ms);
}

// The index of the first one that begins at `ms` or later.
export function firstAfter(spans, ms) {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].from_ms < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
