// Problems and endings, in words, with a way out.

import { h } from "../shared/dom.js";
import { ACTS, PROBLEMS, causeWords, plain, waiting } from "./words.js";

// `act` takes the name of the chosen way out
export function problemNotice(problem, act) {
  const { title, text, acts } = PROBLEMS[problem.kind] ?? PROBLEMS.failed;
  // The server's own words help where ours are general.
  const told = ["failed", "missing", "refused"].includes(problem.kind) && problem.message ? ` (${problem.message})` : "";
  const buttons = acts.map((name, i) => {
    const button = h("button", { type: "button", class: i ? "button" : "button primary", "data-act": name }, ACTS[name]);
    button.addEventListener("click", () => act(name));
    return button;
  });
  return h(
    "div",
    { class: "notice-card is-bad", "data-problem": problem.kind },
    h("h3", {}, title),
    h("p", {}, text + told),
    buttons.length ? h("div", { class: "notice-acts" }, ...buttons) : null,
  );
}

export function waitNotice(tries) {
  return h("div", { class: "notice-card is-wait" }, h("h3", {}, "The connection was interrupted"), h("p", {}, waiting(tries)));
}

export function endNotice({ cause, outcome }, facts) {
  return h(
    "div",
    { class: "notice-card is-end" },
    h("h3", {}, outcome ? "The call has ended: " : "The call has ended", outcome ? h("strong", {}, plain(outcome)) : null),
    h("p", {}, [causeWords(cause), facts].filter(Boolean).join(" ")),
  );
}

// `enter` takes a token and gives words when it was wrong, else nothing
export function signInNotice(enter) {
  const token = h("input", { id: "token", type: "password", required: true, autocomplete: "current-password", maxlength: "512" });
  const button = h("button", { type: "submit", class: "button primary" }, "Sign in");
  const wrong = h("p", { class: "wrong", id: "token-wrong", role: "alert", hidden: true });
  const form = h(
    "form",
    { class: "notice-card sign-in-card" },
    h("h3", {}, "Please sign in"),
    h("p", {}, "This server takes calls from those who have a token."),
    h("label", { for: "token" }, "Access token"),
    h("div", { class: "sign-in-row" }, token, button),
    wrong,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const words = await enter(token.value);
    button.disabled = false;
    wrong.hidden = !words;
    wrong.textContent = words ?? "";
    token.setAttribute("aria-invalid", String(Boolean(words)));
    if (words) token.setAttribute("aria-describedby", "token-wrong");
    if (words) token.select();
  });
  return form;
}
