// The talk page: puts the call, its feed and what is seen of them together.

import { h } from "../shared/dom.js";
import { keepAwake } from "./awake.js";
import { Call } from "./call.js";
import { Captions } from "./captions.js";
import { Devices } from "./devices.js";
import { Feed } from "./feed.js";
import { forget, keep, kept } from "./kept.js";
import { Keypad } from "./keypad.js";
import { BUSY, IN_CALL } from "./machine.js";
import { FlowMap } from "./map.js";
import { Meters } from "./meters.js";
import { endNotice, problemNotice, signInNotice, waitNotice } from "./notices.js";
import { signIn, whoAmI } from "./server.js";
import { drawSlots, drawTools } from "./state.js";
import { drawTimes } from "./times.js";
import { STATUS, clock, networkWords, plain, spoken } from "./words.js";

const SECOND_MS = 1000;
const KEPT = "voicegate-feed"; // over a reload, in this tab alone
const LOOK_AGAIN_MS = 5000; // for a server that is away while nobody is in a call

const at = (id) => document.getElementById(id);
const page = at("main");

let feed = new Feed();
let network = null; // the latest sample
let stale = 0; // the frame in which the feed is drawn next
let again = 0;

const map = new FlowMap(at("drawing"), at("larger"));
const captions = new Captions(at("log"));
const meters = new Meters({ you: at("level-you"), agent: at("level-agent") }, { you: at("halo-you"), agent: at("halo-agent") });
const keypad = new Keypad(at("keypad"), (digit) => call.state.phase === "live" && call.send({ type: "digit", digit }));
const call = new Call({
  state: changed,
  message: heard,
  voice: speak,
  microphone: (stream) => meters.watch("you", stream),
  trouble,
});
const devices = new Devices(
  { microphone: at("microphone"), speaker: at("speaker"), speakerLabel: at("speaker-label"), audio: at("voice") },
  (id) => call.choose(id),
);
call.device = devices.chosen.microphone;

// The call

function press(silent = false) {
  meters.wake();
  call.tell({ is: "pressed", flow: at("flow").value, silent });
}

function changed(state, before) {
  const { phase } = state;
  if (phase === "asking" && !state.resume) begin();
  page.dataset.phase = phase;
  page.classList.toggle("is-busy", BUSY.has(phase));
  at("status").textContent = state.silent && phase === "asking" ? STATUS.connecting : STATUS[phase];
  at("talk-label").textContent = deed(state);
  at("flow").disabled = BUSY.has(phase) || at("flow").options.length < 2;
  at("shaky").hidden = !state.shaky;
  at("clock").hidden = !state.since_ms;
  at("mute").setAttribute("aria-pressed", String(call.muted));
  at("mute").disabled = state.silent && BUSY.has(phase);
  for (const id of ["typed", "send"]) at(id).disabled = phase !== "live";
  keypad.enable(phase === "live");
  if (state.flow && at("flow").value !== state.flow) choose(state.flow);
  tick();
  if (phase === before.phase) return;
  document.title = `${BUSY.has(phase) ? STATUS[phase] : "Talk"} · Voicegate`;
  if (phase === "failed") notice(state.problem.kind === "sign-in" ? signInNotice(enter) : problemNotice(state.problem, act));
  else if (phase === "ended") notice(endNotice(state.end, lasted(state)));
  else if (phase === "lost") notice(waitNotice(state.tries));
  else if (phase !== "resuming") notice(null);
  keepAwake(IN_CALL.has(phase));
  if (phase === "live") devices.refresh();
  else silent();
}

function deed({ phase, resume }) {
  if (IN_CALL.has(phase)) return "Hang up";
  if (BUSY.has(phase)) return "Cancel";
  if (phase === "failed" && resume) return "Reconnect";
  return phase === "ended" ? "Talk again" : "Talk";
}

function begin() {
  feed = new Feed();
  captions.clear();
  keypad.clear();
  draw();
}

function silent() {
  meters.watch("agent", null);
  network = null;
  at("network").hidden = true;
}

function heard(message) {
  const before = feed.step;
  feed.apply(message, network ? (network.rtt_ms ?? 0) + (network.buffer_ms ?? 0) : null);
  if (feed.step !== before) keypad.clear();
  if (!stale) stale = requestAnimationFrame(draw);
}

