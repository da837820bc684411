// Show the calls of tools in an answer: arguments, progress and results, folded.
import { element } from "./dom.js";
import { imageBoxes } from "./sources.js";
import { t } from "./words.js";

/** Draw one call into an answer's element; a call that is shown already is changed. */
export function showCall(answer, call, position) {
  const found = [...answer.querySelectorAll("details.call")].find((one) => one.dataset.position === `${position}`);
  const fold = found ?? element("details", "call");
  if (!found) {
    fold.dataset.position = position;
    fold.append(element("summary"), element("div"));
    answer.append(fold);
  }
  const done = call.result !== undefined;
  const how = call.error?.startsWith("Denied") ? "call_denied" : call.error ? "call_failed" : "call_done";
  const title = t(done ? how : call.progress ? "call_running" : "call_asks", { name: call.name });
  fold.classList.toggle("failed", Boolean(call.error));
  fold.firstChild.textContent = !done && call.progress ? `${title} ${call.progress}` : title;
  fold.lastChild.replaceChildren(element("div", "arguments", call.arguments));
  if (call.progress) fold.lastChild.append(element("div", "progress", call.progress));
  if (done) fold.lastChild.append(element("div", "result", call.result));
  fold.lastChild.append(...imageBoxes(call.images));
}

/** Change the records of an answer's calls as chunks and events say. */
export class Calls {
  constructor(record) { this.record = record; }

  get all() { return (this.record.calls ??= []); }

  /** Add a fragment of a call. */
  add(call) {
    const known = (this.all[(this.record.callsFrom ?? 0) + (call.position ?? 0)] ??= { name: "", arguments: "" });
    known.id ||= call.id ?? "";
    known.name ||= call.name ?? "";
    known.arguments += call.arguments ?? "";
  }

  /** Return the record of a call; one that an earlier answer asked for is added. */
  known(id, name) {
    let found = this.all.findLast((one) => one && one.id === id);
    if (!found) this.all.push(found = { id, name, arguments: "" });
    return found;
  }
}
