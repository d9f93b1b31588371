// Which pictures are chosen, and every way to choose: the check, Shift, dragging a band, a long press, the keyboard.

import { root } from "./api.js";
import { make } from "./elements.js";
import { beside, focus } from "./walk.js";

const HOLD_MS = 450;
const MOVED = 7; // pixels: less is a click
const EDGE = 56; // pixels from the window's edge where a band scrolls
const AWAY = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

// The pictures that a rectangle touches; in pixels of the grid.
function within(grid, left, top, right, bottom) {
  const found = [];
  for (let at = Math.max(0, grid.rowAt(top) - 1); at < grid.rows.length && grid.rows[at].top < bottom; at++) {
    if (grid.rows[at].top + grid.rows[at].height < top) continue;
    for (const [index, x, width] of grid.columns(grid.rows[at])) {
      if (x < right && x + width > left) found.push(grid.items[index]);
    }
  }
  return found;
}

// What had the keyboard is gone: it goes on at a picture near by, or where it says that there is none. Nothing scrolls.
export function settle(grid, id = grid.active?.id) {
  const tile = grid.tiles.get(id) ?? grid.tiles.get(grid.active?.id);
  (tile?.firstChild ?? document.getElementById("status")).focus({ preventScroll: true });
}

// Keys go into a field, or to a dialog.
export const busy = () => document.querySelector("dialog[open]") || typing();

const typing = () => document.activeElement?.matches("input:not([type=checkbox]), select, textarea") ?? false;

export class Selection {
  // `changed(this)` follows each change; `asked("delete")` is a key that wants something done.
  constructor(grid, changed, asked) {
    Object.assign(this, { grid, changed, asked, chosen: new Map(), from: null, swallow: false });
    document.head.append(make("link", { rel: "stylesheet", href: new URL("static/choosing.css", root).href }));
    grid.root.addEventListener("click", (event) => this.click(event));
    grid.root.addEventListener("keydown", (event) => this.key(event));
    grid.root.addEventListener("pointerdown", (event) => this.press(event));
    grid.root.addEventListener("dragstart", (event) => event.preventDefault());
    const use = (element) => (grid.active = element.closest(".live .tile")?.record ?? grid.active);
    grid.root.addEventListener("focusin", (event) => use(event.target));
    use(document.activeElement);
    grid.root.addEventListener("contextmenu", (event) => {
      if (this.touched && event.target.closest(".tile")) event.preventDefault();
    });
    document.addEventListener("keydown", (event) => this.command(event));
  }

  get size() {
    return this.chosen.size;
  }

  has(record) {
    return this.chosen.has(record.id);
  }

  // In the order in which the pictures stand.
  records() {
    return [...this.chosen.values()].sort((a, b) => a.n - b.n);
  }

  toggle(record) {
    if (!this.chosen.delete(record.id)) this.chosen.set(record.id, record);
    this.from = record;
    this.paint();
  }

  add(records) {
    for (const record of records) this.chosen.set(record.id, record);
    this.paint();
  }

  drop(ids) {
    for (const id of ids) this.chosen.delete(id);
    this.paint();
  }

  clear() {
    this.chosen.clear();
    this.from = null;
    this.paint();
  }

  // Everything between the last one that was chosen and this one.
  reach(record) {
    const { items } = this.grid;
    const here = this.grid.place(record.id);
    const there = this.from ? Math.max(0, this.grid.place(this.from.id)) : here;
    this.add(items.slice(Math.min(here, there), Math.max(here, there) + 1));
    this.from ??= record;
  }

  dress(tile) {
    const on = this.has(tile.record);
    tile.classList.toggle("chosen-one", on);
    tile.querySelector(".pick").checked = on;
  }

  paint() {
    document.body.classList.toggle("choosing", this.size > 0);
    for (const tile of this.grid.tiles.values()) this.dress(tile);
    this.changed(this);
  }

  click(event) {
    const tile = event.target.closest(".tile");
    if (this.swallow) {
      this.swallow = false;
      event.preventDefault();
      if (tile) this.dress(tile);
    } else if (tile && event.target.matches(".pick")) {
      if (event.shiftKey) this.reach(tile.record);
      else this.toggle(tile.record);
    } else if (tile && !event.ctrlKey && !event.metaKey && (event.shiftKey || this.size)) {
      event.preventDefault();
      if (event.shiftKey) this.reach(tile.record);
      else this.toggle(tile.record);
    }
  }

