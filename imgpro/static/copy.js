// The texts that people paste elsewhere, and the clipboard.

import { front, make } from "./elements.js";
import { notify } from "./notify.js";

export const FORMATS = [
  ["link", "Link"],
  ["picture", "Picture"],
  ["markdown", "Markdown"],
  ["html", "HTML"],
  ["bbcode", "BBCode"],
];
const REMEMBERED = "imgpro.format";

// The clipboard API is there only on https and localhost; on a plain LAN address the old command still works.
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused: try the other way.
    }
  }
  const field = make("textarea", { value: text, readOnly: true, className: "unseen", "aria-hidden": "true" });
  const before = document.activeElement;
  front().append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus?.({ preventScroll: true });
  return done;
}

// What copies in a part of the page: `data-copy` names the fields or texts by their ids, `data-what` what to call it.
export function copyButtons(within = document) {
  for (const button of within.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copyOf(button));
  }
  for (const field of within.querySelectorAll("input[readonly]")) field.addEventListener("focus", () => field.select());
}

async function copyOf(button) {
  const from = button.dataset.copy.split(" ").map((id) => document.getElementById(id));
  if (await copy(from.map((one) => one.value ?? one.textContent).join("\n"))) {
    notify(`${button.dataset.what ?? ""} copied.`.replace(/^ c/, "C"));
    if (button.textContent === "Copied") return;
    setTimeout((word) => (button.textContent = word), 2000, button.textContent);
    button.textContent = "Copied";
  } else {
    from[0].focus();
    getSelection().selectAllChildren(from[0]);
    from[0].select?.();
    notify("The browser did not copy it. Select it and press Ctrl+C.", { problem: true });
  }
}

// The text of a picture, as the API shows it, in one of the formats. Each is safe in the language it is for.
export function formatted(image, format) {
  const src = image.signed_src ?? image.src;
  const escaped = src.replaceAll("&", "&amp;");
  // A private picture's owner is shown its page as it is; whoever gets the link needs the signature in it.
  const page = image.signed_src && !image.url.includes("?") ? image.url + new URL(src).search : image.url;
  if (format === "picture") return src;
  if (format === "markdown") return `![${image.name.replace(/[[\]\\`*_<>!]/g, "\\$&")}](${src})`;
  if (format === "html") {
    const size = `width="${image.width}" height="${image.height}"`;
    return `<a href="${page.replaceAll("&", "&amp;")}"><img src="${escaped}" ${size} alt=""></a>`;
  }
  if (format === "bbcode") return `[url=${page}][img]${src}[/img][/url]`;
  return page;
}

export function chosenFormat() {
  try {
    const name = localStorage.getItem(REMEMBERED);
    if (FORMATS.some(([known]) => known === name)) return name;
  } catch {
    // Storage is forbidden here: the first is as good as any.
  }
  return FORMATS[0][0];
}

export function chooseFormat(name) {
  try {
    localStorage.setItem(REMEMBERED, name);
  } catch {
    // Then it holds for this page only.
  }
}
