// Sends files and addresses, a few at a time: progress, cancelling, waiting when the server says so, trying again.

import { Problem, call, csrf, lost, root } from "./api.js";
import { mediaOf } from "./recent.js";

const PARALLEL = 3;
const UNDER_WAY = new Set(["sending", "preparing"]);

export const underWay = (item) => UNDER_WAY.has(item.state);
export const stopped = (item) => item.state === "failed" || item.state === "cancelled";
export const pending = (item) => item.state === "queued" || item.state === "waiting";

// States: queued, sending, preparing, waiting, done, failed, cancelled.
export class Queue {
  items = [];
  until = 0; // before then nothing is begun, in milliseconds of the clock
  #run = new Set(); // what was added or tried again since there last was nothing to do
  #timer = 0;
  #changed;
  #stored;
  #ended;

  // `changed()` after every change, `stored(image)` for each that is done, `ended(items)` when nothing is left to do,
  // with what was asked for since there last was nothing.
  constructor({ changed, stored, ended }) {
    this.#changed = changed;
    this.#stored = stored;
    this.#ended = ended;
  }

  add(things) {
    const fresh = { until: 0, sent: 0, speed: 0, alone: things.length === 1 };
    const items = things.map((thing) => {
      return { ...fresh, ...thing, key: newKey(), state: thing.refused ? "failed" : "queued" };
    });
    this.items.unshift(...items); // what came last is waited for most
    this.#run = new Set([...this.#run, ...items]);
    this.#go();
  }

  retry(items) {
    for (const item of items) {
      if (!stopped(item) || item.refused) continue;
      Object.assign(item, { until: 0, sent: 0, state: item.request ? "preparing" : "queued", unwanted: false });
      this.#run.add(item);
    }
    this.#go();
  }

  cancel(items) {
    for (const item of items) {
      if (!underWay(item) && !pending(item)) continue;
      // What has arrived in full cannot be called back: it is taken away as soon as it is there.
      item.unwanted = item.state === "preparing";
      if (!item.unwanted) {
        item.request?.abort();
        item.request = null;
      }
      item.state = "cancelled";
    }
    this.#go();
  }

  // Forget about those that are over.
  clear() {
    this.items = this.items.filter((item) => underWay(item) || pending(item));
    this.#changed();
  }

  // Do not wait any longer.
  now() {
    this.until = 0;
    for (const item of this.items) item.until = 0;
    this.#go();
  }

  get busy() {
    return this.items.some((item) => underWay(item) || pending(item));
  }

  #go() {
    clearTimeout(this.#timer);
    const now = Date.now();
    let free = PARALLEL - this.items.filter(underWay).length;
    if (now >= this.until) {
      for (const item of this.items) {
        if (free <= 0) break;
        if (pending(item) && item.until <= now) {
          this.#send(item);
          free -= 1;
        }
      }
    }
    // The countdown is shown, so every second something changes.
    if (free > 0 && this.items.some(pending)) this.#timer = setTimeout(() => this.#go(), 1000);
    this.#changed();
    if (!this.busy && this.#run.size) {
      const run = [...this.#run];
      this.#run.clear();
      this.#ended(run);
    }
  }

  #send(item) {
    const request = new XMLHttpRequest();
    item.request = request;
    item.state = "sending";
    item.speed = 0;
    request.open("POST", new URL(item.file ? "v1/upload" : "v1/import", root));
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", item.key);
    if (csrf) request.setRequestHeader("X-CSRF-Token", csrf);
    if (item.file) this.#watch(item, request);
    else item.state = "preparing";
    request.addEventListener("load", () => this.#answered(item, request));
    request.addEventListener("error", () => this.#lost(item));
    if (item.file) request.send(formOf(item));
    else {
      request.setRequestHeader("Content-Type", "application/json");
      request.send(JSON.stringify({ ...item.fields, url: item.url }));
    }
  }

  #watch(item, request) {
    let [began, before] = [performance.now(), 0];
    request.upload.addEventListener("progress", (event) => {
      const seconds = (performance.now() - began) / 1000;
      item.sent = Math.min(event.loaded, item.file.size); // the form around the file is nobody's business
      if (seconds > 1 || (!item.speed && seconds > 0.2)) {
        item.speed = (event.loaded - before) / seconds;
        [began, before] = [performance.now(), event.loaded];
      }
      this.#changed();
    });
    request.upload.addEventListener("load", () => {
      if (item.state !== "sending") return;
      item.sent = item.file.size;
      item.state = "preparing";
      this.#changed();
    });
  }

  #answered(item, request) {
    const answer = request.response;
    item.request = null;
    if (request.status === 201 && answer?.id) this.#arrived(item, answer);
    else if (!item.unwanted) this.#refused(item, request, answer);
    this.#go();
  }

  async #arrived(item, image) {
    if (item.unwanted) {
      item.key = newKey(); // the old one would be answered with what is no more
      const gone = await call("DELETE", mediaOf(image)).catch((error) => error.status === 404);
      if (gone || item.state !== "cancelled") return;
    }
    Object.assign(item, { image, state: "done" });
    this.#stored(image);
    this.#changed();
  }

  #refused(item, request, answer) {
    const problem = new Problem(request.status, answer);
    const seconds = Number(request.getResponseHeader("Retry-After")) || problem.seconds;
    const again = [429, 503].includes(request.status) || problem.code === "idempotency_key_in_progress";
    if (again && seconds > 0) {
      Object.assign(item, { state: "waiting", problem, until: Date.now() + seconds * 1000 });
      if (request.status !== 409) this.until = Math.max(this.until, item.until); // it holds for all
    } else Object.assign(item, { state: "failed", problem });
  }

  async #lost(item) {
    item.request = null;
    const problem = lost();
    try {
      await item.file?.slice(0, 1).arrayBuffer();
    } catch {
      problem.sentences = ["The file cannot be read any more. It was changed, moved or deleted: choose it again."];
    }
    if (underWay(item)) Object.assign(item, { state: "failed", problem });
    this.#go();
  }
}

function formOf(item) {
  const form = new FormData();
  for (const [name, value] of Object.entries(item.fields)) form.set(name, value);
  form.set("file", item.file, item.file.name || "picture");
  return form;
}

// Not `randomUUID`, which is missing on plain http.
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
