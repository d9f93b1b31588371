// Asks in a dialog before a form with `data-question` is sent. Without script the server asks on a page of its own.

import { make } from "./elements.js";

// Resolves to null, or to what was typed ("" where nothing had to be).
function ask({ question, words, button, typed = "" }) {
  const field = make("input", { autocomplete: "off", autocapitalize: "off", spellcheck: false });
  const yes = make("button", { className: "danger", value: "yes", textContent: button, disabled: Boolean(typed) });
  const no = make("button", { className: "plain", value: "no", textContent: "Cancel", type: "button" });
  const heading = make("h2", { id: "question", textContent: question });
  const form = make("form", { method: "dialog" }, heading, make("p", { textContent: words }));
  if (typed) form.append(make("label", {}, `To go on, type ${typed} `, field));
  form.append(make("p", { className: "actions" }, yes, no));
  const dialog = make("dialog", { "aria-labelledby": "question" }, form);
  field.addEventListener("input", () => (yes.disabled = field.value.trim().toLowerCase() !== typed.toLowerCase()));
  no.addEventListener("click", () => dialog.close("no"));
  document.body.append(dialog);
  dialog.showModal();
  (typed ? field : no).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? field.value.trim() : null);
    });
  });
}

export function confirmForms() {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const { question, words, button, typed } = form.dataset;
    if (!question || form.elements.sure) return;
    event.preventDefault();
    const answer = await ask({ question, words, button, typed });
    if (answer === null) return;
    for (const [name, value] of [["sure", "1"], ["typed", answer]]) {
      form.append(make("input", { type: "hidden", name, value }));
    }
    form.requestSubmit(event.submitter);
  });
}
