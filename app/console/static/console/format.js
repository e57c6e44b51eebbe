// How times and numbers are written, everywhere the same.

// 12.3 s -> "0:12.3"; an hour -> "1:00:00.0"
export function clock(ms, digits = 1) {
  const sign = ms < 0 ? "−" : "";
  const scale = 10 ** digits;
  const all = Math.round((Math.abs(ms) / 1000) * scale) / scale;
  const hours = Math.floor(all / 3600);
  const minutes = Math.floor(all / 60) % 60;
  const seconds = (all % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return sign + (hours ? `${hours}:${String(minutes).padStart(2, "0")}` : minutes) + ":" + seconds;
}

// For reading aloud: "1 minute 12 seconds"
export function spoken(ms) {
  const all = Math.round(ms / 1000);
  const parts = [
    [Math.floor(all / 3600), "hour"],
    [Math.floor(all / 60) % 60, "minute"],
    [all % 60, "second"],
  ].filter(([n, unit], i) => n || (i === 2 && all < 1));
  return parts.map(([n, unit]) => `${n} ${unit}${n === 1 ? "" : "s"}`).join(" ");
}

export function count(n) {
  return Number(n).toLocaleString("en");
}

export function plural(n, one, many = one + "s") {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// "12 Oct 2026, 14:03"; today's only "14:03"
export function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return time;
  return at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" }) + ", " + time;
}

export function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : "–";
}

export function value(v) {
  if (v === null || v === undefined || v === "") return "–";
  if (v === true) return "yes";
  if (v === false) return "no";
  return typeof v === "object" ? JSON.stringify(v) : String(v);
}

// Call ids are long; the tail tells them apart.
export function shortId(id) {
  return id.length > 14 ? "…" + id.slice(-10) : id;
}
