// Show mathematics in TeX: $...$, $$...$$, \(...\), \[...\]; KaTeX is loaded when the first formula needs it.

const MAX = 3_000; // characters of a formula; a longer one stays as it came
const NEAR = 20_000; // how far ahead a formula is looked for
const CACHED = 200;

let katex = null;
let loading = null;
const cache = new Map();

export function loadMath() {
  loading ??= import("./vendor/katex/katex.js").then(async () => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "assets/vendor/katex/katex.css" });
    await new Promise((go) => {
      style.onload = style.onerror = go;
      document.head.append(style);
    });
    ({ katex } = self); // its file is no module, and sets a global name
  });
  return loading;
}

/** Return a formula as an element; null if KaTeX is not loaded. A formula with an error is shown as it came. */
export function mathNode(tex, display) {
  if (!katex) return null;
  const key = `${display}${tex}`;
  let found = cache.get(key);
  if (!found) {
    found = document.createElement("span");
    found.className = display ? "math display" : "math";
    try {
      if (tex.length > MAX) throw new RangeError("too long");
      katex.render(tex, found, {
        displayMode: display, output: "html", throwOnError: true, strict: "ignore", trust: false, maxExpand: 200, maxSize: 20,
      });
      found.setAttribute("role", "math");
      found.setAttribute("aria-label", tex);
      if (display) found.tabIndex = 0;
    } catch {
      found.replaceChildren(Object.assign(document.createElement("code"), { textContent: tex }));
    }
    if (cache.size >= CACHED) cache.delete(cache.keys().next().value);
    cache.set(key, found);
  }
  return found.cloneNode(true);
}

/** Return the formula at the beginning of a text: { raw, tex, display }; undefined if there is none. */
function formula(source) {
  if (source.startsWith("$$")) return between(source, "$$", "$$", true);
  if (source.startsWith("\\[")) return between(source, "\\[", "\\]", true);
  if (source.startsWith("\\(")) return between(source, "\\(", "\\)", false);
  // As in Pandoc: no space inside the dollars, and no digit behind them, so that prices are no formulas.
  const found = /^\$(?![\s$])((?:\\[\s\S]|[^$\\]){1,3000})\$(?!\d)/.exec(source);
  return found && !/\s$|\n\s*\n/.test(found[1]) ? { raw: found[0], tex: found[1], display: false } : undefined;
}

function between(source, open, close, display) {
  const end = source.slice(0, MAX + 4).indexOf(close, open.length);
  const tex = source.slice(open.length, end);
  return end < 0 || !tex.trim() ? undefined : { raw: source.slice(0, end + close.length), tex, display };
}

/** Return the extensions of marked that find formulas before anything in them is taken for Markdown. */
export function mathExtensions(escaped) {
  const html = ({ tex, display }) => `<code class="math-${display ? "block" : "inline"}">${escaped(tex)}</code>`;
  return [
    {
      name: "mathBlock",
      level: "block",
      start: (source) => {
        const found = /\n {0,3}(?:\$\$|\\\[)/.exec(source.slice(0, MAX));
        return found ? found.index + 1 : undefined;
      },
      tokenizer(source) {
        const indent = /^ {0,3}(?=\$\$|\\\[)/.exec(source);
        const found = indent && formula(source.slice(indent[0].length));
        const rest = found && /^[ \t]*(?:\n+|$)/.exec(source.slice(indent[0].length + found.raw.length));
        return rest ? { ...found, type: "mathBlock", raw: indent[0] + found.raw + rest[0] } : undefined;
      },
      renderer: html,
    },
    {
      name: "mathInline",
      level: "inline",
      start: (source) => {
        const found = /\$|\\[([]/.exec(source.slice(0, NEAR));
        return found?.index;
      },
      tokenizer(source) {
        const found = formula(source);
        return found && { ...found, type: "mathInline" };
      },
      renderer: html,
    },
  ];
}
