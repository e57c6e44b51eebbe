// What an operator does to a live call: end it, or listen to it. Both are written into the call's journal with the name.

import { post } from "./api.js";
import { h } from "../shared/dom.js";

// Asks once more, then ends the call.
export function hangUp({ path, row, name }) {
  const cancel = h("button", { type: "button", class: "button" }, "Cancel");
  const yes = h("button", { type: "button", class: "button danger" }, "Hang up now");
  const failed = h("p", { class: "notice bad", role: "alert", hidden: true });
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "hangup-title" },
    h("h2", { id: "hangup-title" }, "Hang up this call?"),
    h("p", {}, `${row.caller || "The caller"} is in step ${row.step}. The call ends at once and cannot be taken up again.`),
    h("p", { class: "quiet" }, `The journal will say that ${name} ended it.`),
    failed,
    h("div", { class: "dialog-acts" }, cancel, yes),
  );
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  yes.addEventListener("click", async () => {
    yes.disabled = true;
    try {
      await post(`${path}/hangup`);
      dialog.close();
    } catch (error) {
      failed.textContent = error.message;
      failed.hidden = false;
      yes.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  cancel.focus();
}
