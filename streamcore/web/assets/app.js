// Run the page: store the conversation, send messages, show the answers; everything works with the keyboard.
import { approvalCard } from "./approval.js";
import { about, listen, start, state, stop } from "./chat.js";
import { Answer, button, element, userMessage } from "./messages.js";

const $ = (id) => document.getElementById(id);
const [log, input, banner] = [$("log"), $("input"), $("banner")];
const STORAGE_KEY = `streamcore:${location.pathname}`;

let target = { name: "streamcore", begins: false };
const nothing = { session: null, question: false, turns: [], run: null, seen: null };
// `run` is the id of the run that is being read, `seen` that of the last one that was read to its end, `from` the number
// of turns before the run, `answered` the node whose question the run answers.
let kept = { ...nothing, turns: [] };
let run = null; // the state of the current run: { abort, answers, answered, trouble }
let leaving = false;

// Appearance

const theme = localStorage.getItem("streamcore:theme");
if (theme) document.documentElement.dataset.theme = theme;
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
  localStorage.setItem("streamcore:theme", document.documentElement.dataset.theme);
});

let follow = true;
const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
const toEnd = () => { log.scrollTop = log.scrollHeight; };
const grown = () => {
  if (follow) toEnd();
  $("latest").hidden = follow || atEnd();
};
let scrolled = 0;
log.addEventListener("scroll", () => {
  // Only a user scrolls up. While the page scrolls down, text may be added faster, so `atEnd` is not enough.
  follow = atEnd() || (follow && log.scrollTop >= scrolled);
  scrolled = log.scrollTop;
  $("latest").hidden = follow;
});
$("latest").addEventListener("click", () => { follow = true; toEnd(); });
new ResizeObserver(grown).observe(log);

// Storage that survives a reload

function keep() {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(kept));
  } catch { /* full, or not allowed: the conversation ends with the page */ }
}

function restore() {
  try {
    kept = JSON.parse(sessionStorage.getItem(STORAGE_KEY)) ?? kept;
  } catch { /* not written by this page */ }
  if (!Array.isArray(kept?.turns)) kept = { ...nothing, turns: [] };
  if (kept.run) kept.turns.length = Math.min(kept.from ?? 0, kept.turns.length); // the run is read again from its beginning
  kept.turns = kept.turns.filter(restoreTurn);
}

/** Show a turn of before; return whether it can be shown. */
function restoreTurn(turn) {
  try {
    if (turn.role === "user") log.append(userMessage(turn.text));
    else {
      if (!turn.over) Object.assign(turn, { over: true, note: "The page was closed before the end." });
      log.append(new Answer(turn, grown).element);
    }
    return true;
  } catch (error) {
    console.warn(error);
    return false;
  }
}

// Messages

function answer(record) {
  const made = new Answer(record, grown);
  kept.turns.push(record);
  if (run) made.element.dataset.run = "";
  log.append(made.element);
  grown();
  return made;
}

/** Handle one message of the stream. */
function handle({ name, data }) {
  if (name === "stream-error") run.trouble = data.message;
  else if (name === "done") run.done = data;
  else if (data.type === "gap") handleGap(data);
  else if (data.kind) handleChunk(data);
  else handleEvent(data);
}

/** Replace everything that was received so far by the items of a gap. */
function handleGap({ items }) {
  for (const turn of log.querySelectorAll("[data-run]")) turn.remove();
  kept.turns.length = kept.from;
  run.answers.clear();
  for (const item of items) handle({ name: "message", data: item });
}

function handleChunk(chunk) {
  if (chunk.choice || chunk.path?.length) return; // of another answer, or of an agent inside a tool
  const current = openFor("");
  if (chunk.kind === "text" || chunk.kind === "refusal") current.add(chunk.text);
  else if (chunk.kind === "reasoning") current.reason(chunk.text ?? "");
  else if (chunk.kind === "step") current.step();
  else if (chunk.kind === "tool_call") current.call(chunk.tool_call);
  else if (chunk.kind === "tool_progress") current.progress(chunk.tool_call, chunk.text || JSON.stringify(chunk.data?.progress));
  else if (chunk.kind === "tool_result") current.result(chunk.tool_result);
  else if (chunk.kind === "restart") current.restart();
}

