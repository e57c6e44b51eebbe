// What a call's connection does next. Pure: a state and a fact give the next state and orders; nothing here waits,
// asks or draws.
//
//   idle ──pressed──▶ asking ──microphone──▶ connecting ──up──▶ live ──ended, pressed──▶ ended
//                       │                        │               │ down
//                       └──────▶ failed ◀────────┘               ▼
//                                  ▲                            lost ──retry──▶ resuming ──up──▶ live
//                                  └──── too many tries ─────────┴───────down──────┘
//
// A reloaded page starts in `asking` with the token of the call it was in.

const RETRY_MS = [300, 1000, 2000, 4000, 8000];
const MAX_TRIES = 8;
const FINAL = new Set(["gone", "missing", "refused"]); // of a call that is taken up again: it is over

export const START = Object.freeze({
  phase: "idle",
  flow: "",
  call: "",
  resume: "", // the token with which the call can be taken up again
  since_ms: 0, // when it was first live, on the page's clock of Date.now()
  shaky: false,
  tries: 0,
  silent: false, // without a microphone
  problem: null, // {kind, message}
  end: null, // {cause, outcome}
});

export const IN_CALL = new Set(["live", "lost", "resuming"]);
export const BUSY = new Set(["asking", "connecting", "live", "lost", "resuming"]);

// -> [state, orders]; an order is [name, argument]:
// ask: for the microphone (or silence) · connect · drop {goodbye} · wait {ms} · save · forget · release (the microphone)
export function next(state, fact) {
  const known = FACTS[fact.is];
  if (!known) throw new Error(`no such fact: ${fact.is}`);
  return known(state, fact);
}

const same = (state) => [state, []];

const FACTS = {
  pressed(state, { flow = state.flow, silent = false }) {
    if (BUSY.has(state.phase)) return hangUp(state);
    const again = state.phase === "failed" && state.resume ? state : { ...START, flow };
    return [{ ...again, phase: "asking", problem: null, tries: 0, silent }, [["ask", { silent }]]];
  },

  // The page was loaded anew while it was in a call.
  restored(state, { saved }) {
    if (state.phase !== "idle" || !saved?.resume) return same(state);
    const { flow, call, resume, since_ms: sinceMs, silent } = saved;
    const restored = { ...START, phase: "asking", flow, call, resume, since_ms: sinceMs, silent: Boolean(silent) };
    return [restored, [["ask", { silent: restored.silent }]]];
  },

  microphone(state) {
    if (state.phase !== "asking") return same(state);
    return [{ ...state, phase: state.resume ? "resuming" : "connecting" }, [["connect"]]];
  },

  "no-microphone"(state, { problem }) {
    if (state.phase !== "asking") return same(state);
    return [{ ...state, phase: "failed", problem }, []];
  },

  up(state, { now_ms: nowMs }) {
    if (!["connecting", "resuming", "live"].includes(state.phase)) return same(state);
    return [{ ...state, phase: "live", shaky: false, tries: 0, since_ms: state.since_ms || nowMs }, []];
  },

  started(state, { call, resume, flow }) {
    if (!BUSY.has(state.phase)) return same(state);
    return [{ ...state, call: call ?? state.call, resume: resume ?? state.resume, flow: flow || state.flow }, [["save"]]];
  },

  shaky(state) {
    return state.phase === "live" ? [{ ...state, shaky: true }, []] : same(state);
  },

  down(state, { problem }) {
    if (!["connecting", "resuming", "live"].includes(state.phase)) return same(state);
    if (!state.resume) return failed(state, problem);
    if (state.phase === "resuming" && FINAL.has(problem.kind)) return ended(state, { cause: "lost", outcome: "" });
    const tries = state.tries + 1;
    if (tries > MAX_TRIES || problem.kind === "sign-in") return failed(state, problem);
    const wait = RETRY_MS[Math.min(tries - 1, RETRY_MS.length - 1)];
    return [{ ...state, phase: "lost", shaky: false, tries }, [["drop", { goodbye: false }], ["wait", { ms: wait }]]];
  },

  // The pause is over, or the network is back.
  retry(state) {
    return state.phase === "lost" ? [{ ...state, phase: "resuming" }, [["connect"]]] : same(state);
  },

  ended(state, { cause, outcome }) {
    return BUSY.has(state.phase) ? ended(state, { cause, outcome }) : same(state);
  },
};

function hangUp(state) {
  const orders = [["drop", { goodbye: true }], ["forget"], ["release"]];
  if (!IN_CALL.has(state.phase) && !state.call) return [{ ...START, flow: state.flow }, orders];
  return [{ ...state, phase: "ended", resume: "", shaky: false, end: { cause: "caller-hangup", outcome: "" } }, orders];
}

function ended(state, end) {
  const over = { ...state, phase: "ended", resume: "", shaky: false, end };
  return [over, [["drop", { goodbye: false }], ["forget"], ["release"]]];
}

function failed(state, problem) {
  return [{ ...state, phase: "failed", shaky: false, problem }, [["drop", { goodbye: false }], ["release"]]];
}
