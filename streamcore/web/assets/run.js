// Read one run: turn the messages of its stream into the answers of its turn.
import { listen } from "./service.js";
import { nextTask } from "./slices.js";
import { imageData } from "./sources.js";
import { troubleOf } from "./trouble.js";

const READING = 10; // milliseconds after which reading goes on in another task

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Return the calls that a question is about; undefined if it is about something else. */
export function callsOf(question) {
  const message = question?.message;
  if (question?.resume_key === "decisions" && message?.calls) return message.calls;
  if (typeof message?.tool !== "string" || !("args" in message)) return undefined;
  return [{ id: "call", name: message.tool, arguments: JSON.stringify(message.args) }];
}

/** Return whether a message has something that the user waits for. */
const isContent = ({ kind, type }) => type === "token" || ["text", "reasoning", "refusal", "tool_call"].includes(kind);

/** `view` shows the turn; `from` is the number of its answers before the run. */
export class Run {
  constructor(turn, view, from, answering) {
    Object.assign(this, { turn, view, from, answering });
    this.abort = new AbortController();
    this.open = new Map(); // the answers that still grow, by their nodes
    this.trouble = null;
    this.question = null; // what the run asks at its end
    this.sentAt = null; // when the message was sent, if this page sent it
    this.firstAt = null; // when the first content came
  }

  /** Read the run to its end. */
  async read(id, lost) {
    const { signal } = this.abort;
    let begun = performance.now();
    try {
      for await (const message of listen(this.turn.session, id, signal, lost)) {
        this.#guarded(message);
        if (performance.now() - begun < READING) continue;
        await nextTask();
        if (signal.aborted) break;
        begun = performance.now();
      }
    } catch (error) {
      this.fail(error);
    }
    lost(false);
  }

  fail(error) {
    if (!error.status) console.warn(error);
    this.trouble = troubleOf(error);
  }

  /** Handle a message; an error of drawing is logged, and does not end the run. */
  #guarded(message) {
    try {
      this.#handle(message);
    } catch (error) {
      console.warn(error);
    }
  }

  #handle({ name, data }) {
    if (isContent(data)) this.firstAt ??= performance.now();
    if (name === "stream-error") this.trouble = troubleOf(data);
    else if (name === "done") this.done = data;
    else if (data.type === "gap") this.#gap(data);
    else if (data.kind) this.#chunk(data);
    else this.#event(data);
  }

  /** Replace everything that was received so far by the items of a gap. */
  #gap({ items }) {
    this.view.keepAnswers(this.from);
    this.open.clear();
    for (const item of items) this.#handle({ name: "message", data: item });
  }

  #chunk(chunk) {
    if (chunk.kind === "usage" && chunk.usage) this.usage = chunk.usage;
    if (chunk.choice || chunk.path?.length) return; // of another answer, or of an agent inside a tool
    const current = this.answerOf("");
    if (chunk.kind === "text" || chunk.kind === "refusal") current.add(chunk.text);
    else if (chunk.kind === "reasoning") current.reason(chunk.text ?? "");
    else if (chunk.kind === "step") current.step();
    else if (chunk.kind === "tool_call") current.call(chunk.tool_call);
    else if (chunk.kind === "tool_progress") current.progress(chunk.tool_call, chunk.text || JSON.stringify(chunk.data?.progress));
    else if (chunk.kind === "tool_result") current.result(chunk.tool_result);
    else if (chunk.kind === "citation") current.cite(chunk.data);
    else if (chunk.kind === "restart") current.restart();
    else if (chunk.kind === "other") for (const image of imagesOf(chunk)) current.image(image);
  }

  #event(event) {
    const node = event.node ?? "";
    if (event.type === "token") this.answerOf(node).add(event.content);
    else if (event.type === "restart") this.answerOf(node).restart();
    else if (event.type === "step") this.answerOf(node).step();
    else if (event.type === "tool_call") this.answerOf(node).asked(event.call_id, event.tool, JSON.stringify(event.args));
    else if (event.type === "tool_progress") this.answerOf(node).progress({ id: event.call_id, name: event.tool }, asText(event.progress));
    else if (event.type === "tool_result") this.answerOf(node).result({ ...event, name: event.tool, content: event.output });
    else if (event.type === "node_complete") this.#nodeComplete(node, event.output);
    else if (event.type === "interrupt") this.#interrupt(node, event);
  }

  #nodeComplete(node, whole) {
    const known = this.open.get(node);
    const values = Object.values(whole ?? {});
    const output = values.length === 1 ? values[0] : whole;
    const plain = typeof output !== "object" || output === null;
    if (!known && (values.length === 0 || this.answering === node)) return; // the answer to a question, which is shown already
    const shown = known ?? this.answerOf(node);
    if (plain && !shown.record.text) shown.add(String(output ?? ""));
    if (!plain) shown.record.output = output;
    shown.finish();
    this.open.delete(node);
  }

  #interrupt(node, event) {
    this.question = { node, message: event.message, resume_key: event.resume_key };
    if (callsOf(event)) return; // an agent's card, which is shown when the run has ended
    const { message } = event;
    const known = this.open.get(node); // the question was streamed while the model wrote it
    if (known) this.view.removeAnswer(known);
    this.open.delete(node);
    const text = typeof message === "string" ? message : JSON.stringify(message, null, 2);
    this.view.addAnswer({ node: "", text, question: true, over: true });
  }

  /** Return the answer of a node that still grows. */
  answerOf(node) {
    let found = this.open.get(node);
    if (!found) {
      this.view.waiting(false);
      found = this.view.addAnswer({ node, text: "" });
      this.open.set(node, found);
    }
    return found;
  }
}

/** Return the addresses of the images in an event without a normal form, as gateways send them: data only. */
function imagesOf({ raw }) {
  if (typeof raw !== "string" || raw.length > 20_000_000) return [];
  let event;
  try {
    event = JSON.parse(raw.startsWith("{") ? raw : atob(raw));
  } catch {
    return [];
  }
  const found = [];
  const search = (value, depth) => {
    if (value === null || typeof value !== "object" || depth > 8) return;
    const inline = value.inlineData ?? value.inline_data;
    const given = value.image_url?.url ?? (inline && `data:${inline.mimeType ?? inline.mime_type};base64,${inline.data}`);
    const image = imageData(given) ?? (value.b64_json && imageData(`data:image/png;base64,${value.b64_json}`));
    if (image) found.push(image);
    else for (const one of Object.values(value)) search(one, depth + 1);
  };
  search(event, 0);
  return found;
}
