// Ask whether calls of tools may run: a card with the arguments of each, to be approved, edited or denied with a reason.
import { button, element } from "./messages.js";

/** Return the card; `decide` gets the decision about each call by its id, once all are decided. */
export function approvalCard(calls, decide) {
  const card = element("article", "approval");
  card.setAttribute("role", "group");
  card.setAttribute("aria-label", "Approval");
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
  const field = labelled("textarea", "Arguments", text);
  const reason = labelled("input", "Reason for denying (optional)", "");
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
    if (written === text) return done({ approve: true }, "Approved.");
    let edited;
    try {
      edited = JSON.parse(written);
    } catch { /* not JSON */ }
    trouble.hidden = edited !== null && typeof edited === "object" && !Array.isArray(edited);
    if (trouble.hidden) return done({ approve: true, arguments: edited }, "Approved with these arguments.");
    trouble.textContent = "The arguments must be a JSON object.";
    return undefined;
  };
  const deny = () => done({ approve: false, reason: reason.querySelector("input").value }, "Denied.");
  const choices = element("div", "choices");
  choices.append(button("Approve", approve), button("Deny", deny));
  box.append(element("div", "title", `${name} needs your approval`), field, reason, choices, trouble);
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
