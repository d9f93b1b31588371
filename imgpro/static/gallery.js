// The gallery: pictures page by page into the grid, what the address says, and the way back to where one was.

import { call, csrf, GALLERY, root, when } from "./api.js";
import { make } from "./elements.js";
import { listen } from "./events.js";
import { Filters, pictures } from "./filters.js";
import { Grid } from "./grid.js";
import { address, asked, narrows, read } from "./query.js";

const SOON_S = 7 * 86_400;
const KEPT = 20_000; // pictures that are remembered for the way back
const status = document.getElementById("status");
const found = document.getElementById("found");
const memory = new Map(); // what earlier addresses of this page showed
let loading = null; // ends the request under way
let newest = ""; // the first page as it came, until there is a connection that tells what happens
let failed = false;

// What the modules that come later share. `cursor`: "" at the beginning of a list, null at its end. `gone`: the ids of
// what is deleted, or will be unless that is undone; `ended`: of what was deleted elsewhere.
const gallery = { state: read(location.search), total: Number(found.dataset.total), cursor: null, selection: null, gone: new Set(), ended: new Set(), memory };
const there = ({ id }) => !gallery.gone.has(id);
const later = (name) => import(`./${name}.js`);

// What the grid keeps of a picture: little, because there may be very many.
gallery.recordOf = (image, n) => {
  const film = image.frames > 1;
  return {
    ...{ n, id: image.id, name: image.name, w: image.width, h: image.height, at: image.created_at, film },
    ...{ hidden: !image.public, ends: image.expires_at ?? 0, small: image.placeholder ?? "" },
    ext: film ? "jpeg" : /\.(\w+)(?:\?|$)/.exec(image.sizes.s.src)[1],
  };
};

function badges({ ends, hidden, film }) {
  const left = ends - Date.now() / 1000;
  const [span, unit] = left < 82_800 ? [3_600, "h"] : [86_400, "d"];
  return [hidden && "Private", ends && left < SOON_S && `Ends in ${Math.ceil(left / span)} ${unit}`, film && "Animation"].filter(Boolean);
}

function build(record) {
  const chosen = gallery.selection?.has(record) ?? false;
  const marks = badges(record);
  const picture = make("img", { alt: "", decoding: "async", draggable: false });
  if (record.small) picture.style.backgroundImage = `url("${record.small}")`;
  picture.addEventListener("load", () => {
    picture.style.backgroundImage = "";
    record.small = "";
  });
  picture.addEventListener("error", async () => picture.hasAttribute("src") && (await live()).doubt(record.id));
  const link = make("a", { href: new URL(record.id, root).href, draggable: false, "data-name": record.name, "aria-describedby": "keys" }, picture);
  link.setAttribute("aria-label", [record.name, when(record.at), ...marks].join(", "));
  const pick = make("input", { type: "checkbox", className: "pick", tabIndex: -1, checked: chosen, "aria-label": `Select ${record.name}` });
  const tile = make("div", { className: chosen ? "tile chosen-one" : "tile" }, link, pick);
  if (marks.length) tile.append(make("span", { className: "badges", "aria-hidden": "true" }, marks.join(" · ")));
  return tile;
}

// `edge`: the shorter side of the tile in CSS pixels.
function start(tile, edge) {
  const { id, ext } = tile.record;
  const picture = tile.querySelector("img");
  const size = edge * devicePixelRatio > 340 ? "m" : "s";
  if (!picture.hasAttribute("src")) picture.src = new URL(`t/${id}.${ext}${ext === "svg" ? "" : `?size=${size}`}`, root);
}

function stop(tile) {
  const picture = tile.querySelector("img");
  if (!picture.complete) picture.removeAttribute("src");
}

// Where in time one is, while its heading is out of sight.
const where = make("p", { className: "where", "aria-hidden": "true" });
found.prepend(where);

function drawn(heading, y) {
  if (where.textContent !== heading) where.textContent = heading;
  where.hidden = y < 0;
  if (gallery.grid) more();
}

const grid = new Grid(document.getElementById("grid"), { build, start, stop, drawn });
const filters = new Filters(change);
Object.assign(gallery, { grid, filters, say, next, refreshable: () => !loading });

// Pages

async function more() {
  if (gallery.cursor !== null && !loading && !failed && grid.below < 2.5 * innerHeight) await next();
}

// Ask for a page and do `take(page)`, unless something else is asked for meanwhile. Tells whether it went well.
async function ask(cursor, take) {
  loading?.abort();
  const going = (loading = new AbortController());
  try {
    const page = await call("GET", `v1/media?${asked(gallery.state, cursor)}`, undefined, { signal: going.signal });
    if (loading !== going) return false;
    take(page);
    gallery.cursor = page.next_cursor;
    loading = null;
  } catch (problem) {
    if (loading !== going) return false;
    loading = null;
    fail(problem);
    return false;
  }
  say();
  grid.soon();
  return true;
}

// Take the next page.
async function next() {
  return ask(gallery.cursor, (page) => {
    const known = new Set(grid.items.slice(-300).map((record) => record.id));
    let n = grid.items.at(-1)?.n ?? 0;
    grid.append(page.data.filter((image) => there(image) && !known.has(image.id)).map((image) => gallery.recordOf(image, ++n)));
  });
}

async function load() {
  failed = false;
  gallery.cursor = "";
  return ask("", (page) => {
    if (newest !== null) newest = JSON.stringify(page.data);
    grid.set(page.data.filter(there).map((image, n) => gallery.recordOf(image, n)));
  });
}

