// Make elements; text is inserted as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(label, act, title = "") {
  const made = element("button", "", label);
  made.type = "button";
  if (title) made.title = title;
  made.addEventListener("click", act);
  return made;
}

/** Return a button that shows a symbol, with a name for those who cannot see it. */
export function iconButton(symbol, label, act) {
  const made = button(symbol, act, label);
  made.setAttribute("aria-label", label);
  made.classList.add("icon");
  return made;
}

/** Change an element's children to those of another, and keep each one that is equal, with its scroll position. */
export function morph(current, wanted) {
  const [old, made] = [[...current.childNodes], [...wanted.childNodes]];
  made.forEach((node, position) => {
    const known = old[position];
    if (!known) current.append(node);
    else if (known.isEqualNode(node)) { /* stays as it is */ }
    else if (known.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) known.data = node.data;
    else if (known.nodeName === node.nodeName && sameAttributes(known, node)) morph(known, node);
    else known.replaceWith(node);
  });
  for (const one of old.slice(made.length)) one.remove();
}

function sameAttributes(one, other) {
  const names = one.getAttributeNames?.() ?? [];
  return names.length === (other.getAttributeNames?.() ?? []).length
    && names.every((name) => one.getAttribute(name) === other.getAttribute(name));
}
