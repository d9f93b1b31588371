// Recent uploads in this browser. What was uploaded without an account is kept in full, because nothing else knows of
// it; of an account's pictures only the ids, under its own name: the server tells the rest to whoever is signed in.

import { call, here, root } from "./api.js";
import { make } from "./elements.js";
import { notify } from "./notify.js";

const MOST = 100;
const FIRST = 12; // shown before "Show all"
const ID = /^[0-9A-Za-z]{12}$/;

export const pageOf = (image) => here(image.url);
export const thumbOf = (image) => here(image.thumb);

// Where to delete a picture: by its own token, or as the account that it belongs to.
export function mediaOf(image) {
  return `v1/media/${image.id}${image.delete_url ? new URL(image.delete_url, root).search : ""}`;
}

export class Recents {
  hidden = new Set(); // ids that are deleted, or will be unless somebody says "undo"
  #place;
  #list;
  #act;
  #keys;
  #kept = []; // nobody's pictures
  #ids = []; // the account's
  #known = new Map(); // those of them that the server told about
  #all = false;
  #waiting = new Map();

  // `act`: `copy(images)`, `changed()` when this is to be drawn anew.
  constructor(place, account, act) {
    this.#place = place;
    this.#list = place.querySelector(".recent");
    this.#act = act;
    this.#keys = [`imgpro.recent:${root.pathname}`];
    if (account) this.#keys.push(`${this.#keys[0]}:${account}`);
    const on = (name, what) => place.querySelector(`[data-do=${name}]`).addEventListener("click", what);
    on("more", () => this.#change(() => (this.#all = true)));
    on("forget", () => this.#forget());
    addEventListener("storage", (event) => {
      if (event.key === null || this.#keys.includes(event.key)) this.load();
    });
    addEventListener("pagehide", () => {
      for (const [image, thinking] of [...this.#waiting]) {
        thinking.abort();
        this.#delete(image, true);
      }
    });
  }

  // Read the list, and ask about the pictures in it that only the server can tell about.
  async load() {
    this.#restore();
    const unknown = this.#ids.filter((id) => !this.#known.has(id));
    const found = unknown.length && (await call("GET", `v1/media?limit=${MOST}&ids=${unknown}`).catch(() => null));
    if (found) {
      for (const image of found.data) this.#known.set(image.id, image);
      this.#save(() => (this.#ids = this.#ids.filter((id) => this.#known.has(id))));
    }
    this.#act.changed();
  }

  add(image) {
    const { placeholder, sizes, ...kept } = image;
    this.#save(() => {
      this.#drop(image.id);
      if (this.#keys.length > 1) {
        this.#known.set(image.id, image);
        this.#ids.unshift(image.id);
      } else this.#kept.unshift(kept);
    });
  }

  // Take a picture away for good, unless its uploader thinks again.
  async remove(image) {
    const thinking = new AbortController();
    this.#waiting.set(image, thinking);
    this.#change(() => this.hidden.add(image.id));
    const end = await notify(`${image.name} is deleted.`, { undo: "Undo", signal: thinking.signal });
    if (!this.#waiting.delete(image)) return;
    if (end === "undone") this.#change(() => this.hidden.delete(image.id));
    else await this.#delete(image);
  }

  async #delete(image, leaving = false) {
    this.#waiting.delete(image);
    if (leaving) this.#save(() => this.#drop(image.id));
    try {
      await call("DELETE", mediaOf(image), undefined, { keepalive: leaving });
    } catch (error) {
      if (error.status !== 404) {
        this.#change(() => this.hidden.delete(image.id));
        notify([`${image.name} is still there.`, ...error.sentences].join(" "), { problem: true });
        return;
      }
    }
    this.#save(() => this.#drop(image.id));
  }

  async #forget() {
    const [kept, ids] = [this.#kept, this.#ids];
    this.#change(() => this.#save(() => ([this.#kept, this.#ids] = [[], []])));
    const words = "The list is forgotten. The pictures are still there.";
    if ((await notify(words, { undo: "Undo" })) !== "undone") return;
    // Behind what came meanwhile, and without what went.
    const there = new Set([...this.#kept.map((one) => one.id), ...this.#ids, ...this.hidden]);
    const missing = (id) => !there.has(id);
    this.#change(() =>
      this.#save(() => {
        this.#kept.push(...kept.filter((one) => missing(one.id)));
        this.#ids.push(...ids.filter(missing));
      }),
    );
  }

  #change(what) {
    what();
    this.#act.changed();
  }

