// Color code: the highlighter is loaded when the first block of code needs it.

const MAX = 30_000; // characters of a block; a longer one stays plain
const MAX_GROWING = 3_000; // of a block that still grows, which is colored again each time
const CACHED = 50;

let highlighter = null;
let loading = null;
const cache = new Map();

export function loadHighlighter() {
  loading ??= import("./vendor/highlight.js").then((module) => { highlighter = module.default; });
  return loading;
}

export const needsHighlighter = (text, closed) => !highlighter && text.length <= (closed ? MAX : MAX_GROWING);

/** Return the colored text; null if it stays plain, or if the highlighter is not loaded. */
export function highlighted(text, language, closed) {
  if (!highlighter || text.length > (closed ? MAX : MAX_GROWING) || !highlighter.getLanguage(language)) return null;
  const key = `${language}\n${text}`;
  let found = cache.get(key);
  if (!found) {
    const { value } = highlighter.highlight(text, { language, ignoreIllegals: true });
    found = parsed(value);
    if (found.textContent !== text) return null; // never show another text than the model's
    if (text.length > MAX_GROWING) return found; // is made once
    if (cache.size >= CACHED) cache.delete(cache.keys().next().value);
    cache.set(key, found);
  }
  return found.cloneNode(true);
}

/** Return the nodes of the highlighter's HTML, which has nothing but text and `<span class="...">`. */
function parsed(html) {
  const root = document.createDocumentFragment();
  let current = root;
  for (const [, , className, text] of html.matchAll(/(<span class="([\w\s.-]*)">|<\/span>)|([^<]+)/g)) {
    if (text !== undefined) current.append(text.replace(/&(?:amp|lt|gt|quot|#x27);/g, (name) => ENTITIES[name]));
    else if (className === undefined) current = current.parentNode ?? root;
    else {
      const span = document.createElement("span");
      span.className = className;
      current.append(span);
      current = span;
    }
  }
  return root;
}

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'" };
