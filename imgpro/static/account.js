// An account's own page: local times, buttons that copy, and a question before a key is revoked.

import { day, forget, when } from "./api.js";
import { confirmForms } from "./confirm.js";
import { copyButtons } from "./copy.js";

export function localTimes(within = document) {
  for (const place of within.querySelectorAll("[data-at]")) place.textContent = when(Number(place.dataset.at));
  for (const place of within.querySelectorAll("[data-day]")) place.textContent = day(Number(place.dataset.day));
}

localTimes();
copyButtons();
for (const form of document.querySelectorAll("form[action$='sign-out']")) form.addEventListener("submit", forget);
confirmForms();
