// The gallery of an export. It opens from disk, where scripts may load scripts and nothing else: the pictures come in
// pieces that are scripts, each of which calls `imgproPictures`. Names are text everywhere, never markup.

const AT_ONCE = 300; // pieces that are read without being asked for
const MOST_FACETS = 200;
const SWIPE_PX = 60;
const BELOW = 20; // pixels that stay free under a picture that gets the keyboard
const id = (name) => document.getElementById(name);
const count = (number) => number.toLocaleString();
const pieces = []; // by number; each holds its records, the oldest first
const waiting = new Map(); // by number: what goes on once that piece has come
const chosen = { account: null, namespace: null, tags: new Set(), words: [] };
let facts = { pieces: 0, pictures: 0, title: "Pictures" };
let allowed = AT_ONCE;
let shown = 0; // pieces that are in the grid, counted from where the order begins
let turn = 0; // which of the calls to `read` is the last
let broken = "";

function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  for (; bytes >= 1024 && at < units.length - 1; at++) bytes /= 1024;
  return `${at && bytes < 100 ? bytes.toFixed(1).replace(".0", "") : Math.round(bytes)} ${units[at]}`;
}

// An address below this page of a path with slashes, whatever else is in it.
const address = (path) => path.split("/").map(encodeURIComponent).join("/");
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function recordOf(row, n) {
  const [key, file, name, description, at, w, h, bytes, frames, account, namespace, tags, open, digest, small, view] = row;
  return { n, id: key, file, name, description, at: at / 1000, w, h, bytes, frames, account, namespace, tags, open, digest, small, view };
}

const made = (record, folder, ending) => `gallery/${folder}/${record.digest.slice(0, 2)}/${record.digest}.${ending}`;
const smallOf = (record) => (record.small === "original" ? address(record.file) : record.small && made(record, "thumbs", record.small));
const largeOf = (record) => (record.view ? made(record, "views", record.view) : address(record.file));

// What is read

window.imgproGallery = (found) => (facts = found);
window.imgproPictures = (number, rows) => {
  pieces[number] = rows.map((row, at) => recordOf(row, number * 1_000 + at));
};

function load(name) {
  return new Promise((done) => {
    const script = make("script", { src: `gallery/${name}.js` });
    script.onload = () => done(true);
    script.onerror = () => done(false);
    document.head.append(script);
  }).finally(() => document.head.querySelector(`script[src="gallery/${name}.js"]`)?.remove());
}

const newest = () => id("order").value === "new";
const numberAt = (place) => (newest() ? facts.pieces - place : place + 1);
const piece = (number) => (newest() ? [...pieces[number]].reverse() : pieces[number]);

// Read one piece after the other, in the order of the grid, until all are there or enough.
async function read() {
  const mine = ++turn;
  while (shown < facts.pieces && shown < allowed) {
    const number = numberAt(shown);
    if (!pieces[number] && !(await load(`pictures-${String(number).padStart(4, "0")}`))) {
      pieces[number] = [];
      broken ||= `gallery/pictures-${String(number).padStart(4, "0")}.js`;
    }
    if (mine !== turn) return;
    grid.append(piece(number).filter(matches));
    shown++;
    count_in(pieces[number]);
    tell();
    await new Promise((done) => setTimeout(done));
    if (mine !== turn) return;
  }
  facets();
  tell();
  follow();
}

// What is looked for

function matches(record) {
  if (chosen.account !== null && record.account !== chosen.account) return false;
  if (chosen.namespace !== null && record.namespace !== chosen.namespace) return false;
  for (const tag of chosen.tags) if (!record.tags.includes(tag)) return false;
  if (!chosen.words.length) return true;
  record.text ??= folded([record.name, record.description, record.namespace, ...record.tags].join("\n"));
  return chosen.words.every((word) => record.text.includes(word));
}

const all = () => Array.from({ length: shown }, (_, place) => piece(numberAt(place))).flat();

function narrow() {
  grid.set(all().filter(matches));
  scrollTo(0, 0);
  chips();
  facets();
  tell();
}

const counts = { account: new Map(), namespace: new Map(), tags: new Map() };
const counted = new Set();

function count_in(records) {
  if (counted.has(records)) return;
  counted.add(records);
  const add = (map, name) => map.set(name, (map.get(name) ?? 0) + 1);
  for (const { account, namespace, tags } of records) {
    add(counts.account, account);
    if (namespace) add(counts.namespace, namespace);
    for (const tag of tags) add(counts.tags, tag);
  }
}

