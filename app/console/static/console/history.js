// A call's timeline as data: where the cursor may stop, and how a newer part joins what is known.

// The records that say something, in their order: what the cursor steps through.
export function marksOf(timeline) {
  const marks = new Map();
  for (const list of [timeline.entries, timeline.turns, timeline.verdicts]) {
    for (const { seq, ms } of list) if (seq !== undefined && !marks.has(seq)) marks.set(seq, ms);
  }
  return [...marks].map(([seq, ms]) => ({ seq, ms })).sort((a, b) => a.seq - b.seq);
}

// The index of the last one for which `holds` is true, else -1. It is true for none after one for which it is not.
export function lastWhere(list, holds) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(list[middle])) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// `fresh` tells everything from `from` on; before it the old one stays.
export function merge(old, fresh, from) {
  if (!from) return fresh;
  const kept = (list, end) => list.filter((one) => (one[end] ?? Infinity) < from);
  const lanes = fresh.lanes.map((lane) => {
    const before = old.lanes.find((one) => one.name === lane.name)?.spans ?? [];
    return { name: lane.name, spans: kept(before, "to_ms").concat(lane.spans) };
  });
  for (const lane of old.lanes) {
    if (!lanes.some((one) => one.name === lane.name)) lanes.push({ name: lane.name, spans: kept(lane.spans, "to_ms") });
  }
  const listed = (name) => kept(old[name], "ms").concat(fresh[name].filter((one) => one.ms >= from));
  return { duration_ms: fresh.duration_ms, lanes, entries: listed("entries"), turns: listed("turns"), verdicts: listed("verdicts") };
}

// Whether the lines on the page are these, apart from record numbers, which are then taken over.
export function sameLines(lines, entries) {
  if (lines.length < entries.length) return false;
  for (let i = 0; i < entries.length; i++) {
    if (lines[i].text !== entries[i].text || lines[i].kind !== entries[i].kind) return false;
    lines[i].seq = entries[i].seq;
  }
  return true;
}
