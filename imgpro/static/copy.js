// The texts that people paste elsewhere, and the clipboard.

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
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  field.readOnly = true;
  field.className = "unseen";
  field.setAttribute("aria-hidden", "true");
  // Inside an open dialog, because nothing outside of it can be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus?.({ preventScroll: true });
  return done;
}

// The text of a picture, as the API shows it, in one of the formats. Each is safe in the language it is for.
export function formatted(image, format) {
  const src = image.signed_src ?? image.src;
  const escaped = src.replaceAll("&", "&amp;");
  const page = image.url;
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
