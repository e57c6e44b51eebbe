// The few things that the page asks the server for, beside the call itself. Failures are {kind, message}.

import { parseDrawing } from "../shared/drawing.js";

const KINDS = { 401: "sign-in", 403: "refused", 404: "missing", 429: "too-many", 503: "busy" };

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw { kind: "away", message: "" };
  }
  if (!response.ok) throw { kind: KINDS[response.status] ?? "failed", message: "" };
  return response;
}

// {name, role, flows, version}
export async function whoAmI() {
  return (await ask("/api/me")).json();
}

export async function signIn(token) {
  await ask("/api/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
}

export async function drawingOf(flow, signal) {
  return parseDrawing(await (await ask(`/api/flows/${encodeURIComponent(flow)}/graph.svg`, { signal })).text());
}
