// Make the elements of a block of Markdown; none can run code or load files.
import { highlighted, loadHighlighter, needsHighlighter } from "./code.js";
import { element } from "./dom.js";
import { loadMath, mathExtensions, mathNode } from "./math.js";
import { imageData } from "./sources.js";
import { Lexer, Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";
import { t } from "./words.js";

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const safe = (href) => /^(https?:|mailto:)/i.test(href);

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: mathExtensions(escaped),
  renderer: {
    // A model's HTML is shown as text, completely, and never becomes elements.
    html: ({ raw }) => escaped(raw),
    link(token) {
      if (!safe(token.href)) return escaped(token.raw);
      return `<a href="${escaped(token.href)}">${this.parser.parseInline(token.tokens)}</a>`;
    },
    // The browser would load an image from another server, which would learn that the answer was read.
    image({ href, text, raw }) {
      if (imageData(href)) return `<img src="${escaped(href)}" alt="${escaped(text || t("image"))}">`;
      return safe(href) ? `<a href="${escaped(href)}">${escaped(text || href)}</a>` : escaped(raw);
    },
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "input", "li", "ol",
    "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "alt", "checked", "class", "disabled", "href", "src", "start", "type"],
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (node.tagName === "IMG" && !imageData(node.getAttribute("src"))) node.remove();
});

/** Return the blocks of a text as marked's tokens; `links` has the known definitions of links, and gets new ones. */
export function blocksOf(text, links) {
  const lexer = new Lexer(marked.defaults);
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  Object.assign(links, tokens.links);
  return [...tokens];
}

/**
 * Return the element of a block. `closed`: more text does not change it. `wait(box, loading)` is called if it has to be
 * made again when a library is loaded.
 */
export function blockBox(token, closed, wait) {
  const box = document.createElement("div");
  box.append(DOMPurify.sanitize(marked.parser([token]), ALLOWED));
  for (const code of box.querySelectorAll("code.math-inline, code.math-block, pre > code.language-math")) showMath(code, box, wait);
  for (const code of box.querySelectorAll("pre > code")) showCode(code, closed, box, wait);
  for (const table of box.querySelectorAll("table")) {
    const scroll = element("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    table.replaceWith(scroll);
    scroll.append(table);
  }
  for (const input of box.querySelectorAll("input")) {
    const mark = element("span", "task", input.checked ? "☑" : "☐");
    input.closest("li")?.classList.add("task-item");
    input.replaceWith(mark);
  }
  return box;
}

function showMath(code, box, wait) {
  const display = !code.classList.contains("math-inline");
  const made = mathNode(code.textContent, display);
  if (made) (code.closest("pre") ?? code).replaceWith(made);
  else wait(box, loadMath());
}

function showCode(code, closed, box, wait) {
  const pre = code.parentElement;
  const language = /(?:^|\s)language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
  const frame = element("div", "code");
  const bar = element("div", "bar");
  const copy = element("button", "", t("copy"));
  Object.assign(copy, { type: "button" });
  copy.dataset.copy = "";
  bar.append(element("span", "", language), copy);
  pre.replaceWith(frame);
  frame.append(bar, pre);
  pre.tabIndex = 0;
  if (!language) return;
  const colored = highlighted(code.textContent, language, closed);
  if (colored) code.replaceChildren(colored);
  else if (needsHighlighter(code.textContent, closed)) wait(box, loadHighlighter());
}
