// Show Markdown that is still growing: in short tasks, and only blocks that have changed are made again.
import { blockBox } from "./blocks.js";
import { morph } from "./dom.js";
import { work } from "./slices.js";
import { beginning, readWindow } from "./windows.js";

const MAY_HAVE_CODE = ["blockquote", "code", "list"];
const SLOW = 3_000; // milliseconds that one step may take

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
  #blocks = []; // what is shown, beside the elements: { raw, links, closed, rest }
  #links = Object.create(null);
  #job = null;

  /** `drawn()` is called when more is shown, `failed(error)` if the text cannot be shown. */
  constructor(box, drawn, failed) {
    Object.assign(this, { element: box, drawn, failed, text: "", over: false });
    this.#begin();
    box.addEventListener("click", ({ target }) => {
      const copy = target.closest?.("button[data-copy]");
      if (copy) navigator.clipboard?.writeText(codeAt(copy));
    });
  }

  /** Whether something is still to be drawn. */
  get busy() { return Boolean(this.#job || this.waiting); }

  /** Show a text; `over`: it does not grow any more. */
  show(text, over) {
    const shown = over ? text : steady(text);
    const normal = shown.includes("\r") ? shown.replace(/\r\n?/g, "\n") : shown;
    if (normal === this.text && over === this.over) return;
    // A text that has ended is read once more, and again if its last part defines links of an earlier part.
    if (over || !normal.startsWith(this.text)) this.#begin();
    Object.assign(this, { text: normal, over });
    if (!this.#job) this.#start(this.#steps());
  }

  #begin() {
    this.from = beginning(this.#links);
    this.settled = 0;
    this.known = Object.keys(this.#links).length;
  }

  #start(steps) {
    this.#job = {
      steps: this.#timed(steps),
      drawn: () => this.drawn(),
      failed: (error) => {
        this.#job = null;
        this.failed(error);
      },
    };
    work(this.#job);
  }

  /** End the steps when the element has left the page, or when one of them takes too long. */
  *#timed(steps) {
    for (let seen = false; ; seen ||= this.element.isConnected) {
      const begun = performance.now();
      const { done } = steps.next();
      if (performance.now() - begun > SLOW) throw new Error("this text takes too long to show");
      if (done || (seen && !this.element.isConnected)) break;
      yield;
    }
    this.#job = null;
  }

  *#steps() {
    for (;;) {
      const { text, over, from } = this;
      const { blocks, settled, next, end } = readWindow(text, from, over);
      yield;
      if (this.from !== from) continue; // another text has begun
      const position = this.settled;
      for (const [number, block] of blocks.entries()) {
        this.#place(position + number, block, over || !end || number < blocks.length - 1);
        yield;
        if (this.from !== from) break;
      }
      if (this.from !== from) continue;
      if (end) this.#keep(position + blocks.length);
      this.settled = position + settled;
      this.from = next;
      if (!end || text !== this.text || over !== this.over) continue;
      if (!over || this.known === Object.keys(this.#links).length) return;
      this.#begin();
    }
  }

  #keep(count) {
    while (this.element.children.length > count) this.element.lastChild.remove();
    this.#blocks.length = count;
  }

  #place(position, token, closed) {
    const { raw, rest = false } = token;
    const links = raw.includes("[") ? Object.keys(this.#links).length : 0;
    const shown = this.#blocks[position];
    const box = this.element.children[position];
    const same = box && shown.raw === raw && shown.links === links && shown.rest === rest;
    if (same && (shown.closed === closed || !MAY_HAVE_CODE.includes(token.type))) return;
    const made = blockBox(token, closed, (one, loading) => this.#wait(one, loading));
    if (rest) made.dataset.rest = "";
    this.#blocks[position] = { raw, links, rest, closed, token };
    if (!box) this.element.append(made);
    else if (box.dataset.rest !== made.dataset.rest) box.replaceWith(made);
    else {
      morph(box, made);
      if (made.dataset.waits) box.dataset.waits = "1";
      else delete box.dataset.waits;
    }
  }

  /** Make a block again when a library is loaded. */
  #wait(box, loading) {
    box.dataset.waits = "1";
    loading.then(() => {
      this.missed = true;
      if (!this.waiting) this.#again();
    }, console.warn);
  }

  #again() {
    this.waiting = true;
    const end = (error) => {
      this.waiting = false;
      if (error) console.warn(error);
    };
    work({ steps: this.#waiting(end), drawn: () => this.drawn(), failed: end });
  }

  *#waiting(end) {
    while (this.missed && this.element.isConnected) {
      this.missed = false;
      for (let position = 0; position < this.element.children.length; position += 1) {
        const box = this.element.children[position];
        if (!box.dataset.waits) continue;
        const { token, closed, rest } = this.#blocks[position];
        const made = blockBox(token, closed, (one, loading) => this.#wait(one, loading));
        if (rest) made.dataset.rest = "";
        box.replaceWith(made);
        yield;
      }
    }
    end();
  }
}

/** Return the whole code at a button that copies it: long code has several boxes. */
function codeAt(copy) {
  const parts = [copy.closest(".code").querySelector("pre").textContent];
  let box = copy.closest(".markdown > *")?.nextElementSibling;
  for (; box && "rest" in box.dataset; box = box.nextElementSibling) parts.push(box.querySelector("pre")?.textContent ?? "");
  return parts.join("");
}
