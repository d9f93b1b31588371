// The page of a picture: what is copied, keys, zoom, the pictures beside it, deleting with a way back, and what
// happens to it meanwhile. Without script the fields can be copied by hand, and forms and links do the rest.

import { call, listen, root, when } from "./api.js";
import { chooseFormat, chosenFormat, copy } from "./copy.js";
import { notify } from "./notify.js";
import { Lens, swiped } from "./zoom.js";

const QUIET = "imgpro.keys"; // "off" where somebody does not want keys without Ctrl or Alt to do anything

const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" }); // a day is one everywhere

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
const shown = picture.querySelector(".shown");
const { id } = picture.dataset;
const address = new URL(picture.dataset.page, location).href;
const mine = "owner" in picture.dataset;
const help = byId("keys");
const keysOn = byId("keys-on");

const editing = () => import("./edit.js"); // most who look at a picture change nothing

const lens = new Lens(byId("lens"), {
  src: new URL(picture.dataset.src, location).href,
  width: Number(picture.dataset.width),
  height: Number(picture.dataset.height),
  shown,
  go,
});

// The parts of the page that change with the picture; called again whenever they were fetched anew.
function prepare() {
  for (const time of byId("facts").querySelectorAll("time")) {
    time.title = time.textContent;
    const at = new Date(time.dateTime);
    time.textContent = time.dateTime.includes("T") ? when(at / 1000) : days.format(at);
  }
  prepareShare();
  prepareBeside();
  const box = byId("edit");
  if (box?.open) startEdit(box);
  else box?.addEventListener("toggle", () => startEdit(box), { once: true });
}

async function startEdit(box) {
  if ("ready" in box.dataset) return;
  box.dataset.ready = "";
  (await editing()).prepareEdit(box, id, saved);
}

async function saved() {
  await refresh({ all: true });
  notify("Saved.");
  byId("edit")?.querySelector("summary").focus();
}

// Copying

function prepareShare() {
  const share = byId("share");
  const field = byId("chosen");
  const pick = (format) => {
    field.value = byId(`copy-${format}`).value;
    share.querySelector(`.switch [value="${format}"]`).checked = true;
  };
  share.querySelector(".chosen").hidden = false;
  byId("all").open = false;
  pick(chosenFormat());
  field.readOnly = true;
  share.querySelector(".switch").addEventListener("change", (event) => {
    chooseFormat(event.target.value);
    pick(event.target.value);
  });
  byId("copy").addEventListener("click", copyChosen);
  for (const input of share.querySelectorAll(".copy input")) input.addEventListener("focus", () => input.select());
  for (const row of share.querySelectorAll("details .copy")) {
    const button = row.querySelector("button");
    button.hidden = false;
    button.addEventListener("click", () =>
      take(row.querySelector("input"), row.querySelector("label").textContent, button),
    );
  }
}

function copyChosen() {
  const label = byId("share").querySelector(".switch :checked").parentElement.textContent.trim();
  return take(byId("chosen"), label, byId("copy"));
}

async function take(field, label, button) {
  if (await copy(field.value)) {
    notify(`${label} copied.`);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  } else {
    field.focus();
    field.select();
    notify("The browser did not copy it. Press Ctrl+C.", { problem: true });
  }
}

// The pictures beside it

const beside = (rel) => byId("between")?.querySelector(`[rel=${rel}]`);

function go(rel) {
  const link = beside(rel);
  if (!link) return false;
  if (lens.open) location.replace(`${link.href}#zoom`);
  else location.assign(link.href);
  return true;
}

function prepareBeside() {
  for (const rel of ["prev", "next"]) byId("lens").querySelector(`.${rel}`).hidden = !beside(rel);
  if (navigator.connection?.saveData) return;
  const ahead = ["next", "prev"].map((rel) => beside(rel)?.dataset.ahead).filter(Boolean);
  const fetchAhead = () => ahead.forEach((src) => (new Image().src = src));
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 300));
  const later = () => idle(fetchAhead);
  if (document.readyState === "complete") later();
  else addEventListener("load", later, { once: true });
}

function prepareSwipe() {
  let from = null;
  const stage = picture.querySelector(".stage");
  stage.addEventListener("pointerdown", (event) => {
    from = event.isPrimary && event.pointerType !== "mouse" ? [event.clientX, event.clientY] : null;
  });
  stage.addEventListener("pointerup", (event) => {
    if (from === null || (window.visualViewport?.scale ?? 1) > 1.01) return;
    const rel = swiped(event.clientX - from[0], event.clientY - from[1]);
    from = null;
    if (rel) go(rel);
  });
}

// Deleting: nothing is sent while it can be undone; whoever leaves the page has made up their mind.

let deletion = null;

