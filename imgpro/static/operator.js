// The operator's pages: what account.js does, and numbers and log that follow what happens.

import { localTimes } from "./account.js";
import { notify } from "./notify.js";

const EVERY_MS = 20_000;
const CLOSELY_MS = 2_000; // while long work is shown

// Ask for this page anew and put the parts with these ids into place. Text only comes from our own server's page.
async function refresh(ids) {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) throw new Error(`status ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (!old || !fresh || old.contains(document.activeElement)) continue;
    const adopted = document.importNode(fresh, true);
    localTimes(adopted);
    old.replaceWith(adopted);
  }
}

const live = [...document.querySelectorAll("[data-live]")].map((part) => part.id);
if (live.length) {
  const look = async () => {
    const closely = document.querySelector("[data-under-way]");
    await new Promise((resolve) => setTimeout(resolve, closely ? CLOSELY_MS : EVERY_MS));
    // Numbers change slowly; of long work it is one part that moves, and how it ended.
    const ids = closely ? [closely.closest("[data-live]").id, "worries"] : live;
    if (!document.hidden && !document.querySelector("dialog[open]")) await refresh(ids).catch(() => {});
    look();
  };
  look();
}

const reload = document.querySelector("[data-reload]");
reload?.addEventListener("click", async (event) => {
  event.preventDefault();
  try {
    await refresh([reload.dataset.reload]);
    notify("This is the newest.");
  } catch {
    notify("The server gave no answer. Try again.", { problem: true });
  }
});
