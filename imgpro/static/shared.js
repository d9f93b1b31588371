// The links of what was shared: they select themselves, and one button copies them all.

import { copy } from "./copy.js";

const fields = [...document.querySelectorAll(".link")];
const all = document.getElementById("all");

for (const field of fields) field.addEventListener("focus", () => field.select());
all.hidden = false;
all.addEventListener("click", async () => {
  const done = await copy(fields.map((field) => field.value).join("\n"));
  all.textContent = done ? "Copied" : "Not copied: select the links below";
});
