// Short messages at the foot of the page, read out by screen readers; one that can be undone waits for the answer.

let region = null;

function place() {
  if (region === null) {
    region = document.createElement("div");
    region.className = "notes";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  return region;
}

// Resolves to "undone" or "closed". `undo` is the word on the button; a message about a problem stays longer.
// With `signal` whoever said it can take it back ("closed").
export function notify(text, { undo = "", seconds = undo ? 7 : 4, problem = false, signal } = {}) {
  const note = document.createElement("p");
  note.className = problem ? "note-line wrong" : "note-line";
  note.append(Object.assign(document.createElement("span"), { textContent: text }));
  place().append(note);
  return new Promise((resolve) => {
    let timer = 0;
    const end = (how) => {
      clearTimeout(timer);
      note.remove();
      resolve(how);
    };
    const start = () => (timer = setTimeout(end, (problem ? Math.max(seconds, 8) : seconds) * 1000, "closed"));
    if (undo) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: undo });
      button.className = "plain";
      button.addEventListener("click", () => end("undone"));
      note.append(button);
    }
    // Nobody is hurried who is about to use it.
    note.addEventListener("pointerenter", () => clearTimeout(timer));
    note.addEventListener("pointerleave", start);
    note.addEventListener("focusin", () => clearTimeout(timer));
    note.addEventListener("focusout", start);
    signal?.addEventListener("abort", () => end("closed"));
    start();
  });
}
