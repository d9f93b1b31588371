// The search field, the days, and what stands at the side: namespaces and tags with counts.

import { call, day } from "./api.js";
import { make } from "./elements.js";
import { SPANS, address, narrows, read, tagsOf } from "./query.js";

const TYPING_MS = 250;
const MANY = 12;
const wide = matchMedia("(min-width: 60rem)");
// While somebody types, a last word of one letter waits for its second: alone it would stand for a whole word.
const begun = (text) => text.replace(/(^|[^\p{L}\p{N}])[\p{Ll}\p{Lu}\p{N}]$/u, "$1").trim();
const dated = (text) => day(new Date(`${text}T12:00`) / 1000);
export const pictures = (count) => (count === 1 ? "1 picture" : `${count.toLocaleString("en")} pictures`);

// Some do not want keys without Ctrl or Alt to do anything; they say so on the page of a picture.
function quiet() {
  try {
    return localStorage.getItem("imgpro.keys") === "off";
  } catch {
    return false;
  }
}

const SAID = {
  q: (text) => `“${text}”`,
  namespace: (text) => `in ${text}`,
  date: (text) => SPANS[text] ?? text,
  from: (text) => `from ${dated(text)}`,
  to: (text) => `to ${dated(text)}`,
  at: (text) => `${dated(text)} and before`,
  type: (text) => text.toUpperCase(),
};

// What is looked for: pairs of words and the state without it.
function parts(state) {
  const tags = tagsOf(state);
  const names = Object.keys(SAID).filter((name) => state[name]);
  return [
    ...names.map((name) => [SAID[name](state[name]), { ...state, [name]: "" }]),
    ...tags.map((tag) => [`tagged ${tag}`, { ...state, tags: tags.filter((one) => one !== tag).join(",") }]),
  ];
}

export class Filters {
  // `change(state, {typing})` is called when somebody wants to see something else.
  constructor(change) {
    this.change = change;
    this.state = {};
    this.lists = null;
    this.side = document.getElementById("side");
    this.form = document.getElementById("find");
    this.chosen = document.getElementById("chosen");
    for (const hidden of this.form.querySelectorAll("[type=hidden]")) hidden.remove();
    const open = () => (this.side.open = wide.matches);
    wide.addEventListener("change", open);
    open();
    this.form.elements.q.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.want({ q: begun(this.form.elements.q.value) }, true), TYPING_MS);
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.want({});
    });
    for (const name of ["type", "from", "to", "at"]) {
      const field = this.form.elements[name];
      field.addEventListener("change", () => {
        const spans = name === "from" || name === "to" ? { date: "", at: "" } : {};
        if (field.validity.valid) this.want({ ...spans, [name]: field.value });
      });
    }
    for (const link of document.querySelectorAll(".spans a")) {
      this.follow(link, () => ({ date: link.dataset.span, from: "", to: "", at: "" }));
    }
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || quiet()) return;
      if (event.target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.form.elements.q.focus();
    });
  }

  // What is typed by now goes with whatever else is wanted.
  want(part, typing = false) {
    clearTimeout(this.timer);
    this.change({ ...this.state, q: this.form.elements.q.value.trim(), ...part }, { typing });
  }

  // A link that needs no new page; its address is right for another tab all the same.
  follow(link, part) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.want(part());
    });
    return link;
  }

  // `typing`: the field of the search is left to whoever types into it.
  show(state, typing) {
    this.state = state;
    clearTimeout(this.timer);
    const { elements } = this.form;
    for (const name of ["q", "type", "from", "to", "at"]) {
      if (!(typing && name === "q") && elements[name].value !== state[name]) elements[name].value = state[name];
    }
    for (const link of document.querySelectorAll(".spans a")) {
      const { span } = link.dataset;
      const on = state.date === span && !(state.from || state.to || state.at);
      link.href = address({ ...state, date: span, from: "", to: "", at: "" });
      link.ariaCurrent = on ? "true" : null;
    }
    this.showChosen(state);
    this.showLists();
  }

  showChosen(state) {
    const chips = parts(state).map(([words, without]) => {
      const chip = make("button", { type: "button", className: "chip plain", "aria-label": `Remove: ${words}` }, words);
      chip.addEventListener("click", () => this.change(without, {}));
      return chip;
    });
    const all = this.follow(make("a", { href: "?" }, "Clear all"), () => read(""));
    const at = [...this.chosen.children].indexOf(document.activeElement);
    this.chosen.replaceChildren(...(narrows(state) ? [...chips, all] : []));
    // The keyboard goes on at the next one; on a phone not in the search field, which would bring up its keys.
    if (at >= 0) (chips[at] ?? chips.at(-1) ?? (wide.matches ? this.form.elements.q : this.side.firstElementChild)).focus();
  }

  words() {
    return parts(this.state).map(([words]) => words).join(", ");
  }

  // Ask for the counts again.
  async count() {
    const lists = await Promise.all(["namespaces", "tags"].map((kind) => call("GET", `v1/${kind}`)));
    this.lists = { namespaces: lists[0].data, tags: lists[1].data };
    this.showLists();
  }

  showLists() {
    const tags = tagsOf(this.state);
    const toggled = (tag) => (tags.includes(tag) ? tags.filter((one) => one !== tag) : [...tags, tag]).join(",");
    this.list("namespaces", [this.state.namespace], (name) => ({ namespace: name === this.state.namespace ? "" : name }));
    this.list("tags", tags, (name) => ({ tags: toggled(name) }));
    const modes = this.side.querySelector(".modes") ?? this.modes();
    modes.hidden = tags.length < 2;
    for (const radio of modes.querySelectorAll("input")) radio.checked = radio.value === (this.state.tag_mode || "any");
  }

  modes() {
    const choice = (value, label) => {
      const radio = make("input", { type: "radio", name: "mode", value });
      radio.addEventListener("change", () => this.want({ tag_mode: value === "all" ? "all" : "" }));
      return make("label", {}, radio, label);
    };
    const modes = make("div", { className: "modes", role: "radiogroup", "aria-label": "Tags" }, choice("any", "with any"), choice("all", "with all"));
    document.getElementById("tags").before(modes);
    return modes;
  }

  list(kind, on, part) {
    const list = document.getElementById(kind);
    const all = this.lists?.[kind];
    if (!all) return;
    if (all.length > MANY && !list.previousElementSibling.matches("input")) {
      const field = make("input", { type: "search", placeholder: `Find in ${all.length.toLocaleString("en")}`, "aria-label": `Find ${kind}` });
      field.addEventListener("input", () => this.showLists());
      list.before(field);
    }
    const sought = list.previousElementSibling.matches("input") ? list.previousElementSibling.value.trim().toLowerCase() : "";
    const fits = all.filter((one) => on.includes(one.name) || one.name.includes(sought));
    const most = fits.length > 200 ? [...fits].sort((a, b) => on.includes(b.name) - on.includes(a.name) || b.count - a.count).slice(0, 200) : fits;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    list.replaceChildren(
      ...most.map((one) => {
        const link = make("a", { href: address({ ...this.state, ...part(one.name) }), "data-name": one.name }, make("span", {}, one.name), " ", make("small", {}, one.count.toLocaleString("en")));
        if (on.includes(one.name)) link.ariaCurrent = "true";
        this.follow(link, () => {
          this.side.open = wide.matches; // on a phone the pictures are below
          return part(one.name);
        });
        return make("li", {}, link);
      }),
      ...(all.length ? [] : [make("li", { className: "quiet" }, "None yet")]),
    );
    if (focused !== null) list.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }
}
