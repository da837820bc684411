// Render Markdown that is still growing: only changed blocks are rendered again, and none can run code or load files.
import { highlighted, loadHighlighter, needsHighlighter } from "./code.js";
import { element, morph } from "./dom.js";
import { loadMath, mathExtensions, mathNode } from "./math.js";
import { imageData } from "./sources.js";
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";
import { t } from "./words.js";

const STABLE = 4; // the last blocks, which more text may change
const AT_ONCE = 20; // blocks that are drawn again in one task
const LONG = 50_000; // characters; a longer text is not read wholly once more at its end, which would hold the page
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

/** Leave out the last line while it may still become the row of a table, the line below a heading, or a fence. */
function steady(text) {
  const start = text.lastIndexOf("\n") + 1;
  if (!/^ {0,3}(?:\||[-=`~ ]*$)/.test(text.slice(start))) return text;
  const whole = text.slice(0, start);
  const last = whole.lastIndexOf("\n", start - 2) + 1;
  const before = whole.slice(whole.lastIndexOf("\n", last - 2) + 1, last);
  // The first row of a table is shown with the line below it.
  return /^ {0,3}\|/.test(whole.slice(last)) && !/^ {0,3}\|/.test(before) ? whole.slice(0, last) : whole;
}

/** Show a growing text in an element. */
export class Markdown {
  constructor(box) {
    this.element = box;
    this.tokens = []; // of the blocks that are shown, beside their elements
    this.text = "";
    this.links = {};
    box.addEventListener("click", ({ target }) => {
      const copy = target.closest?.("button[data-copy]");
      if (copy) navigator.clipboard?.writeText(copy.closest(".code").querySelector("pre").textContent);
    });
  }

  /** Show a text; `over`: it does not grow any more. */
  show(text, over) {
    const whole = over ? text : steady(text);
    const normal = whole.includes("\r") ? whole.replace(/\r\n?/g, "\n") : whole;
    if (over && this.over && normal === this.text) return;
    this.over = over;
    const anew = (over && normal.length < LONG) || !normal.startsWith(this.text);
    const from = anew ? 0 : Math.max(0, this.tokens.length - STABLE);
    const kept = this.tokens.slice(0, from);
    const offset = kept.reduce((sum, token) => sum + token.raw.length, 0);
    const found = marked.lexer(normal.slice(offset));
    const links = from ? { ...this.links, ...found.links } : found.links;
    const changed = Object.keys(links).length !== Object.keys(this.links).length;
    Object.assign(this, { text: normal, links });
    this.draw([...kept, ...found], changed ? 0 : from, over, changed);
  }

  draw(tokens, from, over, all) {
    const boxes = this.element.children;
    tokens.forEach((token, position) => {
      if (position < from) return;
      const known = boxes[position];
      if (known && !all && this.tokens[position]?.raw === token.raw && !(over && known.dataset.open)) return;
      const made = this.block(token, over || position < tokens.length - 1);
      if (!known) this.element.append(made);
      else if (known.className === made.className) {
        morph(known, made);
        for (const name of ["open", "waits"]) {
          if (made.dataset[name]) known.dataset[name] = "1";
          else delete known.dataset[name];
        }
      } else known.replaceWith(made);
    });
    while (boxes.length > tokens.length) this.element.lastChild.remove();
    this.tokens = tokens;
  }

  block(token, closed) {
    const box = document.createElement("div");
    box.append(DOMPurify.sanitize(marked.parser(Object.assign([token], { links: this.links })), ALLOWED));
    if (!closed) box.dataset.open = "1";
    for (const code of box.querySelectorAll("code.math-inline, code.math-block, pre > code.language-math")) this.math(code);
    for (const code of box.querySelectorAll("pre > code")) this.code(code, closed);
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

  math(code) {
    const display = !code.classList.contains("math-inline");
    const made = mathNode(code.textContent, display);
    if (made) (code.closest("pre") ?? code).replaceWith(made);
    else this.wait(code, loadMath());
  }

  code(code, closed) {
    const pre = code.parentElement;
    const language = /(?:^|\s)language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
    const box = element("div", "code");
    const bar = element("div", "bar");
    const copy = element("button", "", t("copy"));
    Object.assign(copy, { type: "button" });
    copy.dataset.copy = "";
    bar.append(element("span", "", language), copy);
    pre.replaceWith(box);
    box.append(bar, pre);
    pre.tabIndex = 0;
    if (!language) return;
    const colored = highlighted(code.textContent, language, closed);
    if (colored) code.replaceChildren(colored);
    else if (needsHighlighter(code.textContent, closed)) this.wait(code, loadHighlighter());
  }

  /** Draw the block of some code again when a library is loaded. */
  wait(code, loading) {
    for (let box = code; box; box = box.parentElement) if (!box.parentElement) box.dataset.waits = "1";
    loading.then(() => this.again(), console.warn);
  }

  /** Draw the blocks again that wait for a library, a few at a time. */
  again() {
    if (this.timer || !this.element.isConnected) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      const boxes = [...this.element.children];
      const waiting = boxes.flatMap((box, position) => (box.dataset.waits ? [position] : []));
      for (const position of waiting.slice(0, AT_ONCE)) boxes[position].replaceWith(this.block(this.tokens[position], true));
      if (waiting.length > AT_ONCE) this.again();
    });
  }
}
