// Show one answer, or one node's, while it grows and afterwards.
import { Calls, showCall } from "./calls.js";
import { button, element } from "./dom.js";
import { Markdown } from "./markdown.js";
import { showPlain } from "./plain.js";
import { addSources, imageBoxes, imagesIn, sourceList } from "./sources.js";
import { dataOf, looksLikeData, tree } from "./tree.js";
import { troubleBox } from "./trouble.js";
import { t } from "./words.js";

const MAX_MARKDOWN = 500_000; // characters; more is shown plain

/** `record` is what is stored; `shown` is called after each change; `tools` returns more buttons for the foot. */
export class Answer {
  constructor(record, shown, tools = () => []) {
    Object.assign(this, { record, shown, moreTools: tools, cost: 0, due: 0 });
    this.calls = new Calls(record);
    this.element = element("article", record.question ? "answer question" : "answer");
    this.element.setAttribute("aria-label", record.node?.replaceAll("_", " ") || t("answer_label"));
    this.body = element("div", "body waiting");
    this.body.dir = "auto";
    this.tools = element("div", "tools");
    if (record.node) this.element.append(element("div", "node", record.node.replaceAll("_", " ")));
    this.element.append(this.body);
    if (record.over) this.finish();
    else this.show();
  }

  add(text) {
    const { record } = this;
    if (this.reasonedFrom && record.reasoningSeconds === undefined) {
      record.reasoningSeconds = Math.round((performance.now() - this.reasonedFrom) / 1000);
    }
    record.text += text;
    this.later();
  }

  reason(text) {
    this.reasonedFrom ??= performance.now();
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
    this.calls.add(call);
    this.later();
  }

  /** Note a whole call. */
  asked(id, name, text) {
    this.calls.known(id, name).arguments = text;
    this.later();
  }

  progress(call, text) {
    this.calls.known(call.id, call.name).progress = text;
    this.later();
  }

  result({ call_id: id, name, content, error, parts }) {
    const call = Object.assign(this.calls.known(id, name), { result: content ?? "", error });
    const images = imagesIn(parts);
    if (images.length) call.images = images;
    this.later();
  }

  cite(data) {
    addSources((this.record.sources ??= []), data);
    this.later();
  }

  image(address) {
    (this.record.images ??= []).push(address);
    this.later();
  }

  restart() {
    const { textFrom = 0, callsFrom = 0, text, calls } = this.record;
    const kept = { text: text.slice(0, textFrom), calls: calls?.slice(0, callsFrom) };
    Object.assign(this.record, kept, { reasoning: undefined, reasoningSeconds: undefined, sources: undefined, images: undefined });
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
      this.mode = "failed";
      this.body.replaceChildren(element("pre", "raw", String(this.record.text ?? "")));
    }
    this.shown();
  }

  draw() {
    const { text, calls, over, output } = this.record;
    if (typeof text !== "string") throw new TypeError("the answer has no text");
    this.drawReasoning();
    const object = over && !this.raw ? output ?? (looksLikeData(text) ? dataOf(text) : undefined) : undefined;
    const shown = object === undefined ? undefined : tree(object);
    if (this.raw || this.plain || text.length > MAX_MARKDOWN || (object !== undefined && !shown)) {
      const own = output === undefined ? text : text || (this.raw ? JSON.stringify(output, null, 2) : t("value_large"));
      showPlain(this.replace("raw", () => element("pre", "raw")), own);
    } else if (shown) this.replace("tree", () => shown);
    else if (looksLikeData(text)) showPlain(this.replace("growing", () => element("pre", "growing")), text);
    else this.drawMarkdown(text, over);
    this.drawAttachments();
    calls?.forEach((call, position) => { if (call) showCall(this.element, call, position); });
  }

  drawMarkdown(text, over) {
    this.replace("markdown", () => {
      const box = element("div", "markdown");
      this.markdown = new Markdown(box, this.shown, (error) => {
        console.warn(error);
        this.plain = true;
        this.later();
      });
      return box;
    });
    this.markdown.show(text, over);
  }

  drawReasoning() {
    const { text, reasoning, reasoningSeconds: seconds, over } = this.record;
    if (!reasoning) {
      this.folded?.remove();
      return;
    }
    if (!this.folded) {
      this.folded = element("details", "reasoning");
      this.folded.append(element("summary"), element("div"));
    }
    if (!this.folded.isConnected) this.element.insertBefore(this.folded, this.body);
    const done = over || text;
    this.folded.firstChild.textContent = !done ? t("reasoning_now") : seconds ? t("reasoning_seconds", { seconds }) : t("reasoning");
    showPlain(this.folded.lastChild, reasoning);
  }

  drawAttachments() {
    const { images, sources } = this.record;
    if (!images?.length && !sources?.length) {
      this.attached?.remove();
      return;
    }
    const state = `${images?.length} ${sources?.length}`;
    if (this.attached?.dataset.state === state && this.attached.isConnected) return;
    this.attached ??= element("div", "attached");
    this.attached.dataset.state = state;
    this.attached.replaceChildren(...imageBoxes(images));
    if (sources?.length) this.attached.append(sourceList(sources));
    if (!this.attached.isConnected) this.body.after(this.attached);
  }

  replace(mode, make) {
    if (this.mode !== mode) {
      this.mode = mode;
      this.body.replaceChildren(make());
    }
    return this.body.firstChild;
  }

  /** End the answer. `act` has the functions of what the user can do about a trouble, by name. */
  finish(note = this.record.note, trouble = this.record.trouble, act = this.act ?? {}) {
    this.act = act;
    Object.assign(this.record, { over: true, note, trouble });
    this.show();
    this.body.classList.remove("waiting");
    this.tools.replaceChildren();
    const { text, output, question } = this.record;
    if ((text || output !== undefined) && !question) this.tools.append(...this.ownTools());
    this.tools.append(...this.moreTools());
    if (note) this.tools.append(element("span", "note", note));
    if (act.continue) this.tools.append(button(t("continue"), act.continue));
    if (this.record.foot) this.tools.append(element("span", "foot", this.record.foot));
    this.element.append(this.tools);
    this.element.querySelector(".trouble")?.remove();
    if (trouble) this.element.append(troubleBox(trouble, act));
    this.shown();
  }

  ownTools() {
    const copy = button(t("copy"), async () => {
      await navigator.clipboard?.writeText(this.record.text);
      copy.textContent = t("copied");
      setTimeout(() => { copy.textContent = t("copy"); }, 2000);
    }, t("copy_title"));
    const plain = button(t("plain"), () => {
      this.raw = !this.raw;
      plain.setAttribute("aria-pressed", String(this.raw));
      this.show();
    }, t("plain_title"));
    plain.setAttribute("aria-pressed", "false");
    return [copy, plain];
  }
}