const accountName = (account) => account || "Without an account";

function facets() {
  const lists = [
    ["accounts", counts.account, (name) => chosen.account === name, (name) => (chosen.account = chosen.account === name ? null : name), accountName],
    ["namespaces", counts.namespace, (name) => chosen.namespace === name, (name) => (chosen.namespace = chosen.namespace === name ? null : name), String],
    ["tags", counts.tags, (name) => chosen.tags.has(name), (name) => chosen.tags.delete(name) || chosen.tags.add(name), String],
  ];
  for (const [list, names, pressed, choose, word] of lists) {
    const most = [...names].sort((a, b) => b[1] - a[1]).slice(0, MOST_FACETS);
    const focused = id(list).contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const buttons = most
      .sort((a, b) => a[0].localeCompare(b[0]))
      .map(([name, number]) => {
        const button = make("button", { type: "button", "aria-pressed": String(pressed(name)), "data-name": name }, make("span", {}, word(name)), make("small", {}, count(number)));
        button.addEventListener("click", () => (choose(name), narrow()));
        return make("li", {}, button);
      });
    id(list).replaceChildren(...(buttons.length ? buttons : [make("li", { className: "quiet" }, "None")]));
    if (focused !== null) [...id(list).querySelectorAll("button")].find((button) => button.dataset.name === focused)?.focus();
  }
  id("accounts-part").hidden = counts.account.size < 2;
}

function chips() {
  const made = [];
  const chip = (name, drop) => {
    const button = make("button", { type: "button", className: "chip", "aria-label": `No longer only ${name}` }, name);
    button.addEventListener("click", () => (drop(), narrow()));
    made.push(button);
  };
  if (chosen.account !== null) chip(accountName(chosen.account), () => (chosen.account = null));
  if (chosen.namespace !== null) chip(chosen.namespace, () => (chosen.namespace = null));
  for (const tag of chosen.tags) chip(tag, () => chosen.tags.delete(tag));
  id("chosen").replaceChildren(...made);
}

function tell() {
  const status = id("status");
  const left = facts.pieces - shown;
  const narrowed = grid.items.length !== facts.pictures;
  const words = [];
  if (!facts.pictures) words.push("There are no pictures in this export.");
  else if (left && shown < allowed) words.push(`Reading the pictures… ${count(shown * 1_000)} of ${count(facts.pictures)}`);
  else if (!grid.items.length) words.push("No picture matches.");
  else if (narrowed) words.push(`${count(grid.items.length)} of ${count(facts.pictures)} pictures.`);
  if (broken) words.push(`Some are missing: ${broken} could not be read.`);
  status.replaceChildren(words.join(" "));
  if (left && shown >= allowed) {
    const more = make("button", { type: "button", className: "plain" }, newest() ? "Read older pictures" : "Read newer pictures");
    more.addEventListener("click", () => ((allowed += AT_ONCE), read()));
    status.append(" ", more);
  }
}

// The grid

const when = (seconds) => new Date(seconds * 1000).toLocaleDateString(undefined, { day: "numeric", month: "long", year: "numeric" });
const marks = (record) => [!record.open && "Private", record.frames > 1 && "Animation"].filter(Boolean);

function build(record) {
  const link = make("a", { href: `#${record.id}`, draggable: false, "data-name": record.name, "aria-describedby": "keys" });
  link.setAttribute("aria-label", [record.name, when(record.at), ...marks(record)].join(", "));
  if (record.small) link.append(make("img", { alt: "", decoding: "async", draggable: false }));
  else link.append(make("span", { className: "bare", "aria-hidden": "true" }, record.name));
  const tile = make("div", { className: "tile" }, link);
  if (marks(record).length) tile.append(make("span", { className: "badges", "aria-hidden": "true" }, marks(record).join(" · ")));
  return tile;
}

function start(tile) {
  const picture = tile.querySelector("img");
  if (picture && !picture.hasAttribute("src")) picture.src = smallOf(tile.record);
}

function stop(tile) {
  const picture = tile.querySelector("img");
  if (picture && !picture.complete) picture.removeAttribute("src");
}

const where = make("p", { className: "where", "aria-hidden": "true" });
id("found").prepend(where);

function drawn(heading, y) {
  if (where.textContent !== heading) where.textContent = heading;
  where.hidden = y < 0;
}

const grid = new Grid(id("grid"), { build, start, stop, drawn });

