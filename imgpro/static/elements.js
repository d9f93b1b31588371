// Elements from script: properties as they are, `data-` and `aria-` names as attributes, then what is inside.

export function make(tag, properties = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...inside);
  return element;
}

// What lies on top: nothing outside of an open dialog can be seen, selected or pressed.
export const front = () => [...document.querySelectorAll("dialog[open], :fullscreen")].at(-1) ?? document.body;

// A problem in the server's words; where it names a page that helps, with the way there.
export function sentences(problem) {
  const { url, label } = problem?.action ?? {};
  return (problem?.sentences ?? []).map((text) => {
    const leads = url?.startsWith("http") && text === `${label}.`;
    return make("p", {}, leads ? make("a", { href: url, textContent: label }) : text);
  });
}
