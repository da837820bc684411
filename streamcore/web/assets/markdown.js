// Render Markdown that is still growing: only changed blocks are rendered again, and none can run code or load files.
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const safe = (href) => /^(https?:|mailto:)/i.test(href);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // A model's HTML is shown as text, completely, and never becomes elements.
    html: ({ raw }) => escaped(raw),
    link(token) {
      if (!safe(token.href)) return escaped(token.raw);
      return `<a href="${escaped(token.href)}">${this.parser.parseInline(token.tokens)}</a>`;
    },
    // The browser would load an image from another server, which would learn that the answer was read.
    image: ({ href, text, raw }) =>
      safe(href) ? `<a href="${escaped(href)}">${escaped(text || href)}</a>` : escaped(raw),
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p",
    "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "checked", "class", "disabled", "href", "start", "type"],
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Show a growing text in an element. */
export class Markdown {
  constructor(element) {
    this.element = element;
    this.blocks = []; // the source of each block, beside its element
  }

  show(text) {
    const tokens = marked.lexer(text);
    const links = Object.keys(tokens.links).join("\n");
    let same = 0;
    if (links === this.links) while (same < tokens.length && tokens[same].raw === this.blocks[same]) same += 1;
    this.links = links;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    for (const token of tokens.slice(same)) this.element.append(this.block(token, tokens.links));
    this.blocks = tokens.map((token) => token.raw);
  }

  block(token, links) {
    const box = document.createElement("div");
    box.append(DOMPurify.sanitize(marked.parser(Object.assign([token], { links })), ALLOWED));
    for (const pre of box.querySelectorAll("pre")) {
      const copy = document.createElement("button");
      copy.type = "button";
      copy.textContent = "Copy";
      copy.addEventListener("click", () => navigator.clipboard?.writeText(pre.textContent));
      box.classList.add("code");
      box.append(copy);
    }
    return box;
  }
}
