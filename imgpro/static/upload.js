// Drop, paste or choose pictures anywhere on the page: they are sent, and their links are there to be pasted elsewhere.
// Without this the form sends itself.

import { Problem, bytes, call } from "./api.js";
import { FORMATS, chooseFormat, chosenFormat, copy, formatted } from "./copy.js";
import { make } from "./elements.js";
import { addresses, dropped, picturesOf, textOf } from "./intake.js";
import { notify } from "./notify.js";
import { Queue } from "./queue.js";
import { Recents } from "./recent.js";
import { Rows, images } from "./rows.js";

const drop = document.getElementById("drop");
const form = document.getElementById("upload");
const fetching = document.getElementById("fetch");
const results = document.getElementById("results");
const status = document.getElementById("status");
const chooser = form.elements.namedItem("file");
const folder = form.querySelector(".folder");
const maxBytes = Number(drop.dataset.maxBytes);
const title = document.title;

let format = chosenFormat();

const queue = new Queue({ changed: () => rows.soon(), stored: (image) => recents.add(image), ended });
const recents = new Recents(results.querySelector(".recents"), drop.dataset.account, {
  copy: copied,
  changed: () => rows.draw(),
});
const rows = new Rows(results, queue, recents, {
  format: () => format,
  copy: copied,
  drawn: (count, progress) => {
    drop.classList.toggle("small", count > 0);
    document.title = progress ? `${progress} · ${title}` : title;
  },
});

drop.querySelector(".scripted").hidden = false;
drop.classList.add("live");
chooser.multiple = true;
chooser.required = false;
form.querySelector(".file span").textContent = "Choose pictures";
folder.hidden = !("webkitdirectory" in HTMLInputElement.prototype);
offerFormats();
recents.load();

form.querySelector("details").addEventListener("toggle", suggestNamespaces, { once: true });
form.addEventListener("submit", (event) => event.preventDefault()); // choosing is enough
chooser.addEventListener("change", () => {
  take([...chooser.files]);
  chooser.value = ""; // so that the same file can be chosen again
});
folder.querySelector("input").addEventListener("change", (event) => {
  const found = picturesOf([...event.target.files]);
  take(found.files, found.skipped);
  event.target.value = "";
});
fetching?.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = fetching.elements.namedItem("url");
  receiveText(field.value);
  field.value = "";
});

let ours = false; // a picture of this page that is dragged over it is not meant to be uploaded again
addEventListener("dragstart", () => (ours = true));
addEventListener("dragend", () => (ours = false));
addEventListener("dragover", (event) => {
  if (ours) return;
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
addEventListener("drop", async (event) => {
  if (ours || (isTyped(event.target) && !event.dataTransfer.files.length)) return;
  event.preventDefault();
  drop.classList.remove("over");
  const text = textOf(event.dataTransfer);
  const { files, skipped } = await dropped(event.dataTransfer);
  if (files.length || skipped) take(files, skipped);
  else receiveText(text);
});
addEventListener("paste", (event) => {
  const data = event.clipboardData;
  const typing = isTyped(event.target);
  const several = typing && event.target.form === fetching && addresses(textOf(data)).length > 1;
  if (typing && !data.files.length && !several) return;
  event.preventDefault();
  if (data.files.length) take([...data.files]);
  else receiveText(textOf(data));
});
addEventListener("beforeunload", (event) => {
  if (queue.busy) event.preventDefault();
});

function receiveText(text) {
  const found = addresses(text);
  if (found.length && fetching) {
    const fields = options(found.length);
    enqueue(found.map((url) => ({ name: url, url, fields })));
  } else if (text.trim()) notify("That is neither a picture nor the address of one.", { problem: true });
}

function take(files, skipped = 0) {
  if (skipped) {
    const left = skipped === 1 ? "One file is no picture and was" : `${skipped} files are no pictures and were`;
    notify(`${left} left out.`, { seconds: 8 });
  }
  const fields = options(files.length);
  enqueue(files.map((file) => ({ name: file.name || "picture", file, fields, ...refusal(file) })));
}

// Refused here as the server would, because a browser that is cut off while it sends never sees the answer.
function refusal(file) {
  if (file.size <= maxBytes) return {};
  const message = `The file is too large. Send one of at most ${bytes(maxBytes)}.`;
  return { refused: true, problem: new Problem(413, { message }) };
}

function isTyped(place) {
  return place instanceof Element && place.matches("input:not([readonly], [type=file], [type=radio]), select, textarea");
}

// The options as they are now: whatever is changed later holds for what comes later.
function options(count) {
  const fields = Object.fromEntries([...new FormData(form)].filter(([name, value]) => name !== "file" && value !== ""));
  if (count !== 1) delete fields.name;
  form.elements.namedItem("name").value = "";
  return fields;
}

function enqueue(things) {
  if (!things.length) return;
  queue.add(things);
  if (queue.busy) say([things.length === 1 ? `Sending ${things[0].name}.` : `Sending ${things.length} pictures.`]);
  rows.draw();
  results.scrollIntoView({ block: "nearest" });
}

// Everything is done that was asked for: the links go to where they can be pasted from.
async function ended(items) {
  const done = images(items);
  const failed = items.filter((item) => item.state === "failed");
  const told = [];
  rows.draw();
  for (const item of queue.items) rows.rowOf(item)?.say("");
  if (done.length) {
    const row = done.length === 1 && rows.rowOf(items.find((item) => item.image));
    // Whoever writes or presses something meanwhile is not interrupted.
    const here = document.activeElement;
    if (row && (here === document.body || here === chooser || here.matches(".link"))) row.select();
    const what = await copyAll(done);
    if (row) row.say(what);
    else if (what) notify(what);
    rows.draw();
    told.push(done.length === 1 ? `${done[0].name} is uploaded.` : `${done.length} pictures are uploaded.`, what);
  }
  if (failed.length === 1) told.push(`${failed[0].name}:`, ...failed[0].problem.sentences);
  else if (failed.length) told.push(`${failed.length} failed.`);
  say(told);
}

async function copied(some) {
  const refused = "The browser does not allow to copy. Select the text and copy it yourself.";
  const what = await copyAll(some);
  notify(what || refused, { problem: !what });
}

// Returns what to say of it, "" where the browser does not allow it.
async function copyAll(some) {
  const what = some.length === 1 ? FORMATS.find(([known]) => known === format)[1] : `${some.length} links`;
  return (await copy(some.map((image) => formatted(image, format)).join("\n"))) ? `${what} copied.` : "";
}

function say(words) {
  status.textContent = words.join(" ").trim();
}

function offerFormats() {
  const place = results.querySelector(".formats");
  for (const [value, word] of FORMATS) {
    const radio = make("input", { type: "radio", name: "format", value, checked: value === format });
    radio.addEventListener("change", () => {
      format = value;
      chooseFormat(value);
      rows.draw();
    });
    place.append(make("label", {}, radio, word));
  }
}

async function suggestNamespaces() {
  const place = document.getElementById("namespaces");
  const found = place && (await call("GET", "v1/namespaces").catch(() => null));
  place?.append(...(found?.data ?? []).map((one) => make("option", { value: one.name })));
}