id("grid").addEventListener("keydown", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
  const here = grid.place(tile.record.id);
  const steps = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: grid.items.length - 1 };
  const lines = { ArrowUp: -1, ArrowDown: 1 };
  const to = event.key in steps ? steps[event.key] : event.key in lines ? beside(grid, here, lines[event.key]) : -1;
  if (to < 0 || to >= grid.items.length) return;
  event.preventDefault();
  focus(grid, to, BELOW);
});

// One picture in the whole window. Its id is the fragment of the address, so that going back closes it.

const viewer = id("viewer");
const glass = id("glass");
let looked = null;

function follow() {
  const key = location.hash.slice(1);
  const at = key ? grid.place(key) : -1;
  if (at < 0) {
    if (viewer.open) viewer.close();
    return;
  }
  looked = grid.items[at];
  if (!viewer.open) viewer.showModal();
  show(looked, at);
}

function show(record, at) {
  zoom(false);
  const picture = make("img", { alt: record.name, draggable: false });
  picture.addEventListener("error", () => {
    glass.replaceChildren(make("p", {}, "This browser cannot show the picture, or its file is not there."));
  });
  picture.addEventListener("click", () => zoom(!glass.classList.contains("zoomed")));
  picture.src = largeOf(record);
  glass.replaceChildren(picture);
  id("name").textContent = record.name;
  id("description").textContent = record.description;
  const labels = [record.namespace, ...record.tags].filter(Boolean).join(", ");
  const parts = [`${count(record.w)} × ${count(record.h)}`, size(record.bytes), when(record.at), labels, ...marks(record)];
  id("facts").textContent = parts.filter(Boolean).join(" · ");
  id("original").href = address(record.file);
  viewer.querySelector(".prev").disabled = at === 0;
  viewer.querySelector(".next").disabled = at === grid.items.length - 1;
  // Where the focus is on a button that ends here, Firefox gives keys to nobody.
  if (!viewer.contains(document.activeElement) || document.activeElement.disabled) viewer.focus();
  for (const next of [grid.items[at + 1], grid.items[at - 1]]) if (next) new Image().src = largeOf(next);
}

function zoom(full) {
  glass.classList.toggle("zoomed", full);
  id("zoom").setAttribute("aria-pressed", String(full));
}

function go(step) {
  const next = looked && grid.items[grid.place(looked.id) + step];
  if (next) location.replace(`#${next.id}`);
}

const does = { prev: () => go(-1), next: () => go(1), close: () => viewer.close(), zoom: () => zoom(!glass.classList.contains("zoomed")) };
viewer.addEventListener("click", (event) => does[event.target.dataset?.do]?.());
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const zoomed = glass.classList.contains("zoomed");
  const keys = { ArrowLeft: "prev", ArrowRight: "next", z: "zoom", f: "zoom", "+": "zoom" };
  if (!(event.key in keys) || (zoomed && event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  does[keys[event.key]]();
});
viewer.addEventListener("close", () => {
  if (location.hash.length > 1) history.replaceState(null, "", "#");
  glass.replaceChildren();
  const at = looked ? grid.place(looked.id) : -1;
  if (at >= 0) focus(grid, at, BELOW);
  looked = null;
});

let from = null;
glass.addEventListener("pointerdown", (event) => (from = event.pointerType === "mouse" ? null : [event.clientX, event.clientY]));
glass.addEventListener("pointerup", (event) => {
  if (!from || glass.classList.contains("zoomed")) return;
  const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
  if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) go(x < 0 ? 1 : -1);
  from = null;
});

// The page

let typed = 0;
id("find").addEventListener("submit", (event) => event.preventDefault());
id("q").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    chosen.words = folded(id("q").value).split(/\s+/).filter(Boolean);
    narrow();
  }, 120);
});
id("order").addEventListener("change", () => {
  shown = 0;
  grid.set([]);
  scrollTo(0, 0);
  read();
});
addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || viewer.open || event.target.matches("input, select")) return;
  event.preventDefault();
  id("q").focus();
});

load("pictures").then((found) => {
  if (!found) {
    id("status").textContent = "The gallery folder is not there, or cannot be read.";
    return;
  }
  document.title = `Pictures · ${facts.title}`;
  id("title").textContent = facts.title;
  id("about").textContent = `${count(facts.pictures)} ${facts.pictures === 1 ? "picture" : "pictures"}, ${size(facts.bytes)}, exported ${when(facts.written_ms / 1000)}`;
  read();
});