async function remove(link) {
  if (deletion) return;
  const token = new URL(link.href).searchParams.get("token");
  const path = `v1/media/${id}${token ? `?token=${encodeURIComponent(token)}` : ""}`;
  let sent = null;
  deletion = { send: () => (sent ??= call("DELETE", path, undefined, { keepalive: true })) };
  lens.close();
  document.body.classList.add("going");
  const answer = await notify("The picture is being deleted.", { undo: "Undo" });
  if (answer === "undone" && sent === null) {
    restore();
    notify("The picture is kept.");
    return;
  }
  try {
    await deletion.send();
  } catch (problem) {
    if (problem.status !== 404) {
      restore();
      notify(problem.sentences.join(" "), { problem: true });
      return;
    }
  }
  leave();
}

function restore() {
  deletion = null;
  document.body.classList.remove("going");
}

function leave() {
  const next = beside("next") ?? beside("prev");
  if (mine) location.replace(next ? next.href : new URL("dashboard", root).href);
  else gone();
}

function gone() {
  watcher.end();
  lens.close();
  document.body.classList.remove("viewer", "going");
  document.querySelector("main").replaceChildren(byId("gone").content.cloneNode(true));
  const heading = document.querySelector("main h1");
  document.title = heading.textContent;
  heading.focus();
  isGone = true;
}

let isGone = false;

// What happens meanwhile

async function refresh({ all = false } = {}) {
  let answer;
  let text;
  try {
    answer = await fetch(address, { headers: { Accept: "text/html" } });
    text = await answer.text();
  } catch {
    return; // no connection: what is here may still be true
  }
  if (isGone || deletion) return;
  if (answer.status === 404) return void gone();
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const box = byId("edit");
  const keeps = box?.open && !all && (await editing()).isTyped(box);
  for (const part of ["facts", "between", "share", "edit"]) {
    if (part === "edit" && keeps) continue;
    swap(byId(part), fresh.getElementById(part), !all);
  }
  shown.alt = fresh.querySelector(".shown").alt;
  byId("lens").ariaLabel = fresh.getElementById("lens").ariaLabel;
  document.title = fresh.title;
  prepare();
}

// Put a part in the place of another; what was unfolded stays so, and the focus where it was.
function swap(now, then, keepOpen) {
  if (!now || !then) return void now?.remove();
  const focused = now.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...now.querySelectorAll("details[open]")].map((one) => one.id);
  if (keepOpen && now.open) then.open = true;
  now.replaceWith(document.adoptNode(then));
  for (const name of open) byId(name).open = true;
  if (focused) byId(focused)?.focus();
}

// Browsers open only six lines to a server at once: a page that nobody looks at needs none.
const watcher = {
  line: null,
  start() {
    if (!mine || isGone || this.line || document.visibilityState !== "visible") return;
    const touches = (other) => other === id || other === beside("prev")?.dataset.id || other === beside("next")?.dataset.id;
    this.line = listen({
      changed: (image) => touches(image.id) && refresh(),
      deleted: (image) => {
        if (image.id === id) deletion || gone();
        else if (touches(image.id)) refresh();
      },
      reset: () => refresh(),
    });
  },
  end() {
    this.line?.close();
    this.line = null;
  },
};

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return watcher.end();
  if (!mine || isGone) return;
  refresh();
  watcher.start();
});
addEventListener("pagehide", () => {
  watcher.end();
  deletion?.send().catch(() => {});
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // as it was is not as it is
});

// Keys

const keys = {
  ArrowLeft: () => go("prev"),
  ArrowRight: () => go("next"),
  z: () => lens.show(),
  "+": () => lens.show(),
  f: () => lens.full(),
  c: copyChosen,
  d: () => byId("download").click(),
  "?": () => help.showModal(),
};

function pressed(event) {
  if (event.defaultPrevented || event.isComposing || isGone) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  if (deletion && event.key === "z" && (event.ctrlKey || event.metaKey)) {
    document.querySelector(".notes button")?.click();
    return event.preventDefault();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || help.open || !keysOn.checked) return;
  if (lens.open && lens.key(event.key)) return event.preventDefault();
  const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  if (act && act() !== false) event.preventDefault();
}

function prepareKeys() {
  try {
    keysOn.checked = localStorage.getItem(QUIET) !== "off";
  } catch {
    // Storage is forbidden here: keys are on.
  }
  keysOn.addEventListener("change", () => {
    try {
      localStorage.setItem(QUIET, keysOn.checked ? "on" : "off");
    } catch {
      // Then it holds for this page only.
    }
  });
  const button = byId("show-keys");
  button.hidden = false;
  button.addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", pressed);
}

// Zoom

const zoom = byId("zoom");
zoom.hidden = false;
zoom.addEventListener("click", () => lens.show());
byId("whole").classList.add("zooms");
byId("whole").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return;
  event.preventDefault();
  lens.show();
});
byId("delete")?.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  remove(event.currentTarget);
});

prepareKeys();
prepareSwipe();
prepare();
watcher.start();
