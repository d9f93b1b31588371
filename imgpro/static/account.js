// An account's own page: local times, buttons that copy, and a question before a key is revoked.

import { when } from "./api.js";
import { confirmForms } from "./confirm.js";
import { copy } from "./copy.js";
import { notify } from "./notify.js";

const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function localTimes(within = document) {
  for (const place of within.querySelectorAll("[data-at]")) place.textContent = when(Number(place.dataset.at));
  for (const place of within.querySelectorAll("[data-day]")) {
    place.textContent = days.format(new Date(Number(place.dataset.day) * 1000));
  }
}

export function copyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = button.parentElement.querySelector("input");
    if (await copy(field.value)) {
      notify("Copied.");
    } else {
      field.select();
      notify("Press Ctrl+C to copy what is selected.", { problem: true });
    }
  });
}

localTimes();
copyButtons();
confirmForms();
for (const field of document.querySelectorAll(".copy input[readonly]")) {
  field.addEventListener("focus", () => field.select());
}