  key(event) {
    const tile = event.target.closest(".tile");
    if (!tile || event.altKey || event.ctrlKey || event.metaKey) return;
    const { grid } = this;
    const here = grid.place(tile.record.id);
    if (event.key === " " || event.key === "x") {
      event.preventDefault();
      this.toggle(tile.record);
    } else if (event.key === "Delete" || (event.key === "Backspace" && this.size)) {
      if (!this.size) this.toggle(tile.record);
      this.asked("delete");
    } else if (event.key in AWAY || ["ArrowUp", "ArrowDown"].includes(event.key)) {
      event.preventDefault();
      const step = event.key === "ArrowUp" ? -1 : 1;
      const to = event.key in AWAY ? here + AWAY[event.key] : beside(grid, here, step);
      const there = Math.min(grid.items.length - 1, Math.max(0, to));
      if (event.shiftKey) {
        this.from ??= tile.record;
        this.reach(grid.items[there]);
      }
      focus(grid, there);
    }
  }

  command(event) {
    if (busy()) return;
    if (event.key === "Escape" && this.size) this.clear();
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.add(this.grid.items);
    }
  }

  press(event) {
    this.touched = event.pointerType !== "mouse";
    this.swallow = false;
    if (event.button !== 0 || event.target.matches(".pick")) return;
    const start = { x: event.clientX, y: event.clientY + scrollY };
    const ends = new AbortController();
    const on = (name, take) => addEventListener(name, take, { signal: ends.signal });
    const far = (now) => Math.hypot(now.clientX - start.x, now.clientY + scrollY - start.y) > MOVED;
    on("pointercancel", () => ends.abort());
    if (this.touched) {
      const tile = event.target.closest(".tile");
      const timer = setTimeout(() => {
        this.swallow = true;
        navigator.vibrate?.(15);
        if (tile) this.toggle(tile.record);
      }, HOLD_MS);
      ends.signal.addEventListener("abort", () => clearTimeout(timer));
      on("pointermove", (now) => far(now) && ends.abort());
      on("pointerup", () => ends.abort());
      return;
    }
    const begin = (now) => {
      if (!far(now)) return;
      ends.abort();
      this.band(start, now, event);
    };
    on("pointermove", begin);
    on("pointerup", () => ends.abort());
  }

  // A rectangle drawn with the mouse: chooses what it touches, beside what was chosen if Shift or Ctrl is held.
  band(start, first, { shiftKey, ctrlKey, metaKey }) {
    const { grid } = this;
    const before = shiftKey || ctrlKey || metaKey ? new Map(this.chosen) : new Map();
    const element = make("div", { className: "band" });
    document.body.append(element);
    let now = first;
    let frame = 0;
    const step = () => {
      if (now.clientY < EDGE) scrollBy(0, -18);
      else if (now.clientY > innerHeight - EDGE) scrollBy(0, 18);
      const [left, right] = [start.x, now.clientX].sort((a, b) => a - b);
      const [top, bottom] = [start.y, now.clientY + scrollY].sort((a, b) => a - b);
      const box = grid.root.getBoundingClientRect();
      Object.assign(element.style, {
        left: `${left}px`,
        top: `${top - scrollY}px`,
        width: `${right - left}px`,
        height: `${bottom - top}px`,
      });
      const [x, y] = [box.left, box.top + scrollY];
      const touched = within(grid, left - x, top - y, right - x, bottom - y);
      this.chosen = new Map([...before, ...touched.map((record) => [record.id, record])]);
      this.paint();
      frame = requestAnimationFrame(step);
    };
    const ends = new AbortController();
    const on = (name, take) => addEventListener(name, take, { signal: ends.signal });
    const end = () => {
      cancelAnimationFrame(frame);
      ends.abort();
      element.remove();
      this.from = this.chosen.values().next().value ?? null;
      this.swallow = true; // the click that ends the drag
      setTimeout(() => (this.swallow = false));
    };
    on("pointermove", (event) => (now = event));
    on("pointerup", end);
    on("pointercancel", end);
    on("blur", end);
    step();
  }
}