function handleEvent(event) {
  const node = event.node ?? "";
  if (event.type === "token") openFor(node).add(event.content);
  else if (event.type === "restart") openFor(node).restart();
  else if (event.type === "step") openFor(node).step();
  else if (event.type === "tool_call") openFor(node).asked(event.call_id, event.tool, JSON.stringify(event.args));
  else if (event.type === "tool_progress") openFor(node).progress({ id: event.call_id, name: event.tool }, asText(event.progress));
  else if (event.type === "tool_result") openFor(node).result({ ...event, name: event.tool, content: event.output });
  else if (event.type === "node_complete") {
    const known = run.answers.get(node);
    const values = Object.values(event.output ?? {});
    const output = values.length === 1 ? values[0] : event.output;
    const plain = typeof output !== "object" || output === null;
    if (!known && (values.length === 0 || run.answered === node)) return; // the answer to a question, which is shown already
    const shown = known ?? openFor(node);
    if (plain && !shown.record.text) shown.add(String(output ?? ""));
    if (!plain) shown.record.output = output;
    shown.finish();
    run.answers.delete(node);
  } else if (event.type === "interrupt") {
    const { message } = event;
    if (callsOf(event)) { // an agent's card, which is shown when the run has ended
      kept.question = node;
      run.asks = event;
      return;
    }
    const text = typeof message === "string" ? message : JSON.stringify(message, null, 2);
    run.answers.get(node)?.element.remove(); // the question was streamed while the model wrote it
    kept.turns = kept.turns.filter((turn) => turn !== run.answers.get(node)?.record);
    run.answers.delete(node);
    kept.question = node;
    answer({ role: "answer", text, question: true, over: true });
  }
}

function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function openFor(node) {
  let found = run.answers.get(node);
  if (!found) {
    run.pending?.remove();
    found = answer({ role: "answer", node, text: "" });
    run.answers.set(node, found);
  }
  return found;
}

// One run, from the user's message to its end

async function send(text, again = false) {
  if (run) return;
  const question = kept.question;
  if (!again && (text || question)) {
    kept.turns.push({ role: "user", text });
    log.append(userMessage(text));
  }
  log.querySelector(".empty")?.remove();
  log.querySelector(".approval")?.remove(); // a message instead of a decision
  prepare(question);
  kept.session ??= newId();
  kept.answered = question;
  keep();
  try {
    const begun = await start(kept.session, question ? { answer: text } : { prompt: text });
    if (question) text = ""; // the service has the answer: a retry continues the run
    Object.assign(kept, { run: begun.run, question: false });
    keep();
    input.placeholder = "Message";
  } catch (error) {
    failed(error);
    if (question) kept.question = [400, 404, 409].includes(error.status) ? false : question;
  }
  if (kept.run) await read();
  ended(text);
}

/** Send the decisions about calls, and read how the run goes on. */
async function decide(decisions) {
  if (run) return;
  prepare(kept.question);
  keep();
  try {
    kept.run = (await start(kept.session, { answer: decisions })).run;
    kept.question = false;
    keep();
  } catch (error) {
    failed(error);
  }
  if (kept.run) {
    log.querySelector(".approval")?.remove();
    await read();
  }
  ended("");
}

/** Show the calls that wait for approval, if the service says that there are any. */
function askApproval(question) {
  const calls = callsOf(question);
  if (!calls) return;
  log.querySelector(".approval")?.remove();
  // A prompt's calls are decided together, those of an agent in a graph one by one.
  log.append(approvalCard(calls, (decisions) => decide(question.message.calls ? decisions : decisions.call)));
  grown();
}

