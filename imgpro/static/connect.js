// The pages that connect other programs: copying what they are given, and waiting for their first picture.

import { call, here, root, when } from "./api.js";
import { copyButtons } from "./copy.js";
import { make } from "./elements.js";
import { listen } from "./events.js";

const POLL_MS = 5_000;
const KEY = /^img_live_[0-9A-Za-z]{32}$/;

for (const moment of document.querySelectorAll("[data-at]")) moment.textContent = when(Number(moment.dataset.at));

copyButtons();

// On the phone: the code's address brings the key behind its #, which no server sees.
const phone = document.querySelector("[data-placeholder]");
if (phone) {
  const key = location.hash.slice(1);
  if (KEY.test(key)) {
    const fill = (text) => text.replaceAll(phone.dataset.placeholder, key);
    for (const input of phone.querySelectorAll("input")) input.value = fill(input.value);
    for (const code of phone.querySelectorAll("code")) code.textContent = fill(code.textContent);
    phone.querySelector("[data-without-key]").remove();
    history.replaceState(null, "", location.pathname); // neither in the bar nor among the pages that were open
  }
}

const arrival = document.getElementById("arrival");
if (arrival && !("done" in arrival.dataset)) wait(arrival);

// Ask whether this very key has brought a picture: when there is an upload, and where events do not come, now and then.
function wait(box) {
  const status = box.querySelector("[role=status]");
  const title = status.querySelector("h2");
  let live = false;
  let asking = false;
  let again = false;
  title.textContent = "Waiting for your first upload…";
  box.classList.add("waiting");
  box.querySelector("form").hidden = true;

  const ask = async () => {
    again = asking;
    if (asking) return;
    asking = true;
    try {
      const { picture } = await call("GET", box.dataset.ask);
      if (picture) return show(picture);
    } catch (problem) {
      // A lost connection comes back; anything else does not go away by asking.
      if (problem.status) return give_up(problem);
    } finally {
      asking = false;
    }
    if (again) ask();
  };
  const events = "EventSource" in window ? listen({ uploaded: ask, reset: ask, state: (open) => (live = open) }) : null;
  const timer = setInterval(() => live || document.hidden || ask(), POLL_MS);
  const seen = () => document.hidden || ask();
  document.addEventListener("visibilitychange", seen);

  function end() {
    clearInterval(timer);
    events?.close();
    document.removeEventListener("visibilitychange", seen);
    box.classList.remove("waiting");
  }
  function show(picture) {
    end();
    box.classList.add("here");
    const { width, height } = picture.sizes.s;
    const small = make("img", { src: here(picture.thumb), width, height, alt: "" });
    const link = make("a", { href: new URL(picture.id, root) }, small, make("bdi", {}, picture.name));
    title.textContent = "Connected. Your first upload is here.";
    status.replaceChildren(title, link);
  }
  function give_up(problem) {
    end();
    title.textContent = "Not there yet";
    status.querySelector("p").textContent = problem.sentences.join(" ");
    box.querySelector("form").hidden = false;
  }
}
