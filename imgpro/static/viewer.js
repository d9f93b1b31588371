// Clicking into a link field selects all of it; the page works without this.
for (const field of document.querySelectorAll(".copy input")) {
  field.addEventListener("focus", () => field.select());
}
