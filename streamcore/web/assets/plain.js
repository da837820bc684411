// Show a text as it is, in parts: only the last part is drawn again while the text grows, and only parts in view are laid out.
import { element } from "./dom.js";

const PART = 8_000; // characters, about

/** Show a text in an element; the text that it showed before, if any, was this one or its beginning, or is replaced. */
export function showPlain(box, text) {
  const shown = box.textContent;
  if (text === shown) return;
  if (text.length <= PART) {
    box.textContent = text;
    return;
  }
  const parts = box.children.length && text.startsWith(shown) ? [...box.children] : [];
  if (!parts.length) box.replaceChildren();
  let start = parts.slice(0, -1).reduce((sum, part) => sum + part.textContent.length, 0);
  for (let position = Math.max(0, parts.length - 1); start < text.length; position += 1) {
    const end = endOf(text, start);
    const part = parts[position] ?? box.appendChild(element("span", "part"));
    if (part.textContent.length !== end - start) part.textContent = text.slice(start, end);
    start = end;
  }
}

/** Return where a part ends: after a line, or, in a long line, not inside a character. */
function endOf(text, start) {
  const most = start + PART;
  if (most >= text.length) return text.length;
  const line = text.lastIndexOf("\n", most - 1) + 1;
  if (line > start) return line;
  return /[\uD800-\uDBFF]/.test(text[most - 1]) ? most - 1 : most;
}