/** Return the calls that a question is about; undefined if it is about something else. */
function callsOf(question) {
  const message = question?.message;
  if (question?.resume_key === "decisions" && message?.calls) return message.calls;
  if (typeof message?.tool !== "string" || !("args" in message)) return undefined;
  return [{ id: "call", name: message.tool, arguments: JSON.stringify(message.args) }];
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Continue to read a run that was being read when the page was closed. */
async function readAgain() {
  prepare(kept.answered);
  kept.question = false;
  await read();
  ended("");
}

function prepare(answered) {
  for (const one of log.querySelectorAll("[data-run]")) delete one.dataset.run;
  run = { abort: new AbortController(), answers: new Map(), answered, trouble: "" };
  run.pending = log.appendChild(element("div", "waiting"));
  kept.from = kept.turns.length;
  follow = true;
  busy(true);
}

async function read() {
  try {
    for await (const message of listen(kept, run.abort.signal, lost)) guarded(handle, message);
  } catch (error) {
    failed(error);
  }
  lost(false);
}

/** Call a function that draws; its error is logged, and does not end the run. */
function guarded(draw, ...given) {
  try {
    return draw(...given);
  } catch (error) {
    console.warn(error);
    return undefined;
  }
}

function failed(error) {
  if (!(error instanceof Error) || !error.status) console.warn(error);
  run.trouble = error.message;
}

function ended(text) {
  if (leaving) return; // the page reads the run again when it is opened again
  const open = [...run.answers.values()].some(({ record }) => record.calls?.some((call) => call && call.result === undefined));
  const { asks } = run;
  guarded(showEnd, text);
  kept.seen = kept.run ?? kept.seen;
  kept.run = null;
  run = null;
  busy(false);
  keep();
  if (asks) guarded(askApproval, asks);
  else if (open) state(kept.session).then((found) => { if (!run) guarded(askApproval, found.question); }, console.warn);
}

function showEnd(text) {
  run.pending.remove();
  const stopped = run.stopped && !run.trouble;
  const short = {
    length: "The answer reached its maximum length.", content_filter: "A content filter stopped the answer.",
  };
  const note = stopped ? "Stopped." : short[run.done?.finish_reason];
  const trouble = run.trouble && `${run.trouble}${run.answers.size ? " The text received so far is above." : ""}`;
  const retry = () => { if (!run) send(text, true); };
  const open = [...run.answers.values()];
  const last = open.pop();
  for (const one of open) one.finish(note);
  if (last) last.finish(note, trouble, retry);
  else if (trouble) answer({ role: "answer", text: "" }).finish(note, trouble, retry);
  else if (stopped) answer({ role: "answer", text: "" }).finish(note);
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  $("stop").disabled = false;
  log.setAttribute("aria-busy", String(is));
  input.placeholder = kept.question ? "Your answer" : "Message";
  keep();
  if (!is && matchMedia("(pointer: fine)").matches) input.focus();
}

function lost(is) {
  banner.hidden = !is;
  banner.textContent = is ? "The connection was lost. Reconnecting…" : "";
}

async function halt() {
  if (!run || run.stopped) return;
  const halted = run;
  halted.stopped = true;
  $("stop").disabled = true;
  // The stream then sends its end; a connection without an end is closed.
  const timer = setTimeout(() => halted.abort.abort(), 3000);
  try {
    if (kept.session) await stop(kept.session);
  } catch {
    halted.abort.abort();
  }
  while (run === halted && !halted.abort.signal.aborted) await new Promise((go) => setTimeout(go, 50));
  clearTimeout(timer);
}

// Controls

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value;
  if (run || (!text.trim() && !(target.begins && !kept.question))) return;
  input.value = "";
  send(text.trim() ? text : "");
});
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) halt();
});
$("stop").addEventListener("click", halt);
$("fresh").addEventListener("click", async () => {
  await halt();
  kept = { ...nothing, turns: [] };
  log.replaceChildren();
  greet();
  busy(false);
});
addEventListener("pagehide", () => { leaving = true; keep(); });
addEventListener("pageshow", () => { leaving = false; });

function greet() {
  if (log.childElementCount) return;
  const box = element("div", "empty", target.begins ? "" : "Write a message.");
  if (target.begins) box.append(button("Begin", () => send("")));
  log.append(box);
}

async function begin() {
  let waiting;
  restore();
  try {
    target = await about();
    document.title = target.name;
    $("title").textContent = target.name;
    $("about").textContent = $("about").title = target.description;
    const found = kept.session && !kept.run && !run ? await state(kept.session) : null;
    if (found && !run) { // no message was sent in the meantime
      kept.question = found.question?.node || false;
      waiting = found.question;
      if (found.run && found.run !== kept.seen) { // the page was closed before it received the run's id
        kept.run = found.run;
        kept.from = kept.turns.length;
      }
    }
  } catch (error) {
    if (error.status === 404 && !run) kept.session = null; // the server does not have it any more
    else log.append(element("div", "trouble", error.message));
  }
  if (run) return;
  if (kept.run) readAgain();
  else {
    greet();
    busy(false);
    guarded(askApproval, waiting);
  }
  grown();
}

begin();