function fail(problem) {
  if (problem.status === 401) location.reload(); // signed out elsewhere
  failed = true;
  if (gallery.cursor === "") grid.set([]);
  say(`${problem.sentences?.join(" ") ?? "Something went wrong."} `, "Try again", () => {
    failed = false;
    if (gallery.cursor === "") load();
    else more();
  });
}

// Say how many there are, or why there are none, or something else with a button beside it.
function say(words, action, work) {
  if (failed && !words) return;
  const { length } = grid.items;
  if (length) welcome();
  const { state, cursor, total } = gallery;
  const held = status.contains(document.activeElement);
  if (words) status.textContent = words;
  else if (!narrows(state)) status.textContent = total || length ? pictures(total || length) : "No pictures yet.";
  else if (length) status.textContent = cursor === null ? `${pictures(length)} found` : "";
  else if (cursor === null) [words, action, work] = [`No picture found: ${filters.words()}. `, "Clear filters", () => change(read(""))];
  if (held) status.focus();
  if (!action) return;
  const button = make("button", { type: "button", className: "plain" }, action);
  button.addEventListener("click", work);
  status.replaceChildren(words, button);
}

// The first picture of an account comes: what was hidden without one is of use now.
function welcome() {
  document.getElementById("empty")?.remove();
  for (const part of document.querySelectorAll(".find, #columns")) part.hidden = false;
}

// Another list, and the way back to this one

function turn(state, typing) {
  memory.set(address(gallery.state), snapshot());
  for (const old of [...memory.keys()].slice(0, -5)) memory.delete(old);
  gallery.state = state;
  gallery.selection?.clear();
  filters.show(state, typing);
}

function change(state, { typing = false } = {}) {
  if (address(state) === address(gallery.state)) return;
  const same = typing && state.q && gallery.state.q; // letters more: no step of the way back for each
  turn(state, typing);
  history[same ? "replaceState" : "pushState"](null, "", address(state));
  load().then(() => scrollY > grid.top() && scrollTo(0, Math.max(0, grid.top() - 90)));
}

addEventListener("popstate", () => {
  const state = read(location.search);
  const kept = memory.get(address(state));
  turn(kept?.state ?? state);
  if (kept) restore(kept);
  else load();
});

const snapshot = () => ({ state: gallery.state, items: grid.items, cursor: gallery.cursor, y: scrollY });

async function restore(kept) {
  loading?.abort();
  loading = null;
  failed = false;
  gallery.cursor = kept.cursor;
  grid.set(kept.items.filter(there));
  scrollTo(0, kept.y);
  grid.draw();
  say();
  (await live()).reset();
}

addEventListener("pagehide", () => {
  try {
    const items = grid.items.slice(0, KEPT + 1).map((record) => ({ ...record, small: "" }));
    if (items.length > KEPT) items.length = 0;
    sessionStorage.setItem(GALLERY, JSON.stringify({ csrf, address: address(gallery.state), ...snapshot(), items }));
  } catch {
    // No room, or not allowed: then the list begins at its top.
  }
});

function remembered() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(GALLERY));
    sessionStorage.removeItem(GALLERY);
    const back = performance.getEntriesByType("navigation")[0].type === "back_forward";
    return back && kept.csrf === csrf && kept.address === address(gallery.state) && kept.items.length ? kept : null;
  } catch {
    return null;
  }
}

// What comes later: live events with the first one, choosing with the first touch of mouse, finger or key

let telling = null;
const live = () => (telling ??= later("live").then(({ Live }) => new Live(gallery)));
const told = (name) => async (data) => (await live())[name](data);

// With the first connection, look whether something came between the list and it; after that it always may have.
async function reset() {
  const before = newest;
  newest = null;
  if (before) {
    const page = await call("GET", `v1/media?${asked(gallery.state)}`).catch(() => null);
    if (JSON.stringify(page?.data) === before) return;
  }
  told("reset")();
}

let bar = null;
async function bars() {
  const { Bar } = await later("bulk");
  return (bar ??= new Bar({ ...gallery, gallery, live }));
}

let coming = null;
async function choosing(event) {
  if (gallery.selection) return;
  const late = { click: "click", keydown: "key", pointerdown: "press" }[event.type];
  let held = true;
  addEventListener("pointerup", () => (held = false), { once: true });
  const changed = async (selection) => (selection.size || bar) && (await bars()).show();
  coming ??= later("selection").then(({ Selection }) => {
    gallery.selection = new Selection(grid, changed, async (what) => (await bars())[what]());
  });
  await coming;
  // What was done before it was there is done now.
  if (late && grid.root.contains(event.target) && (late !== "press" || held)) gallery.selection[late](event);
}
for (const name of ["pointermove", "pointerdown", "keydown"]) addEventListener(name, choosing, { once: true });
grid.root.addEventListener("click", (event) => {
  if (gallery.selection || !(event.target.matches(".pick") || event.shiftKey)) return;
  event.preventDefault();
  choosing(event);
});

// The beginning

document.body.classList.add("scripted");
history.scrollRestoration = "manual";
filters.show(gallery.state);
filters.count().catch(() => {});
const kept = remembered();
if (kept) restore(kept);
else await load();
listen({ uploaded: told("uploaded"), changed: told("changed"), deleted: told("deleted"), reset });
