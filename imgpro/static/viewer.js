// The page of a picture: what is copied, keys, zoom, the pictures beside it, deleting with a way back, and what
// happens to it meanwhile. Without script the fields can be copied by hand, and forms and links do the rest.

import { call, day, root, when } from "./api.js";
import { chooseFormat, chosenFormat, copyButtons } from "./copy.js";
import { listen } from "./events.js";
import { notify } from "./notify.js";
import { Lens, swiped } from "./zoom.js";

const QUIET = "imgpro.keys"; // "off" where somebody does not want keys without Ctrl or Alt to do anything

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

// The parts of the page that change with the picture, and what each needs whenever it was fetched anew.
const parts = { facts: prepareFacts, between: prepareBeside, share: prepareShare, edit: prepareEdit };
const came = {}; // each as the server sent it, before anything here touched it

function prepareFacts() {
  for (const time of byId("facts").querySelectorAll("time")) {
    const seconds = new Date(time.dateTime) / 1000;
    time.title = time.textContent;
    time.textContent = time.dateTime.includes("T") ? when(seconds) : day(seconds, true);
  }
}

function prepareEdit() {
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
  const pick = (format) => {
    const radio = share.querySelector(`.switch [value="${format}"]`);
    radio.checked = true;
    byId("chosen").value = byId(`copy-${format}`).value;
    byId("copy").dataset.what = radio.parentElement.textContent.trim();
  };
  share.querySelector(".chosen").hidden = false;
  pick(chosenFormat());
  share.querySelector(".switch").addEventListener("change", (event) => {
    chooseFormat(event.target.value);
    pick(event.target.value);
  });
  copyButtons(share);
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
  line?.close();
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
  let focus = null;
  for (const name of Object.keys(parts)) {
    const then = fresh.getElementById(name);
    const now = byId(name);
    if (!now || (keeps && now === box) || (!all && then?.outerHTML === came[name])) continue;
    came[name] = then?.outerHTML;
    const at = focusable(now).indexOf(document.activeElement);
    if (at >= 0) focus = () => focusable(byId(name))[at]?.focus({ preventScroll: true });
    swap(now, then, !all);
    parts[name]();
  }
  focus?.();
  shown.alt = fresh.querySelector(".shown").alt;
  byId("lens").ariaLabel = fresh.getElementById("lens").ariaLabel;
  document.title = fresh.title;
}

const focusable = (part) => [...(part?.querySelectorAll("a, button, input, select, summary, textarea") ?? [])];

// Put a part in the place of another; what was unfolded stays so.
function swap(now, then, keepOpen) {
  if (!then) return void now.remove();
  const open = [...now.querySelectorAll("details[open]")].map((one) => one.id);
  for (const one of then.querySelectorAll("details")) one.open = open.includes(one.id);
  if (keepOpen && now.open) then.open = true;
  now.replaceWith(document.adoptNode(then));
}

const touches = (other) => [id, beside("prev")?.dataset.id, beside("next")?.dataset.id].includes(other);
const line = mine
  ? listen({
      changed: (image) => touches(image.id) && refresh(),
      deleted: (image) => {
        if (image.id === id) deletion || gone();
        else if (touches(image.id)) refresh();
      },
      reset: () => refresh(),
    })
  : null;

addEventListener("pagehide", () => deletion?.send().catch(() => {}));
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
  c: () => byId("copy").click(),
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

for (const name of Object.keys(parts)) came[name] = byId(name)?.outerHTML;
byId("all").open = false; // unfolded for those without script
prepareKeys();
prepareSwipe();
for (const prepare of Object.values(parts)) prepare();
