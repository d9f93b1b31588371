// Short messages at the foot of the page, read out by screen readers; one that can be undone waits for the answer.

import { front, make } from "./elements.js";

// It is there before its first message, or that one would not be read out.
const region = document.querySelector(".notes") ?? make("div", { className: "notes", role: "status" });

function place() {
  if (region.parentElement !== front()) front().append(region);
}

place();
// A dialog that opens or closes meanwhile takes nothing with it.
for (const name of ["toggle", "close"]) document.addEventListener(name, place, true);

// Resolves to "undone" or "closed". `undo` is the word on the button; a message about a problem stays longer.
// With `signal` whoever said it can take it back ("closed").
export function notify(text, { undo = "", seconds = undo ? 7 : 4, problem = false, signal } = {}) {
  const note = make("p", { className: problem ? "note-line wrong" : "note-line" }, make("span", {}, text));
  const before = document.activeElement;
  place();
  region.append(note);
  return new Promise((resolve) => {
    let timer = 0;
    let over = false;
    const end = (how) => {
      const inside = note.contains(document.activeElement);
      clearTimeout(timer);
      note.remove();
      resolve(how);
      // Back to where one was, unless whoever asked leads elsewhere.
      if (inside) setTimeout(() => document.activeElement === document.body && before?.focus({ preventScroll: true }));
    };
    // Nobody is hurried who is about to use it.
    const start = () => {
      clearTimeout(timer);
      if (over || note.matches(":focus-within")) return;
      timer = setTimeout(end, (problem ? Math.max(seconds, 8) : seconds) * 1000, "closed");
    };
    if (undo) {
      const button = make("button", { type: "button", className: "plain" }, undo);
      button.addEventListener("click", () => end("undone"));
      note.append(button);
    }
    note.addEventListener("pointerenter", () => start((over = true)));
    note.addEventListener("pointerleave", () => start((over = false)));
    note.addEventListener("focusin", start);
    note.addEventListener("focusout", start);
    signal?.addEventListener("abort", () => end("closed"));
    start();
  });
}
