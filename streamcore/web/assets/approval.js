// Ask whether calls of tools may run: a card with the arguments of each, to be approved, edited or denied with a reason.
import { button, element } from "./dom.js";
import { t } from "./words.js";

/** Return the card; `decide` gets the decision about each call by its id, once all are decided. */
export function approvalCard(calls, decide) {
  const card = element("section", "approval");
  card.setAttribute("role", "group");
  card.setAttribute("aria-label", t("approval"));
  const decisions = {};
  for (const call of calls) card.append(question(call, (decision) => {
    decisions[call.id] = decision;
    if (Object.keys(decisions).length === calls.length) decide(decisions);
  }));
  return card;
}

function question({ name, arguments: given }, decide) {
  const box = element("section", "call");
  const text = indented(given);
  const field = labelled("textarea", t("approval_arguments"), text);
  const reason = labelled("input", t("approval_reason"), "");
  const trouble = element("div", "trouble");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  field.querySelector("textarea").rows = Math.min(12, text.split("\n").length);
  const done = (decision, label) => {
    for (const one of box.querySelectorAll("button, input, textarea")) one.disabled = true;
    box.append(element("div", "note", label));
    decide(decision);
  };
  const approve = () => {
    const written = field.querySelector("textarea").value;
    if (written === text) return done({ approve: true }, t("approved"));
    let edited;
    try {
      edited = JSON.parse(written);
    } catch { /* not JSON */ }
    trouble.hidden = edited !== null && typeof edited === "object" && !Array.isArray(edited);
    if (trouble.hidden) return done({ approve: true, arguments: edited }, t("approved_edited"));
    trouble.textContent = t("approval_bad");
    return undefined;
  };
  const deny = () => done({ approve: false, reason: reason.querySelector("input").value }, t("denied"));
  const choices = element("div", "choices");
  choices.append(button(t("approve"), approve), button(t("deny"), deny));
  box.append(element("div", "title", t("approval_needed", { name })), field, reason, choices, trouble);
  return box;
}

function labelled(tag, label, value) {
  const made = element("label", "", label);
  const field = element(tag);
  field.value = value;
  made.append(field);
  return made;
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text || "{}"), null, 2);
  } catch {
    return text;
  }
}
