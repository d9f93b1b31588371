// A justified grid of any number of pictures, of which only the rows near the window are elements.
//
// Pictures are records { n, id, name, w, h, at, ... } in the order of `n`. Rows are numbers in memory; reading the
// window's place and writing elements happen once in a frame.

const GAP = 5;
export const TITLE = 40;
const AHEAD = 1.2; // windows of rows that exist above and below
const FAST = 0.6; // windows in a frame: nothing is loaded that only flies by
const SETTLED_MS = 90;
const DAY = 86_400_000;

const today = () => new Date().setHours(0, 0, 0, 0);

// Returns a function that names the time of a picture: the same name as long as it is under the same heading.
function headings(midnight) {
  let [from, to, title] = [0, 0, ""];
  return (seconds) => {
    const at = seconds * 1000;
    if (at >= from && at < to) return title;
    const day = new Date(at);
    const ago = Math.round((midnight - new Date(at).setHours(0, 0, 0, 0)) / DAY); // days have 23 to 25 hours
    if (ago < 7) {
      from = day.setHours(0, 0, 0, 0);
      to = day.setDate(day.getDate() + 1);
      if (ago <= 0) to = Infinity;
      title = ago <= 0 ? "Today" : ago === 1 ? "Yesterday" : new Date(from).toLocaleDateString(undefined, { weekday: "long" });
    } else {
      title = day.toLocaleDateString(undefined, { month: "long", year: "numeric" });
      from = new Date(day.getFullYear(), day.getMonth()).getTime();
      to = Math.min(new Date(day.getFullYear(), day.getMonth() + 1).getTime(), new Date(midnight).setDate(new Date(midnight).getDate() - 6));
    }
    return title;
  };
}

const ratio = (record) => Math.min(4, Math.max(0.4, record.w / record.h));

export class Grid {
  // `build(record)` makes a tile, `start(tile)` lets it load, `stop(tile)` ends that; `drawn(heading, y)` follows each change.
  constructor(root, { build, start, stop, drawn }) {
    Object.assign(this, { root, build, start, stop, drawn, items: [], rows: [], shown: new Map(), tiles: new Map() });
    this.active = null;
    this.width = this.foot = 0;
    this.frame = this.settled = this.was = 0;
    this.waiting = new Set();
    root.replaceChildren();
    root.classList.add("live");
    addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(root);
    addEventListener("resize", () => this.soon());
    setInterval(() => this.midnight !== today() && this.change(() => {}), 30_000);
  }

  soon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  resized() {
    if (this.root.clientWidth !== this.width) this.change(() => {});
  }

  // Put other pictures in; what is looked at stays where it is.
  set(items) {
    this.change(() => (this.items = items));
  }

  append(records) {
    const at = this.items.length;
    for (const record of records) this.items.push(record);
    this.arrange(at);
    this.soon();
  }

  // Bring pictures to their places: the newest first, those of one second by `n`.
  insert(records) {
    this.change(() => {
      this.items = [...this.items, ...records].sort((a, b) => b.at - a.at || a.n - b.n);
    });
  }

  remove(ids) {
    this.change(() => (this.items = this.items.filter((record) => !ids.has(record.id))));
  }

  // A record has changed: its tile is made anew.
  renew(record) {
    const tile = this.tiles.get(record.id);
    if (!tile) return;
    this.stop(tile);
    const made = this.tile(record);
    const focused = tile.contains(document.activeElement);
    tile.replaceWith(made);
    made.style.width = tile.style.width;
    if (focused) made.firstChild.focus({ preventScroll: true });
    this.mark();
    this.waiting.add(made);
    this.release();
  }

  place(id) {
    return this.items.findIndex((record) => record.id === id);
  }

  get height() {
    const row = this.rows.at(-1);
    return row ? row.top + row.height : 0;
  }

  // How much is left below the window, in pixels, as of the last drawing: asking the window again would have the
  // browser lay out everything in the middle of a frame.
  get below() {
    return this.height - this.foot;
  }

  top() {
    return this.root.getBoundingClientRect().top + scrollY;
  }

  change(work) {
    const top = this.top();
    const seen = scrollY - top;
    const row = seen > 0 ? this.rows[this.rowAt(seen)] : undefined;
    const kept = row && this.items.slice(row.from, row.from + 200);
    const away = row && row.top - seen;
    work();
    this.arrange(0);
    this.redraw();
    if (!kept) return;
    const present = new Map(this.items.map((record, index) => [record.id, index]));
    const anchor = kept.find((record) => present.has(record.id));
    if (anchor) scrollTo(0, this.top() + this.rowOf(present.get(anchor.id)).top - away);
  }

