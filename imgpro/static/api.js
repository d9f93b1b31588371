// What all pages need to speak with the server: calls, their failures in words, sizes and times.

export const root = new URL("../", import.meta.url);
export const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

// What the gallery keeps for the way back (its key stands here for both): after signing out nothing is left of it.
export const GALLERY = `imgpro.gallery:${root.pathname}`;
if (!csrf) forget();

export function forget() {
  try {
    sessionStorage.removeItem(GALLERY);
  } catch {
    // Storage is forbidden here: nothing was kept.
  }
}

// A link of the API as this page can follow it. Links start with the name in the server's settings; the page may have
// been opened under another, and its policy lets it load from there only.
export function here(link) {
  const { pathname, search } = new URL(link, root);
  const [path] = pathname.match(/(?:(?<=\/)t\/)?[^/]*$/);
  return new URL(path + search, root).href;
}

// A refusal in the server's own words, or (status 0) no answer at all. `sentences` is what to show a person.
export class Problem extends Error {
  constructor(status, answer) {
    super(answer?.message ?? "The server gave no usable answer. Try again.");
    this.status = status;
    this.code = answer?.error ?? "";
    this.details = answer?.details ?? {};
    this.action = answer?.action ?? null;
    this.seconds = answer?.action?.seconds ?? 0;
    const details = Object.values(this.details);
    const way = details.length || !this.action?.label ? details : [`${this.action.label}.`];
    this.sentences = [this.message, ...way];
  }
}

export const lost = () => new Problem(0, { message: "The connection was lost. Try again." });

// Ask the API. `path` starts at the root of the site; an object as body is sent as JSON. Throws Problem.
export async function call(method, path, body, { signal, keepalive, headers } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (csrf && method !== "GET") sent["X-CSRF-Token"] = csrf;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(new URL(path, root), { method, headers: sent, body: content, signal, keepalive });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw new Problem(response.status, answer);
  return answer;
}

export function bytes(count) {
  let size = count;
  for (const unit of ["bytes", "KB", "MB", "GB", "TB"]) {
    if (size < 1024 || unit === "TB") {
      const digits = unit === "bytes" || size >= 100 ? size.toFixed(0) : size.toFixed(1).replace(/\.0$/, "");
      return `${digits} ${unit}`;
    }
    size /= 1024;
  }
}

// Making one costs more than using it, and a gallery has many dates.
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const everywhere = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });

export const when = (seconds) => moments.format(seconds * 1000);

// With `same` the day is the same one everywhere: a date that somebody gave, not a moment.
export const day = (seconds, same) => (same ? everywhere : days).format(seconds * 1000);
