// Link fields select themselves, and their buttons copy. Without this the fields can still be copied by hand.

const status = document.getElementById("status");

for (const row of document.querySelectorAll(".copy")) {
  const field = row.querySelector("input");
  const button = row.querySelector("button");
  field.addEventListener("focus", () => field.select());
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copy(field);
    button.textContent = done ? "Copied" : "Copy";
    status.textContent = done ? `${row.querySelector("label").textContent} copied.` : "Press Ctrl+C to copy.";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// The clipboard API is there only on https and localhost; on a plain LAN address the old command still works.
async function copy(field) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(field.value);
      return true;
    } catch {
      // Refused: try the other way.
    }
  }
  field.focus();
  field.select();
  return document.execCommand("copy");
}
