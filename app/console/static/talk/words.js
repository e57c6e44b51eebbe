// What is said to people. Every problem has a title, an explanation and a way out.

// kind -> {title, text, acts}; an act is "again", "silent" (without a microphone), "sign-in" or "reload"
export const PROBLEMS = {
  insecure: {
    title: "This page needs a secure address",
    text: "Browsers give the microphone only to pages on https:// or on localhost. Open this page there. Until then you can listen and type.",
    acts: ["silent"],
  },
  unsupported: {
    title: "This browser cannot make calls",
    text: "It has no WebRTC. A current Chrome, Edge, Firefox or Safari has.",
    acts: [],
  },
  "mic-refused": {
    title: "The microphone is blocked",
    text: "Allow it for this page: the symbol beside the address opens its settings. If it is allowed there, look into the system’s privacy settings. You can also listen and type.",
    acts: ["again", "silent"],
  },
  "mic-missing": {
    title: "No microphone was found",
    text: "Plug one in or switch it on, then try again. You can also listen and type.",
    acts: ["again", "silent"],
  },
  "mic-busy": {
    title: "The microphone is in use",
    text: "Another program holds it. Close that program, or choose another microphone under Devices. You can also listen and type.",
    acts: ["again", "silent"],
  },
  away: {
    title: "The server is away",
    text: "It does not answer. It may be starting, or your network may be down.",
    acts: ["again"],
  },
  busy: { title: "All lines are busy", text: "The server takes no more calls at the moment. Please try again in a minute.", acts: ["again"] },
  "too-many": { title: "Too many attempts", text: "The server asks for a short pause. Please try again in a minute.", acts: ["again"] },
  refused: { title: "This call is not allowed", text: "Your token does not allow it, or the page came from another address.", acts: ["sign-in", "again"] },
  missing: { title: "There is no such flow", text: "It may have been taken away. Choose another one.", acts: ["reload"] },
  "sign-in": { title: "Please sign in", text: "The server needs a token before it takes your call.", acts: ["sign-in"] },
  network: {
    title: "No sound can pass",
    text: "The server answers, but the network between you lets no media through. A firewall may block UDP; another network may help, or a TURN server.",
    acts: ["again"],
  },
  lost: {
    title: "The connection is gone",
    text: "It could not be made again. If the call still waits for you, you can take it up where it was.",
    acts: ["again"],
  },
  failed: { title: "The call did not begin", text: "Something went wrong on the way.", acts: ["again"] },
};

export const ACTS = { again: "Try again", silent: "Listen and type", "sign-in": "Sign in", reload: "Load the page again" };

export function waiting(tries) {
  return `Your call is kept for you while this page tries to reach it again${tries > 1 ? ` (attempt ${tries})` : ""}.`;
}

export const STATUS = {
  idle: "Ready when you are",
  asking: "Asking for the microphone …",
  connecting: "Connecting …",
  live: "In call",
  lost: "Connection lost",
  resuming: "Reconnecting …",
  ended: "Call ended",
  failed: "Not connected",
};

const CAUSES = {
  flow: "The conversation came to its end.",
  "caller-hangup": "You hung up.",
  operator: "An operator ended the call.",
  "operator-hangup": "An operator ended the call.",
  silence: "Nobody spoke for a long time.",
  duration: "The call had reached its longest time.",
  "leg-lost": "The connection was away for too long.",
  lost: "It had ended before the connection was back.",
  drain: "The server is being shut down.",
  "internal-error": "Something went wrong on the server.",
};

export function causeWords(cause) {
  return CAUSES[cause] ?? (cause ? `Cause: ${plain(cause)}.` : "");
}

// As the console has it: what is withheld is dots.
export function shown(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (value === "[withheld]") return "•••";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// 0:42
export function clock(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

// 1 minute and 12 seconds
export function spoken(ms) {
  const s = Math.max(1, Math.round(ms / 1000));
  const [minutes, seconds] = [Math.floor(s / 60), s % 60];
  const words = (n, unit) => `${n} ${unit}${n === 1 ? "" : "s"}`;
  return [minutes && words(minutes, "minute"), seconds && words(seconds, "second")].filter(Boolean).join(" and ");
}

export function networkWords(sample) {
  if (!sample) return "";
  const { rtt_ms: rtt, jitter_ms: jitter, lost } = sample;
  return [rtt !== null && `${rtt} ms there and back`, jitter !== null && `jitter ${jitter} ms`, lost !== null && `${Math.round(100 * lost)} % lost`]
    .filter(Boolean)
    .join(" · ");
}

// patient_id, not-booked -> patient id, not booked
export function plain(name) {
  return String(name).replaceAll(/[_-]+/g, " ");
}

// The gate's decision, with the check that decided.
export function verdictWords({ decision, rule, reason }) {
  const said = DECISIONS[decision] ?? decision;
  return [rule && rule !== "all" ? `${said} by ${plain(rule)}` : said, reason].filter(Boolean).join(": ");
}

const DECISIONS = { allowed: "Allowed", started: "Allowed", held: "Held", refused: "Refused", withdrawn: "Withdrawn" };

export const TOOL_STATES = {
  held: ["waits for your yes", "wait"],
  allowed: ["allowed", "busy"],
  running: ["running", "busy"],
  done: ["done", "good"],
  failed: ["failed", "bad"],
  unknown: ["outcome unknown", "bad"],
  declined: ["declined", "wait"],
  withdrawn: ["withdrawn", "wait"],
  refused: ["refused", "bad"],
};
