// Shows the queue: a bounded number of rows, what all of it amounts to, and what can be done about it.

import { bytes } from "./api.js";
import { formatted } from "./copy.js";
import { make, sentences } from "./elements.js";
import { pending, stopped, underWay } from "./queue.js";
import { arrange, button, pageOf, thumb, thumbOf, unseen } from "./recent.js";

const MOST = 40; // rows at once; a folder may hold thousands of files

const isDone = (item) => item.state === "done";
const canRetry = (item) => stopped(item) && !item.refused;
export const images = (items) => items.filter(isDone).map((item) => item.image);

export class Rows {
  #place;
  #list;
  #queue;
  #recents;
  #act;
  #rows = new Map();
  #drawing = 0;

  // `act`: `format()` the chosen one, `copy(images)`, `drawn(count, title)` after each time.
  constructor(place, queue, recents, act) {
    this.#place = place;
    this.#list = place.querySelector(".queue");
    this.#queue = queue;
    this.#recents = recents;
    this.#act = act;
    const all = {
      now: () => queue.now(),
      copy: () => act.copy(images(this.#items)),
      retry: () => queue.retry(this.#items),
      cancel: () => queue.cancel(this.#items),
      clear: () => queue.clear(),
    };
    for (const one of place.querySelectorAll(".bar [data-do]")) {
      one.addEventListener("click", all[one.dataset.do]);
    }
  }

  rowOf(item) {
    return this.#rows.get(item);
  }

  // Not more often than the screen is painted.
  soon() {
    this.#drawing ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    const items = this.#items;
    const shown = chosen(items);
    const over = new Set(this.#rows.keys());
    for (const item of shown) {
      if (!over.delete(item)) this.#rows.set(item, new Row(item, this.#queue, this.#recents, this.#act));
      this.#rows.get(item).draw(this.#act.format(), item.alone && item === items[0]);
    }
    const elements = shown.map((item) => this.#rows.get(item).element);
    arrange(this.#list, elements);
    for (const item of over) {
      this.#rows.get(item).end();
      this.#rows.delete(item);
    }
    this.#recents.draw(new Set(images(shown).map((image) => image.id)));
    this.#sum(items, shown.length);
  }

  // What is deleted is no more part of the queue.
  get #items() {
    return this.#queue.items.filter((item) => !this.#recents.hidden.has(item.image?.id));
  }

  #sum(items, rows) {
    const find = (name) => this.#place.querySelector(name);
    const several = items.length > 1;
    const { busy } = this.#queue;
    const done = items.filter(isDone).length;
    const failed = items.filter((item) => item.state === "failed").length;
    const words = [`${done} of ${items.length} done`];
    if (failed) words.push(`${failed} failed`);
    if (busy && this.#queue.until > Date.now()) words.push(`goes on in ${countdown(this.#queue.until)}`);
    find(".sum").textContent = several ? words.join(", ") : "";
    find(".all").hidden = !busy || !several;
    find(".all").value = items.reduce((sum, item) => sum + part(item), 0) / items.length || 0;
    const shows = {
      now: items.some((item) => item.state === "waiting"),
      copy: done > 1,
      retry: several && items.some(canRetry),
      cancel: several && busy,
      clear: items.length && !busy,
    };
    for (const [name, is] of Object.entries(shows)) find(`[data-do=${name}]`).hidden = !is;
    find("[data-do=copy]").textContent = `Copy all ${done} links`;
    const more = items.length - rows;
    find(".rest").textContent = more ? `${more} more are not shown here.` : "";
    this.#place.hidden = !items.length && find(".recents").hidden;
    this.#act.drawn(items.length, several && busy ? `${done} of ${items.length}` : "");
  }
}

// Which items have a row: those under way, some that failed, some to come, and the others that came last.
function chosen(items) {
  if (items.length <= MOST) return items;
  const picked = new Set(items.filter(underWay));
  const take = (some, most) => some.slice(0, Math.max(0, most - picked.size)).forEach((item) => picked.add(item));
  take(items.filter(stopped), MOST / 2);
  take(items.filter(pending), (MOST * 3) / 4);
  take(items.filter((item) => !picked.has(item)), MOST);
  return items.filter((item) => picked.has(item));
}

function part(item) {
  if (item.state === "sending") return (item.sent / (item.file.size || 1)) * 0.9;
  return pending(item) ? 0 : 1;
}

function countdown(until) {
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

class Row {
  #item;
  #name;
  #tile = make("a", { className: "tile", tabIndex: -1, "aria-hidden": "true" }); // "Open" leads to the same page
  #progress;
  #how = make("p", { className: "quiet" });
  #problem = make("div", { className: "problem" });
  #wrong = null;
  #link;
  #buttons;
  #url = "";
  #said = "";

  constructor(item, queue, recents, act) {
    const { name, file } = item;
    this.#item = item;
    this.#name = make("p", { className: "name", textContent: name });
    this.#progress = make("progress", { "aria-label": `Upload of ${name}` });
    this.#link = make("input", { className: "link", readOnly: true, "aria-label": `What is copied of ${name}` });
    this.#link.addEventListener("focus", () => this.#link.select());
    this.#buttons = {
      copy: button("Copy", name, () => act.copy([item.image])),
      open: make("a", { className: "button plain" }, "Open", unseen(name)),
      delete: button("Delete", name, () => recents.remove(item.image)),
      cancel: button("Cancel", name, () => queue.cancel([item])),
      retry: button("Retry", name, () => queue.retry([item])),
    };
    const told = make("div", { className: "told" }, this.#name, this.#progress, this.#how, this.#problem, this.#link);
    const deeds = make("div", { className: "deeds" }, ...Object.values(this.#buttons));
    this.element = make("li", { className: "row" }, this.#tile, told, deeds);
    if (!file) return;
    this.#url = URL.createObjectURL(file);
    this.#tile.append(thumb(this.#url, () => item.image && this.#show(item.image)));
  }

  select() {
    this.#link.focus({ preventScroll: true });
    this.#link.select();
  }

  // What a finished row says under its name besides its size.
  say(text) {
    this.#said = text;
  }

  end() {
    URL.revokeObjectURL(this.#url);
  }

  draw(format, big) {
    const { state, image, problem, file, sent } = this.#item;
    this.element.dataset.state = state;
    this.element.classList.toggle("big", big);
    const ready = isDone(this.#item);
    const goes = underWay(this.#item);
    const cancel = goes || pending(this.#item);
    const shows = { copy: ready, open: ready, delete: ready, cancel, retry: canRetry(this.#item) };
    for (const [name, is] of Object.entries(shows)) this.#buttons[name].hidden = !is;
    this.#progress.hidden = !goes;
    if (state === "sending") this.#progress.value = sent / (file.size || 1);
    else this.#progress.removeAttribute("value");
    this.#how.textContent = this.#words();
    const wrong = state === "failed" ? problem : null;
    if (this.#wrong !== wrong) this.#problem.replaceChildren(...sentences(wrong));
    this.#wrong = wrong;
    this.#link.hidden = !ready;
    if (!ready) return;
    const text = formatted(image, format);
    if (this.#link.value !== text) this.#link.value = text;
    if (this.#tile.href) return;
    this.#name.textContent = image.name;
    this.#tile.href = this.#buttons.open.href = pageOf(image);
    if (!this.#tile.firstChild) this.#show(image);
  }

  // What the browser could not show by itself, the server made something of.
  #show(image) {
    this.#tile.append(thumb(thumbOf(image)));
  }

  #words() {
    const { state, file, sent, speed, image, problem, until } = this.#item;
    const size = file ? bytes(file.size) : "";
    const rate = speed ? `, ${bytes(Math.round(speed))}/s` : "";
    if (state === "waiting") return `${problem.message} Goes on in ${countdown(until)}.`;
    if (isDone(this.#item)) return `${this.#said} ${image.width} × ${image.height}, ${bytes(image.filesize)}`.trim();
    const words = { queued: size && `Waiting, ${size}`, sending: `${bytes(sent)} of ${size}${rate}`, failed: "" };
    return { ...words, preparing: file ? "Preparing" : "Fetching", cancelled: "Cancelled." }[state];
  }
}
