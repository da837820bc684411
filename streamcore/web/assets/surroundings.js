// Show what is around the conversation: the empty page, notices, the foot of an answer, and what a screen reader says.
import { $, button, element } from "./dom.js";
import { t } from "./words.js";

/** Return what an empty conversation shows: a greeting, and how to begin. */
export function emptyPage(target, look, ask) {
  const box = element("div", "empty");
  const needsNothing = target.begins || target.input === null;
  box.append(element("p", "greeting", look.greeting ?? (needsNothing ? target.description || t("begin_ready") : t("greeting"))));
  if (needsNothing) box.append(button(t("begin"), () => ask("")));
  else if (target.suggestions.length) box.append(suggestions(target.suggestions, ask));
  return box;
}

/** Return the operator's suggestions. */
function suggestions(texts, ask) {
  const list = element("ul", "suggestions");
  list.setAttribute("aria-label", t("example_prompts"));
  for (const text of texts) list.appendChild(element("li")).append(button(text, () => ask(text)));
  return list;
}

const notices = new Map();

/** Show or hide a notice above the message box: "lost", "offline" or "storage". */
export function notice(name, is, text = t(name)) {
  if (is) notices.set(name, text);
  else notices.delete(name);
  const shown = notices.get("offline") ?? [...notices.values()].at(-1);
  $("banner").hidden = !shown;
  $("banner").textContent = shown ?? "";
}

/** Return the tokens, the cost and the times of a run, as far as they are known. */
export function footOf(run) {
  const usage = run.done?.usage ?? run.usage;
  const cost = run.done?.cost;
  const parts = [];
  if (usage) parts.push(t("tokens", { input: count(usage.input_tokens), output: count(usage.output_tokens) }));
  if (cost) parts.push(t("cost", { cost: rounded(Number(cost.amount)), currency: cost.currency }));
  if (run.sentAt !== null && run.firstAt !== null) {
    const seconds = (performance.now() - run.firstAt) / 1000;
    parts.push(t("first_after", { seconds: rounded((run.firstAt - run.sentAt) / 1000) }));
    if (usage?.output_tokens && seconds > 0.1) parts.push(t("rate", { rate: rounded(usage.output_tokens / seconds) }));
  }
  return parts.join(" · ");
}

const count = (number) => number?.toLocaleString(document.documentElement.lang) ?? "?";
const rounded = (number) => number.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 2 });

/** Say something to screen readers: once when an answer begins, and once the whole answer, never each token. */
export function say(text) {
  $("said").textContent = [...text.slice(0, 6000)].slice(0, 3000).join("");
}
