// What can be done with the chosen pictures. Loaded when the first one is chosen.
//
// Batches of a hundred, one after the other. A batch that fails stops the work and asks; a single picture that is
// refused is named at the end, stays chosen and stays as it is.

import { Problem, call, csrf, lost, root } from "./api.js";
import { FORMATS, chooseFormat, chosenFormat, copy, formatted } from "./copy.js";
import { make, sentences } from "./elements.js";
import { pictures } from "./filters.js";
import { notify } from "./notify.js";
import { busy, settle } from "./selection.js";
import { focus } from "./walk.js";

const BATCH = 100;
const PATIENT = 3; // times that the server may ask to wait, for one batch
const count = new Intl.NumberFormat("en");
const ENDS = [["", "Never"], ["1h", "In an hour"], ["1d", "In a day"], ["7d", "In a week"], ["30d", "In 30 days"], ["90d", "In 90 days"]];

// A small dialog with a form; resolves to what was filled in, or null.
function ask(title, fields, action, { danger = false } = {}) {
  const yes = make("button", { value: "yes", className: danger ? "danger" : "" }, action);
  const no = make("button", { value: "", className: "plain", formNoValidate: true }, "Cancel");
  const form = make("form", { method: "dialog" }, make("h2", { id: "asked" }, title), ...fields, make("div", { className: "actions" }, yes, no));
  const box = make("dialog", { className: "sheet-box", "aria-labelledby": "asked" }, form);
  document.body.append(box);
  box.showModal();
  return new Promise((resolve) => {
    box.addEventListener("close", () => {
      resolve(box.returnValue === "yes" ? new FormData(form) : null);
      box.remove();
    });
  });
}

const label = (words, field) => make("label", {}, words, field);
const choices = (name, pairs, chosen) => make("select", { name }, ...pairs.map(([value, words]) => make("option", { value, selected: value === chosen }, words)));

function known(id, list = []) {
  return make("datalist", { id }, ...list.slice(0, 500).map((one) => make("option", { value: one.name })));
}

