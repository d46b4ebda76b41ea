// Elements from values: nothing here or elsewhere writes HTML as text, so no name can be markup.

/** Create an element: properties by name ("on..." are listeners, "data-", "aria-" and "role" are
 * attributes), then children: nodes, texts, or null for none. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || !(name in element)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Create an SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Put children in the place of all that an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Tell something to everybody: it is shown on top of the page and read by screen readers. */
export function announce(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text; // what is said twice is read once
}

/** Wait, and longer while a place is hidden, so that nothing is asked for that nobody sees. An
 * AbortError where the place has left the page. */
export async function pause(milliseconds, place) {
  do {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    if (!place.isConnected) throw new DOMException("nobody waits", "AbortError");
  } while (document.hidden || place.closest("[hidden]"));
}

/** Make a list box of an element's options (role="option"): one is reached by Tab, the others by
 * arrows, Home and End; Enter, Space or a click choose. `choose(option)` is told. */
export function listBox(element, choose) {
  element.setAttribute("role", "listbox");
  const options = () => [...element.querySelectorAll('[role="option"]')];
  const select = (option) => {
    for (const other of options()) other.setAttribute("aria-selected", other === option);
    reach(options(), option);
    choose(option);
  };
  element.addEventListener("click", (event) => {
    const option = event.target.closest('[role="option"]');
    if (option) select(option);
  });
  element.addEventListener("keydown", (event) => {
    const all = options();
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") select(all[at]);
    else if (!moveTo(all, target(all, at, event.key))) return;
    event.preventDefault();
  });
}

function moveTo(options, option) {
  if (!option) return false;
  reach(options, option);
  option.focus();
  return true;
}

/** Let Tab reach this option, and no other of its list. */
function reach(options, option) {
  for (const other of options) other.setAttribute("tabindex", other === option ? 0 : -1);
}

/** Return the option that a key leads to; up and down go by where the options stand. */
function target(options, at, key) {
  const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: options.length - 1 };
  if (key in steps) return options[steps[key]];
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const from = options[at].getBoundingClientRect();
  const beyond = options.filter((option) => {
    const { top } = option.getBoundingClientRect();
    return key === "ArrowDown" ? top >= from.bottom - 1 : top < from.top - 1;
  });
  return nearest(beyond, from);
}

function nearest(options, from) {
  const distance = (option) => {
    const { left, top } = option.getBoundingClientRect();
    return Math.abs(left - from.left) + 4 * Math.abs(top - from.top);
  };
  return options.reduce((best, option) => (!best || distance(option) < distance(best) ? option : best), undefined);
}