  // Lay out rows from a picture on; those before stay as they are.
  arrange(from) {
    const { items, rows } = this;
    if (!from) {
      rows.length = 0;
      this.width = this.root.clientWidth;
      this.title = headings((this.midnight = today()));
    }
    while (rows.length && (rows.at(-1).to > from || rows.at(-1).open)) this.drop(rows.pop());
    const { width, title } = this;
    const wanted = width < 600 ? 118 : width < 1800 ? 195 : 240;
    let at = rows.length ? rows.at(-1).to : 0;
    while (at < items.length && width) {
      const name = title(items[at].at);
      const row = { from: at, to: at, top: this.height + (rows.length ? GAP : 0), height: 0, name, title: "", open: false };
      if (!rows.length || title(items[at - 1].at) !== name) {
        row.title = name;
        row.top += TITLE;
        title(items[at].at);
      }
      let sum = 0;
      const room = (count, total) => (width - GAP * (count - 1)) / total;
      while (row.to < items.length && title(items[row.to].at) === name) {
        sum += ratio(items[row.to++]);
        if (room(row.to - at, sum) <= wanted) break;
      }
      row.height = room(row.to - at, sum);
      const last = ratio(items[row.to - 1]);
      if (row.height <= wanted && row.to - at > 1) {
        const fewer = room(row.to - at - 1, sum - last);
        if (fewer - wanted < wanted - row.height) {
          row.to--;
          row.height = fewer;
        }
      } else if (row.height > wanted) {
        row.open = row.to === items.length;
        if (row.height > wanted * 1.25) row.height = wanted;
      }
      rows.push(row);
      at = row.to;
    }
    this.root.style.height = `${Math.ceil(this.height)}px`;
  }

  // The number of the last row for which something holds; it holds for all before.
  last(holds) {
    let [low, high] = [0, this.rows.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (holds(this.rows[middle])) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  rowAt(y) {
    return this.last((row) => row.top - TITLE <= y);
  }

  rowOf(index) {
    return this.rows[this.last((row) => row.from <= index)];
  }

  *columns(row) {
    let left = 0;
    for (let index = row.from; index < row.to; index++) {
      const width = ratio(this.items[index]) * row.height;
      yield [index, left, width];
      left += width + GAP;
    }
  }

  // All rows anew after the pictures have moved; tiles that stay keep what they have loaded.
  redraw() {
    const focused = [...this.tiles.values()].find((tile) => tile.contains(document.activeElement));
    this.kept = this.tiles;
    this.tiles = new Map();
    for (const element of this.shown.values()) element.remove();
    this.shown.clear();
    this.draw();
    for (const [id, tile] of this.kept) if (this.tiles.get(id) !== tile) this.forget(tile);
    this.kept = null;
    if (focused?.isConnected) focused.firstChild.focus({ preventScroll: true });
  }

  draw() {
    const seen = scrollY - this.top();
    this.foot = seen + innerHeight;
    const fast = this.flies();
    this.was = scrollY;
    const [from, to] = [seen - innerHeight * AHEAD, seen + innerHeight * (1 + AHEAD)];
    const needed = [];
    for (let at = this.rowAt(from); at < this.rows.length && this.rows[at].top < to; at++) needed.push(this.rows[at]);
    for (const [row, element] of this.shown) {
      if (needed.includes(row)) continue;
      if (element.contains(document.activeElement)) needed.push(row);
      else this.drop(row);
    }
    needed.sort((a, b) => a.from - b.from);
    let next = this.root.firstChild;
    for (const row of needed) {
      const element = this.shown.get(row) ?? this.fill(row);
      if (element === next) next = next.nextSibling;
      else this.root.insertBefore(element, next);
    }
    const first = needed.find((row) => row.top + row.height > seen) ?? needed[0];
    this.mark(first);
    clearTimeout(this.settled);
    if (fast) this.settle();
    else this.release();
    this.drawn(first?.name ?? "", seen);
  }

  flies() {
    return Math.abs(scrollY - this.was) > innerHeight * FAST;
  }

  // Where frames take long, the next one is already on its way when the time is over.
  settle() {
    this.settled = setTimeout(() => (this.flies() ? this.settle() : this.release()), SETTLED_MS);
  }

  // One tile is a stop of the Tab key: the one that was used last, or the first in the window.
  mark(row) {
    if (!this.tiles.has(this.active?.id) && row) this.active = this.items[row.from];
    for (const [id, tile] of this.tiles) tile.firstChild.tabIndex = id === this.active?.id ? 0 : -1;
  }

  fill(row) {
    const element = document.createElement("div");
    element.className = "row";
    element.style.top = `${row.top}px`;
    element.style.height = `${row.height}px`;
    if (row.title) {
      const title = document.createElement("h2");
      title.textContent = row.title;
      element.append(title);
    }
    for (const [index, , width] of this.columns(row)) {
      const record = this.items[index];
      const old = this.kept?.get(record.id);
      const tile = old ?? this.tile(record);
      this.tiles.set(record.id, tile);
      tile.style.width = `${width}px`;
      element.append(tile);
      if (!old) this.waiting.add(tile);
    }
    this.shown.set(row, element);
    return element;
  }

  tile(record) {
    const tile = this.build(record);
    tile.record = record;
    this.tiles.set(record.id, tile);
    return tile;
  }

  release() {
    for (const tile of this.waiting) {
      if (tile.parentNode) this.start(tile, Math.min(parseFloat(tile.style.width), parseFloat(tile.parentNode.style.height)));
    }
    this.waiting.clear();
  }

  drop(row) {
    const element = this.shown.get(row);
    if (!element) return;
    for (const tile of element.querySelectorAll(".tile")) this.forget(tile);
    element.remove();
    this.shown.delete(row);
  }

  forget(tile) {
    if (this.tiles.get(tile.record.id) === tile) this.tiles.delete(tile.record.id);
    this.waiting.delete(tile);
    this.stop(tile);
  }
}