export class Bar {
  constructor(gallery) {
    Object.assign(this, gallery); // grid, filters, gone, ended, memory, selection; `gallery` itself for what changes
    this.working = null;
    this.waiting = 0; // pictures that are deleted when it is too late to undo it
    this.number = make("strong", { role: "status" });
    const button = (words, work, kind = "plain") => {
      const made = make("button", { type: "button", className: kind }, words);
      made.addEventListener("click", () => work.call(this));
      return made;
    };
    const clear = button("×", () => this.selection.clear(), "plain x");
    clear.setAttribute("aria-label", "Clear");
    this.everything = button("Select all", this.selectAll);
    this.element = make(
      "div",
      { className: "bar", role: "toolbar", "aria-label": "Chosen pictures" },
      clear,
      this.number,
      this.everything,
      button("Copy links", this.copy),
      button("Download ZIP", this.download),
      button("Tags", this.tag),
      button("Move", this.move),
      button("Visibility", this.visibility),
      button("Expiry", this.expiry),
      button("Delete", this.delete, "plain danger"),
    );
    document.body.append(this.element);
    this.flushes = new Set();
    // Who leaves has not taken back what they deleted.
    addEventListener("pagehide", () => this.flushes.forEach((flush) => flush()));
    addEventListener("beforeunload", (event) => {
      if (this.working || this.waiting > BATCH) event.preventDefault();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || !this.waiting || busy()) return;
      event.preventDefault();
      [...document.querySelectorAll(".notes button")].at(-1)?.click();
    });
  }

  show() {
    const { size } = this.selection;
    const held = document.activeElement;
    this.element.hidden = !size;
    this.number.textContent = `${count.format(size)} selected`;
    const more = this.gallery.cursor !== null || size < this.grid.items.length;
    this.everything.hidden = !more;
    this.everything.textContent = this.filters.words() ? "Select all found" : "Select all";
    if (this.element.contains(held) && !held.checkVisibility()) settle(this.grid);
  }

  async selectAll() {
    const { grid, gallery } = this;
    const box = gallery.cursor === null ? null : this.progress("Reading the list");
    while (gallery.cursor !== null && box.tell(`${count.format(grid.items.length)} so far`) && (await gallery.next())) {
      // Previews of what nobody looks at would fill the memory.
      for (const record of grid.items.slice(-BATCH)) if (!grid.tiles.has(record.id)) record.small = "";
    }
    box?.end();
    this.selection.add(grid.items);
  }

  // A dialog that says how far something is; `tell` answers whether to go on.
  progress(title) {
    const words = make("p", { role: "status" });
    const bar = make("progress", { "aria-label": title });
    const box = make("dialog", { className: "sheet-box", "aria-labelledby": "doing" }, make("h2", { id: "doing" }, title), bar, words);
    const stop = make("button", { type: "button", className: "plain" }, "Stop");
    let going = true;
    stop.addEventListener("click", () => (going = false));
    box.addEventListener("cancel", (event) => {
      event.preventDefault();
      going = false;
    });
    box.append(make("div", { className: "actions" }, stop));
    document.body.append(box);
    box.showModal();
    return {
      tell(text, part) {
        words.textContent = text;
        if (part !== undefined) bar.value = part;
        return going;
      },
      end() {
        box.close(); // brings the keyboard back to where it was
        box.remove();
      },
      stopped: new Promise((resolve) => stop.addEventListener("click", resolve)),
    };
  }

  // Do `work(ids)` to all, batch by batch. Resolves to { done: ids, failed: [{id, message}], left: records }.
  async batches(records, title, work) {
    const box = records.length > BATCH ? this.progress(title) : null;
    const result = { done: [], failed: [], left: [] };
    this.working = title;
    for (let at = 0; at < records.length; at += BATCH) {
      const batch = records.slice(at, at + BATCH);
      const going = box ? box.tell(`${count.format(at)} of ${count.format(records.length)}`, at / records.length) : true;
      const answer = going ? await this.batch(batch, work, box) : null;
      if (!answer) {
        result.left = records.slice(at);
        break;
      }
      result.done.push(...answer.ids);
      result.failed.push(...answer.failed);
    }
    this.working = null;
    box?.end();
    return result;
  }

  // One batch, again and again if the server asks for patience or a person wants it; null: no more.
  async batch(batch, work, box) {
    for (let waits = 0; ; ) {
      try {
        return await work(batch.map((record) => record.id));
      } catch (problem) {
        if ((problem.status === 429 || problem.status === 503) && problem.seconds && waits++ < PATIENT) {
          box?.tell(`The server is busy. Going on in ${problem.seconds} seconds.`);
          await Promise.race([new Promise((resolve) => setTimeout(resolve, problem.seconds * 1000)), ...(box ? [box.stopped] : [])]);
          if (box && !box.tell("Going on")) return null;
          continue;
        }
        const words = sentences(problem);
        if (!(await ask("This did not go through", words.length ? words : [String(problem)], "Try again"))) return null;
      }
    }
  }

  // Say what became of it: in a line if all went well, else by name and reason.
  async report({ done, failed, left }, records, doneWords, verb) {
    if (!failed.length && !left.length) {
      if (doneWords) notify(doneWords);
      return;
    }
    const names = new Map(records.map((record) => [record.id, record.name]));
    const lines = [`${pictures(done.length)} ${verb}.`];
    if (left.length) lines.push(`${pictures(left.length)} not ${verb}, because it was stopped.`);
    if (failed.length) lines.push(`${pictures(failed.length)} could not be ${verb}:`);
    const list = make("ul", {}, ...failed.slice(0, 200).map((one) => make("li", {}, `${names.get(one.id) ?? one.id}: ${one.message}`)));
    if (failed.length > 200) list.append(make("li", {}, `and ${count.format(failed.length - 200)} more`));
    await ask("Not everything went through", [...lines.map((line) => make("p", {}, line)), ...(failed.length ? [list] : [])], "Close");
  }

  async change(body, title, doneWords, verb) {
    const records = this.selection.records();
    if (!records.length) return; // they went while the dialog was open
    const result = await this.batches(records, title, async (ids) => {
      const answer = await call("PATCH", `v1/media?ids=${ids}`, body);
      // Events say the same; this holds where none arrive.
      const seen = answer.ids.filter((id) => this.grid.tiles.has(id));
      if (seen.length) call("GET", `v1/media?limit=100&ids=${seen}`).then(async (page) => {
        const live = await this.live();
        page.data.forEach((image) => live.update(image));
      }).catch(() => {});
      return answer;
    });
    this.filters.count().catch(() => {});
    if (result.failed.length || result.left.length) this.selection.drop(result.done);
    await this.report(result, records, `${pictures(result.done.length)} ${doneWords}`, verb);
  }

  async tag() {
    const mode = choices("mode", [["add", "Add"], ["remove", "Remove"]], "add");
    const field = make("input", { name: "tags", required: true, autofocus: true, maxLength: 500, autocomplete: "off", placeholder: "sea, holiday" });
    field.setAttribute("list", "known-tags");
    const list = known("known-tags", this.filters.lists?.tags);
    const got = await ask(`Tags of ${pictures(this.selection.size)}`, [label("Do", mode), label("Tags, with commas between", field), list], "Apply");
    if (!got?.get("tags").trim()) return;
    const adding = got.get("mode") === "add";
    const body = { tags: got.get("tags"), tag_mode: got.get("mode") };
    await this.change(body, adding ? "Adding tags" : "Removing tags", adding ? "tagged" : "no longer tagged so", "changed");
  }

  async move() {
    const field = make("input", { name: "namespace", autofocus: true, pattern: "[a-z0-9]([a-z0-9\\-]{0,62}[a-z0-9])", maxLength: 64, autocomplete: "off", title: "2 to 64 of a-z, 0-9 and hyphens" });
    field.setAttribute("list", "known-namespaces");
    const hint = make("p", { className: "quiet" }, "2 to 64 of a-z, 0-9 and hyphens. Empty takes them out of their namespace.");
    const list = known("known-namespaces", this.filters.lists?.namespaces);
    const got = await ask(`Move ${pictures(this.selection.size)}`, [label("To the namespace", field), hint, list], "Move");
    if (!got) return;
    const name = got.get("namespace").trim();
    await this.change({ namespace: name }, "Moving", name ? `moved to ${name}` : "taken out of their namespace", "moved");
  }

  async visibility() {
    const field = choices("public", [["true", "Public: anyone with the link"], ["false", "Private: only you"]], "true");
    const got = await ask(`Who sees ${pictures(this.selection.size)}`, [label("Visibility", field)], "Apply");
    if (!got) return;
    const open = got.get("public") === "true";
    await this.change({ public: open }, "Changing the visibility", open ? "public now" : "private now", "changed");
  }

  async expiry() {
    const got = await ask(`Expiry of ${pictures(this.selection.size)}`, [label("Ends", choices("ttl", ENDS, "7d"))], "Apply");
    if (!got) return;
    const ttl = got.get("ttl") || null;
    await this.change({ ttl }, "Changing the expiry", ttl ? "set to expire" : "kept as long as the plan says", "changed");
  }

  async copy() {
    const records = this.selection.records();
    // Read first: browsers let a page copy only right after a click.
    const images = [];
    const result = await this.batches(records, "Reading the links", async (ids) => {
      const page = await call("GET", `v1/media?limit=100&ids=${ids}`);
      images.push(...page.data);
      return { ids, failed: [] };
    });
    if (result.left.length) return;
    const places = new Map(records.map((record, index) => [record.id, index]));
    images.sort((a, b) => places.get(a.id) - places.get(b.id));
    const select = choices("format", FORMATS, chosenFormat());
    const shown = make("textarea", { readOnly: true, rows: 5, "aria-label": "What is copied" });
    const text = () => images.map((image) => formatted(image, select.value)).join("\n");
    const fill = () => (shown.value = text());
    select.addEventListener("change", () => {
      chooseFormat(select.value);
      fill();
    });
    fill();
    if (!(await ask(`Links of ${pictures(images.length)}`, [label("Format", select), shown], "Copy"))) return;
    if (await copy(text())) notify(`${images.length === 1 ? "Link" : `${count.format(images.length)} links`} copied`);
    else notify("The browser did not let this page copy. Select the text and copy it.", { problem: true });
  }

  async download() {
    const records = this.selection.records();
    const fields = { csrf, ids: records.map((record) => record.id).join(".") };
    const action = new URL("dashboard/zip", root).href;
    // Asked first: a form that is refused would put a page of its own in the place of the gallery.
    try {
      const body = new URLSearchParams({ ...fields, check: 1 });
      const answer = await fetch(action, { method: "POST", headers: { Accept: "application/json" }, body }).catch(() => {
        throw lost();
      });
      if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
    } catch (problem) {
      notify(problem.sentences.join(" "), { problem: true });
      return;
    }
    const form = make("form", { method: "post", action, hidden: true });
    for (const [name, value] of Object.entries(fields)) form.append(make("input", { type: "hidden", name, value }));
    document.body.append(form);
    form.submit();
    form.remove();
    notify(`${pictures(records.length)} on the way as a ZIP file`);
  }

  async delete() {
    const records = this.selection.records();
    if (records.length > BATCH) {
      const words = make("p", {}, "Links to them stop working, everywhere.");
      if (!(await ask(`Delete ${pictures(records.length)}?`, [words], "Delete", { danger: true }))) return;
    }
    const { state } = this.gallery;
    const ids = new Set(records.map((record) => record.id));
    const here = this.grid.active && ids.has(this.grid.active.id) ? this.grid.place(this.grid.active.id) : -1;
    for (const id of ids) this.gone.add(id);
    this.waiting += ids.size;
    this.grid.remove(ids);
    this.selection.clear();
    this.gallery.total -= ids.size;
    this.gallery.say();
    if (here >= 0 && this.grid.items.length) focus(this.grid, Math.min(here, this.grid.items.length - 1));
    else if (here >= 0) settle(this.grid);
    // Back into the list that they were in; another one is read again, and so is every other that is remembered.
    const restore = async (taken) => {
      const back = taken.filter((record) => !this.ended.has(record.id));
      if (!back.length) return;
      for (const record of back) this.gone.delete(record.id);
      this.gallery.total += back.length;
      this.memory.clear();
      if (state === this.gallery.state) this.grid.insert(back);
      else (await this.live()).reset();
      this.gallery.say();
    };
    const leave = new AbortController();
    const flush = () => {
      leave.abort();
      for (let at = 0; at < records.length; at += BATCH) {
        const part = records.slice(at, at + BATCH).map((record) => record.id);
        call("DELETE", `v1/media?ids=${part}`, undefined, { keepalive: true }).catch(() => {});
      }
    };
    this.flushes.add(flush);
    const how = await notify(`${pictures(records.length)} deleted`, { undo: "Undo", signal: leave.signal });
    this.flushes.delete(flush);
    this.waiting -= ids.size;
    if (how === "undone") {
      restore(records);
      if (document.activeElement === document.body) settle(this.grid, records[0].id);
      return undefined;
    }
    if (leave.signal.aborted) return undefined;
    const result = await this.batches(records, "Deleting", (part) => call("DELETE", `v1/media?ids=${part}`));
    const kept = new Set([...result.failed.filter((one) => one.error !== "not_found").map((one) => one.id), ...result.left.map((record) => record.id)]);
    restore(records.filter((record) => kept.has(record.id)));
    this.filters.count().catch(() => {});
    await this.report({ ...result, failed: result.failed.filter((one) => kept.has(one.id)) }, records, "", "deleted");
  }
}