  #drop(id) {
    this.#kept = this.#kept.filter((one) => one.id !== id);
    this.#ids = this.#ids.filter((one) => one !== id);
  }

  // Storage may be forbidden, full or filled by somebody else: then the list lives as long as the page.
  #restore() {
    const read = (key, fallback, is) => {
      if (!key) return [];
      try {
        const found = JSON.parse(localStorage.getItem(key) ?? "[]");
        return Array.isArray(found) ? found.filter(is) : [];
      } catch (error) {
        return error instanceof SyntaxError ? [] : fallback;
      }
    };
    this.#kept = read(this.#keys[0], this.#kept, isEntry);
    this.#ids = read(this.#keys[1], this.#ids, (id) => ID.test(id));
  }

  #save(change) {
    this.#restore(); // another tab may have added to it
    change();
    for (const [at, list] of [this.#kept, this.#ids].slice(0, this.#keys.length).entries()) {
      list.splice(MOST);
      try {
        if (list.length) localStorage.setItem(this.#keys[at], JSON.stringify(list));
        else localStorage.removeItem(this.#keys[at]);
      } catch {
        // Kept for this page only.
      }
    }
  }

  // Pictures that stand in the queue above are not shown a second time.
  draw(above) {
    const own = this.#ids.map((id) => this.#known.get(id)).filter(Boolean);
    const shown = [...own, ...this.#kept]
      .filter((image) => !this.hidden.has(image.id) && !above.has(image.id))
      .sort((one, other) => other.created_at - one.created_at);
    const there = new Map([...this.#list.children].map((card) => [card.dataset.id, card]));
    const first = shown.slice(0, this.#all ? MOST : FIRST);
    const cards = first.map((image) => there.get(image.id) ?? this.#card(image));
    arrange(this.#list, cards);
    const more = this.#place.querySelector("[data-do=more]");
    more.hidden = this.#all || first.length === shown.length;
    more.textContent = `Show all ${Math.min(shown.length, MOST)}`;
    this.#place.hidden = !first.length;
  }

  #card(image) {
    const card = make("li", { className: "card", "data-id": image.id });
    const name = make("span", { className: "name", textContent: image.name });
    const tile = make("span", { className: "tile" });
    const copy = button("Copy", image.name, () => this.#act.copy([image]));
    const away = button("Delete", image.name, () => this.remove(image));
    const failed = async () => {
      const answer = await fetch(thumbOf(image), { method: "HEAD" }).catch(() => null);
      if (answer?.status !== 404) return;
      name.append(" is gone");
      copy.remove();
      away.replaceWith(button("Remove", image.name, () => this.#change(() => this.#save(() => this.#drop(image.id)))));
    };
    tile.append(thumb(thumbOf(image), failed));
    card.append(make("a", { href: pageOf(image) }, tile, name), copy, away);
    return card;
  }
}

// Whether something in the storage is a picture that has not ended.
function isEntry(one) {
  try {
    const texts = [one.name, one.src, pageOf(one), thumbOf(one), mediaOf(one)];
    const lasts = !(one.expires_at <= Date.now() / 1000);
    return lasts && ID.test(one.id) && texts.every((text) => typeof text === "string");
  } catch {
    return false;
  }
}

// Bring a list to these elements in this order; what stays is not touched, so that it keeps the focus.
export function arrange(list, elements) {
  const inside = list.contains(document.activeElement);
  const kept = new Set(elements);
  for (const old of [...list.children]) if (!kept.has(old)) old.remove();
  elements.forEach((one, at) => {
    if (list.children[at] !== one) list.insertBefore(one, list.children[at] ?? null);
  });
  // The next key goes on from here, not from the top of the page.
  if (inside && !list.contains(document.activeElement)) list.focus({ preventScroll: true });
}

// A button that screen readers tell from those of other pictures.
export function button(word, about, act) {
  const made = make("button", { type: "button", className: "plain" }, word, unseen(about));
  made.addEventListener("click", act);
  return made;
}

export const unseen = (text) => make("span", { className: "unseen", textContent: ` ${text}` });

// A small picture; one that cannot be shown leaves the sign on its ground.
export function thumb(src, failed) {
  const made = make("img", { alt: "", loading: "lazy", decoding: "async", src });
  made.addEventListener("error", () => {
    made.remove();
    failed?.();
  });
  return made;
}
