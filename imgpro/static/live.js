// What happens elsewhere while the gallery is open: pictures come, change and go. Loaded when the first one does.

import { call } from "./api.js";
import { asked, belongs, narrows } from "./query.js";

const FRESH = 1_000; // pictures that are read again after something may have been missed
const plain = (record) => JSON.stringify({ ...record, n: 0, small: "" });

export class Live {
  constructor(gallery) {
    this.gallery = gallery;
    this.doubted = new Set();
    this.doubting = this.counting = this.later = 0;
    this.refreshing = false;
  }

  uploaded(image) {
    this.gallery.total++;
    this.arrive(image);
    this.recount();
  }

  changed(image) {
    this.update(image);
    this.recount();
  }

  deleted({ id }) {
    const { gallery } = this;
    if (!gallery.gone.has(id)) gallery.total--;
    gallery.ended.add(id); // what is undone here does not bring it back
    gallery.gone.add(id); // an answer that was on its way meanwhile may still hold it
    this.remove([id]);
    this.recount();
  }

  reset() {
    this.refresh();
    this.recount();
  }

  recount() {
    clearTimeout(this.counting);
    this.counting = setTimeout(() => this.gallery.filters.count().catch(() => {}), 600);
    this.gallery.say();
  }

  remove(ids) {
    const { grid, selection } = this.gallery;
    const gone = new Set(ids);
    if (grid.items.some((record) => gone.has(record.id))) grid.remove(gone);
    selection?.drop(ids);
    this.gallery.say();
  }

  // A picture that is not in the list: does it belong there, and where?
  arrive(image) {
    const { grid, state, cursor, gone, recordOf } = this.gallery;
    const fits = belongs(image, state);
    if (fits === null) this.refresh();
    if (!fits || gone.has(image.id) || grid.place(image.id) >= 0) return;
    const { items } = grid;
    const found = items.findIndex((record) => record.at <= image.created_at);
    if (found < 0 && cursor !== null) return; // further down than what was read so far
    const at = found < 0 ? items.length : found;
    const [above, below] = [items[at - 1]?.n, items[at]?.n];
    const n = above === undefined ? (below ?? 1) - 1 : below === undefined ? above + 1 : (above + below) / 2;
    grid.insert([recordOf(image, n)]);
  }

  update(image) {
    const { grid, state, recordOf } = this.gallery;
    const record = grid.items[grid.place(image.id)];
    if (!record) this.arrive(image);
    else if (belongs(image, state) === false) this.remove([image.id]);
    else grid.renew(Object.assign(record, recordOf(image, record.n), { small: "" }));
  }

  // A thumbnail did not come: is its picture still there?
  doubt(id) {
    this.doubted.add(id);
    clearTimeout(this.doubting);
    this.doubting = setTimeout(async () => {
      const ids = [...this.doubted].slice(0, 100);
      for (const one of ids) this.doubted.delete(one);
      const page = await call("GET", `v1/media?limit=100&ids=${ids}`).catch(() => null);
      const there = new Set(page?.data.map((image) => image.id));
      if (page) this.remove(ids.filter((one) => !there.has(one)));
    }, 300);
  }

  // Read the newest again and put them in the place of what is shown of them.
  async refresh() {
    const { gallery } = this;
    clearTimeout(this.later);
    if (this.refreshing || !gallery.refreshable()) {
      this.later = setTimeout(() => this.refresh(), 300);
      return;
    }
    this.refreshing = true;
    const { state } = gallery;
    const fresh = [];
    let page;
    try {
      do {
        page = await call("GET", `v1/media?${asked(state, page?.next_cursor)}`);
        fresh.push(...page.data);
        if (state !== gallery.state) return; // another list is shown by now
      } while (page.has_more && fresh.length < Math.min(gallery.grid.items.length, FRESH));
    } catch {
      return; // the next event or the next visit will do
    } finally {
      this.refreshing = false;
    }
    this.replace(
      fresh.filter((image) => !gallery.gone.has(image.id)),
      page,
    );
  }

  replace(fresh, page) {
    const { gallery } = this;
    const { grid, selection, recordOf } = gallery;
    const known = new Map(grid.items.map((record) => [record.id, record]));
    const ids = new Set(fresh.map((image) => image.id));
    const last = grid.items.findLastIndex((record) => ids.has(record.id));
    const tail = page.has_more && last >= 0 ? grid.items.slice(last + 1) : [];
    if (!tail.length) gallery.cursor = page.next_cursor;
    const first = (tail[0]?.n ?? 0) - fresh.length;
    const changed = [];
    const items = fresh.map((image, index) => {
      const record = known.get(image.id);
      const now = recordOf(image, first + index);
      if (!record) return now;
      if (plain(record) !== plain(now)) changed.push(record);
      return Object.assign(record, now, { small: "" });
    });
    // The list of everything tells how many there are, whatever was missed.
    if (!narrows(gallery.state) && (tail.length || !page.has_more)) gallery.total += items.length + tail.length - grid.items.length;
    grid.set([...items, ...tail]);
    changed.forEach((record) => grid.renew(record));
    const kept = new Set(grid.items.map((record) => record.id));
    selection?.drop([...known.keys()].filter((id) => !kept.has(id)));
    gallery.say();
  }
}
