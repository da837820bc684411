// Show messages: the user's, the answers of nodes, and errors; text is inserted as text, never as HTML.
import { Markdown } from "./markdown.js";

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(label, act, title = "") {
  const made = element("button", "", label);
  made.type = "button";
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

const MAX_MARKDOWN = 500_000; // characters; more is shown plain
const SLOW = 1_000; // milliseconds that one drawing of Markdown may take
const MAX_DEPTH = 40;
const MAX_VALUES = 5_000;

/** Return JSON data as nested lists of names and values; undefined if it is too deep or too large to be read so. */
export function tree(value) {
  let values = 0;
  const draw = (inner, depth) => {
    if (inner === null || typeof inner !== "object") return element("span", "", inner === null ? "–" : String(inner));
    if (depth > MAX_DEPTH) throw new RangeError("too deep");
    const list = element("dl", "tree");
    for (const [name, item] of Object.entries(inner)) {
      values += 1;
      if (values > MAX_VALUES) throw new RangeError("too large");
      const term = element("dt", "", Array.isArray(inner) ? `${Number(name) + 1}.` : name);
      const definition = element("dd");
      definition.append(draw(item, depth + 1));
      list.append(term, definition);
    }
    return list;
  };
  try {
    return draw(value, 0);
  } catch {
    return undefined;
  }
}

/** Return the object or list that a text represents; undefined if it represents neither. */
function data(text) {
  try {
    const found = JSON.parse(text.replace(/^\s*```(?:json)?\s*|\s*```\s*$/g, ""));
    return found !== null && typeof found === "object" ? found : undefined;
  } catch {
    return undefined;
  }
}

const looksLikeData = (text) => /^\s*(?:```json\s*)?[{[]/.test(text);

export function userMessage(text) {
  const message = element("article", "user");
  message.append(element("div", "body", text));
  return message;
}

/** Show one answer, or one node's, while it grows and afterwards. `record` is the part that survives a reload. */
export class Answer {
  constructor(record, shown) {
    this.record = record;
    this.shown = shown; // called after each change on the screen
    this.element = element("article", record.question ? "answer question" : "answer");
    this.body = element("div", "body waiting");
    this.tools = element("div", "tools");
    if (record.node) this.element.append(element("div", "node", record.node.replaceAll("_", " ")));
    this.element.append(this.body);
    this.cost = 0;
    this.due = 0;
    if (record.over) this.finish();
    else this.show();
  }

  add(text) {
    this.record.text += text;
    this.later();
  }

  reason(text) {
    this.record.reasoning = (this.record.reasoning ?? "") + text;
    this.later();
  }

  /** A new answer of an agent begins: its calls are counted anew, and its text is a new paragraph. */
  step() {
    const { record } = this;
    if (record.text) record.text += "\n\n";
    Object.assign(record, { textFrom: record.text.length, callsFrom: record.calls?.length ?? 0 });
  }

  call(call) {
    const calls = (this.record.calls ??= []);
    const known = (calls[(this.record.callsFrom ?? 0) + (call.position ?? 0)] ??= { name: "", arguments: "" });
    known.id ||= call.id ?? "";
    known.name ||= call.name ?? "";
    known.arguments += call.arguments ?? "";
    this.later();
  }

  /** Note a whole call. */
  asked(id, name, text) {
    this.known(id, name).arguments = text;
    this.later();
  }

  progress(call, text) {
    this.known(call.id, call.name).progress = text;
    this.later();
  }

  result({ call_id: id, name, content, error }) {
    Object.assign(this.known(id, name), { result: content ?? "", error });
    this.later();
  }

  /** Return the record of a call; one that an earlier answer asked for is added. */
  known(id, name) {
    const calls = (this.record.calls ??= []);
    let found = calls.findLast((one) => one && one.id === id);
    if (!found) calls.push(found = { id, name, arguments: "" });
    return found;
  }

  restart() {
    const { textFrom = 0, callsFrom = 0, text, calls } = this.record;
    Object.assign(this.record, { text: text.slice(0, textFrom), reasoning: undefined, calls: calls?.slice(0, callsFrom) });
    for (const fold of this.element.querySelectorAll("details.call")) if (fold.dataset.position >= callsFrom) fold.remove();
    this.later();
  }

  /** Schedule drawing, which uses at most a quarter of the time, for texts of any length. */
  later() {
    this.due ||= setTimeout(() => {
      const start = performance.now();
      this.show();
      this.cost = performance.now() - start;
    }, Math.max(16, this.cost * 3));
  }

  /** Draw the answer; a text that cannot be drawn is shown plain, so that the page never depends on one. */
  show() {
    clearTimeout(this.due);
    this.due = 0;
    try {
      this.draw();
    } catch (error) {
      console.warn(error);
      this.mode = "raw";
      this.body.replaceChildren(element("pre", "raw", String(this.record.text ?? "")));
    }
    this.shown();
  }

  draw() {
    const { text, reasoning, calls, over } = this.record;
    if (typeof text !== "string") throw new TypeError("the answer has no text");
    if (reasoning) this.fold("reasoning", over || text ? "Reasoning" : "Reasoning…", reasoning);
    else this.folded?.remove();
    const object = over && !this.raw ? this.record.output ?? data(text) : undefined;
    const shown = object === undefined ? undefined : tree(object);
    const own = this.record.output === undefined ? text : text || "(a value that is too large to be shown)";
    if (this.raw || this.slow || text.length > MAX_MARKDOWN || (object !== undefined && !shown)) this.replace("raw", () => element("pre", "raw")).textContent = own;
    else if (shown) this.replace("tree", () => shown);
    else if (looksLikeData(text)) this.replace("growing", () => element("pre", "growing")).textContent = text;
    else {
      this.replace("markdown", () => {
        const box = element("div", "markdown");
        this.markdown = new Markdown(box);
        return box;
      });
      const start = performance.now();
      this.markdown.show(text);
      this.slow = performance.now() - start > SLOW; // from now on plain: such a text would hold the page each time
    }
    calls?.forEach((call, position) => { if (call) this.showCall(call, position); });
  }

  replace(mode, make) {
    if (this.mode !== mode) {
      this.mode = mode;
      this.body.replaceChildren(make());
    }
    return this.body.firstChild;
  }

  fold(kind, title, text) {
    if (!this.folded) {
      this.folded = element("details", kind);
      this.folded.append(element("summary"), element("div"));
    }
    if (!this.folded.isConnected) this.element.insertBefore(this.folded, this.body);
    this.folded.firstChild.textContent = title;
    this.folded.lastChild.textContent = text;
  }

  showCall(call, position) {
    const found = [...this.element.querySelectorAll("details.call")].find((one) => one.dataset.position === `${position}`);
    const fold = found ?? element("details", "call");
    if (!found) {
      fold.dataset.position = position;
      fold.append(element("summary"), element("div"));
      this.element.append(fold);
    }
    const has = call.result !== undefined;
    const how = call.error?.startsWith("Denied") ? "was denied" : call.error ? "failed" : "";
    const title = has ? (how ? `${call.name} ${how}` : `Called ${call.name}`) : call.progress ? `Calls ${call.name}…` : `Asks to call ${call.name}`;
    fold.classList.toggle("failed", Boolean(call.error));
    fold.firstChild.textContent = !has && call.progress ? `${title} ${call.progress}` : title;
    fold.lastChild.replaceChildren(element("div", "arguments", call.arguments));
    if (call.progress) fold.lastChild.append(element("div", "progress", call.progress));
    if (has) fold.lastChild.append(element("div", "result", call.result));
  }

  finish(note = this.record.note, trouble = this.record.trouble, retry = undefined) {
    Object.assign(this.record, { over: true, note, trouble });
    this.show();
    this.body.classList.remove("waiting");
    this.tools.replaceChildren();
    if (this.record.text && !this.record.question) {
      this.tools.append(
        button("Copy", () => navigator.clipboard?.writeText(this.record.text), "Copy the text as it came"),
        button("Plain", () => { this.raw = !this.raw; this.show(); }, "Show the text exactly as it came"),
      );
    }
    if (note) this.tools.append(element("span", "note", note));
    this.element.append(this.tools);
    this.element.querySelector(".trouble")?.remove();
    if (trouble) {
      const box = element("div", "trouble", trouble);
      box.setAttribute("role", "alert");
      if (retry) box.append(button("Try again", retry));
      this.element.append(box);
    }
    this.shown();
  }
}