function speak(stream) {
  const voice = at("voice");
  voice.srcObject = stream;
  meters.watch("agent", stream);
  voice.play().catch(() => {
    const button = h("button", { type: "button", class: "button primary" }, "Turn the sound on");
    button.addEventListener("click", () => {
      voice.play();
      meters.wake();
      notice(null);
    });
    notice(h("div", { class: "notice-card" }, h("h3", {}, "The browser keeps this page silent"), h("div", { class: "notice-acts" }, button)));
  });
}

function lasted({ since_ms: sinceMs }) {
  return sinceMs ? `It took ${spoken(Date.now() - sinceMs)}.` : "";
}

// What is seen

function draw() {
  stale = 0;
  captions.draw(feed.rows);
  drawSlots(at("slots"), feed.view);
  drawTools(at("tools"), feed.tools);
  drawTimes(at("times"), feed.turns);
  const step = at("step");
  step.hidden = !feed.step;
  if (step.textContent !== plain(feed.step)) {
    step.textContent = plain(feed.step);
    map.at(feed.step, feed.visited);
  }
}

// Of the microphone, in the middle of a call.
function trouble(problem) {
  notice(problemNotice(problem, act));
}

function notice(element) {
  at("notices").replaceChildren(...(element ? [element] : []));
}

function act(name) {
  if (IN_CALL.has(call.state.phase)) {
    notice(null);
    if (name === "again") call.choose(call.device);
    return;
  }
  if (name === "again") press(call.state.silent);
  if (name === "silent") press(true);
  if (name === "sign-in") notice(signInNotice(enter));
  if (name === "reload") location.reload();
}

// Who talks, and to which flow

async function enter(token) {
  try {
    await signIn(token);
  } catch ({ kind }) {
    const words = { away: "The server cannot be reached.", "too-many": "Too many attempts. Please wait a minute." };
    return words[kind] ?? "This token is not known.";
  }
  notice(null);
  await meet();
}

async function meet() {
  clearTimeout(again);
  let me;
  try {
    me = await whoAmI();
  } catch (problem) {
    at("talk").disabled = problem.kind === "sign-in";
    at("status").textContent = problem.kind === "sign-in" ? "Not signed in" : "The server is away";
    page.dataset.server = problem.kind;
    notice(problem.kind === "sign-in" ? signInNotice(enter) : problemNotice(problem, () => meet()));
    if (problem.kind !== "sign-in") again = setTimeout(meet, LOOK_AGAIN_MS);
    return;
  }
  if (page.dataset.server) notice(null);
  delete page.dataset.server;
  at("who").replaceChildren(...(me.name ? [h("span", { class: "quiet" }, me.name)] : []));
  const names = me.flows.map((flow) => flow.name ?? flow);
  at("flow").replaceChildren(...names.map((name) => h("option", { value: name }, plain(name))));
  const wanted = call.state.flow || new URLSearchParams(location.search).get("flow");
  choose(names.includes(wanted) ? wanted : names[0]);
  at("talk").disabled = false;
  changed(call.state, call.state);
  if (call.state.phase !== "idle") return;
  call.restore();
  if (call.state.phase === "idle") return;
  feed = Feed.restored(kept(KEPT));
  forget(KEPT);
  draw();
}

function choose(flow) {
  if (flow === undefined) return;
  at("flow").value = flow;
  map.show(flow);
}

// What people do

function toggle(button, place) {
  at(button).addEventListener("click", () => {
    const open = at(place).hidden;
    at(place).hidden = !open;
    at(button).setAttribute("aria-expanded", String(open));
    if (open && place === "devices") devices.refresh();
  });
}

at("talk").addEventListener("click", () => (page.dataset.server ? meet() : press()));
at("flow").addEventListener("change", () => map.show(at("flow").value));
at("mute").addEventListener("click", () => {
  call.mute(!call.muted);
  at("mute").setAttribute("aria-pressed", String(call.muted));
});
at("type").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("typed").value.trim();
  if (text && call.send({ type: "text", text })) at("typed").value = "";
});
toggle("keypad-button", "keypad");
toggle("devices-button", "devices");

function tick() {
  const { phase, since_ms: sinceMs } = call.state;
  if (IN_CALL.has(phase)) at("clock").textContent = clock(Date.now() - sinceMs);
}

setInterval(async () => {
  tick();
  if (call.state.phase !== "live") return;
  network = (await call.leg?.sample().catch(() => null)) ?? network;
  const told = networkWords(network);
  at("network").hidden = !told || call.state.phase !== "live"; // which may have changed by now
  at("network").textContent = told;
}, SECOND_MS);

addEventListener("pagehide", () => {
  if (IN_CALL.has(call.state.phase)) keep(KEPT, feed);
});

draw();
meet();
