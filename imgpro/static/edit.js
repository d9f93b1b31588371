// The form that changes a picture, sent as data so that the page stays where it is.

import { call } from "./api.js";
import { make } from "./elements.js";

// `saved` is called after a change that was taken.
export function prepareEdit(box, id, saved) {
  const form = box.querySelector("form");
  const problem = form.querySelector(".problem");
  const button = form.querySelector("button");
  const cancel = form.querySelector(".cancel");
  cancel.hidden = false;
  cancel.addEventListener("click", () => {
    form.reset();
    show({});
    box.open = false;
    box.querySelector("summary").focus();
  });
  offerNamespaces(form.querySelector("datalist"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const changes = changed(form);
    if (!Object.keys(changes).length) {
      cancel.click();
      return;
    }
    button.disabled = true;
    button.textContent = "Saving";
    show({});
    try {
      await call("PATCH", `v1/media/${id}`, changes);
      await saved();
    } catch (refusal) {
      show(refusal.details ?? {}, refusal.sentences ?? [String(refusal)]);
    } finally {
      button.disabled = false;
      button.textContent = "Save";
    }
  });

  // Say what is wrong beside the fields, and above them what belongs to none.
  function show(details, sentences = []) {
    let first = null;
    for (const field of fields(form)) {
      const words = details[field.name] ?? "";
      document.getElementById(field.getAttribute("aria-describedby")).textContent = words;
      field.toggleAttribute("aria-invalid", Boolean(words));
      if (words) field.setAttribute("aria-invalid", "true");
      first ??= words ? field : null;
    }
    const rest = first ? [] : sentences;
    problem.replaceChildren(...rest.map((text) => make("p", {}, text)));
    first?.focus();
  }
}

// Tell whether somebody has typed something that is not saved.
export function isTyped(box) {
  return Object.keys(changed(box.querySelector("form"))).length > 0;
}

function fields(form) {
  return form.querySelectorAll("[aria-describedby]");
}

// What differs from how the page came; what was not touched here may have been changed elsewhere.
function changed(form) {
  const found = {};
  for (const field of fields(form)) {
    const before = field.options ? [...field.options].find((one) => one.defaultSelected)?.value : field.defaultValue;
    if (field.value !== before) found[field.name] = field.name === "ttl" && !field.value ? null : field.value;
  }
  return found;
}

async function offerNamespaces(list) {
  try {
    const { data } = await call("GET", "v1/namespaces");
    list.replaceChildren(...data.map(({ name }) => make("option", { value: name })));
  } catch {
    // One can type it.
  }
}
