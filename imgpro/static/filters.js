// The search field, the days, and what stands at the side: namespaces and tags with counts.

import { call } from "./api.js";
import { make } from "./elements.js";
import { SPANS, address, narrows, read, tagsOf } from "./query.js";

const TYPING_MS = 250;
const MANY = 12;
const wide = matchMedia("(min-width: 60rem)");
const dated = (text) => new Date(`${text}T12:00`).toLocaleDateString("en", { dateStyle: "medium" });

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
    this.lists = { namespaces: [], tags: [] };
    this.side = document.getElementById("side");
    this.form = document.getElementById("find");
    this.chosen = document.getElementById("chosen");
    for (const hidden of this.form.querySelectorAll("[type=hidden]")) hidden.remove();
    const open = () => (this.side.open = wide.matches);
    wide.addEventListener("change", open);
    open();
    let timer = 0;
    this.form.elements.q.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.want({ q: this.form.elements.q.value.trim() }, true), TYPING_MS);
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(timer);
      this.want({ q: this.form.elements.q.value.trim() });
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
      if (event.key !== "/" || event.target.matches("input, select, textarea")) return;
      event.preventDefault();
      this.form.elements.q.focus();
    });
  }

  want(part, typing = false) {
    this.change({ ...this.state, ...part }, { typing });
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

  show(state) {
    this.state = state;
    const { elements } = this.form;
    for (const name of ["q", "type", "from", "to", "at"]) {
      if (elements[name] !== document.activeElement && elements[name].value !== state[name]) elements[name].value = state[name];
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
    this.chosen.replaceChildren(...(narrows(state) ? [...chips, all] : []));
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
    const all = this.lists[kind];
    if (!all.length) return;
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
    );
    if (focused !== null) list.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }
}
