// The console: signing in, which page is shown, and the frame around it.

import { getJson, post } from "./api.js";
import { CallView } from "./call.js";
import { FlowsView } from "./flows.js";
import { LiveView, RecordedView } from "./lists.js";
import { h } from "../shared/dom.js";

const main = document.getElementById("main");
const who = document.getElementById("who");
let me = null;
let view = null;

// hash -> [the navigation's entry, the page's title, how the view is made]
function route(hash) {
  const [path, search] = hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/").map(decodeURIComponent);
  const at = new URLSearchParams(search).get("at");
  switch (page) {
    case "recorded":
      return ["calls", "Recorded calls", () => new RecordedView({ me })];
    case "call":
      return ["calls", `Call ${id}`, () => new CallView({ id, me, at: at === null ? null : Number(at) })];
    case "flows":
      return ["flows", "Flows", () => new FlowsView({ name: id })];
    default:
      return ["calls", "Live calls", () => new LiveView({ me })];
  }
}

function show() {
  if (!me) return;
  view?.close();
  const [nav, title, make] = route(location.hash);
  view = make();
  document.title = `${title} · Voicegate`;
  for (const link of document.querySelectorAll(".nav a")) {
    if (link.dataset.nav === nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(view.element);
  scrollTo(0, 0);
}

async function start() {
  try {
    me = await getJson("/api/me");
  } catch (error) {
    signIn(error.status === 401 ? "" : error.message);
    return;
  }
  document.body.classList.remove("signed-out");
  const out = h("button", { type: "button", class: "button quiet-button" }, "Sign out");
  out.addEventListener("click", async () => {
    await post("/api/logout").catch(() => {});
    signedOut();
  });
  who.replaceChildren(h("span", {}, me.name), h("span", { class: "quiet" }, me.role), out);
  show();
}

function signedOut(words = "") {
  view?.close();
  view = null;
  me = null;
  who.replaceChildren();
  signIn(words);
}

function signIn(words) {
  document.body.classList.add("signed-out");
  document.title = "Sign in · Voicegate";
  const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: "", "aria-describedby": "token-help" });
  const failed = h("p", { class: "notice bad", role: "alert", hidden: !words }, words);
  const go = h("button", { type: "submit", class: "button primary" }, "Sign in");
  const form = h(
    "form",
    { class: "panel sign-in" },
    h("h1", {}, "Sign in"),
    h("p", { class: "quiet", id: "token-help" }, "With a token from this server's settings. It decides what you may do: watch, act, or everything."),
    h("label", { for: "token" }, "Token"),
    token,
    failed,
    go,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    failed.hidden = true;
    try {
      await post("/api/login", { token: token.value });
      await start();
    } catch (error) {
      failed.textContent = error.status === 401 ? "This token is not known here." : error.message;
      failed.hidden = false;
      token.select();
    }
    go.disabled = false;
  });
  main.replaceChildren(form);
  token.focus();
}

addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
});
addEventListener("signed-out", () => me && signedOut("Your sign-in has ended."));
start();
