// What all pages need to speak with the server: calls, their failures in words, sizes and times, live events.

export const root = new URL("../", import.meta.url);

// A link of the API as this page can follow it. Links start with the name in the server's settings; the page may have been
// opened under another, and its policy lets it load from there only.
export function here(link) {
  const { pathname, search } = new URL(link, root);
  const [path] = pathname.match(/(?:(?<=\/)t\/)?[^/]*$/);
  return new URL(path + search, root).href;
}

export const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

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

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function when(seconds) {
  return moments.format(new Date(seconds * 1000));
}

// Live events of whoever is signed in. `reset`: something may have been missed, read everything again.
// A tab that nobody looks at does not listen: browsers allow six connections to a server, over all tabs.
export function listen({ uploaded, changed, deleted, reset, state } = {}) {
  const takers = { uploaded, changed, deleted, reset };
  let source = null;
  let missed = false;
  let timer = 0;

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(new URL("v1/events", root));
    source.addEventListener("open", () => {
      state?.(true);
      if (missed) reset?.();
      missed = true;
    });
    source.addEventListener("error", () => {
      state?.(false);
      // Refused for now (too many listen, the server restarts): the browser does not come back by itself.
      if (source?.readyState === EventSource.CLOSED) {
        stop();
        timer = setTimeout(open, 30_000);
      }
    });
    for (const [name, take] of Object.entries(takers)) {
      if (take) source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    }
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  const look = () => (document.hidden ? stop() : open());
  document.addEventListener("visibilitychange", look);
  // A page that the browser keeps for the way back holds no connection either.
  addEventListener("pagehide", stop);
  addEventListener("pageshow", open);
  open();
  return {
    close() {
      document.removeEventListener("visibilitychange", look);
      removeEventListener("pagehide", stop);
      removeEventListener("pageshow", open);
      stop();
    },
  };
}
