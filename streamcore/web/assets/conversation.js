// Hold a conversation as a tree of turns: asking again, or editing a message, adds a turn beside the old one.
//
// A turn is a message with its answers: { id, parent, text, files, answers, runs, session, answering }. `parent` is the
// turn before it, "" for the first. `session` is the service's name of the conversation that the model was sent;
// `runs` are the runs that answered. `answering` is the node whose question the message answers.

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return an empty conversation. `chosen` has, for a turn with several after it, the one that is shown. */
export function blank() {
  return { id: newId(), title: "", updated: 0, turns: [], chosen: {}, run: null, question: null, model: "" };
}

/** Return a stored conversation without what this page cannot read; null if nothing of it can be read. */
export function readable(stored) {
  if (!stored || typeof stored !== "object" || typeof stored.id !== "string") return null;
  const isTurn = (one) => one && typeof one.id === "string" && typeof one.text === "string" && Array.isArray(one.answers);
  const turns = Array.isArray(stored.turns) ? stored.turns.filter(isTurn) : [];
  for (const turn of turns) {
    turn.answers = turn.answers.filter((one) => one && typeof one.text === "string");
    turn.runs = Array.isArray(turn.runs) ? turn.runs : [];
    turn.files = Array.isArray(turn.files) ? turn.files.filter((one) => one && typeof one.name === "string") : [];
    turn.parent = turns.some((one) => one.id === turn.parent) ? turn.parent : "";
  }
  return { ...blank(), ...stored, turns, chosen: stored.chosen ?? {} };
}

const after = (conversation, parent) => conversation.turns.filter((turn) => turn.parent === parent);

/** Return the turns that are shown, the first one first. */
export function path(conversation) {
  const found = [];
  for (let parent = ""; ;) {
    const turns = after(conversation, parent);
    const next = turns.find((turn) => turn.id === conversation.chosen[parent]) ?? turns.at(-1);
    if (!next || found.includes(next)) return found;
    found.push(next);
    parent = next.id;
  }
}

export const head = (conversation) => path(conversation).at(-1);

/** Return the turns beside one, itself included. */
export const versions = (conversation, turn) => after(conversation, turn.parent);

/** Show one of the turns that have the same parent. */
export function choose(conversation, turn) {
  conversation.chosen[turn.parent] = turn.id;
}

export function addTurn(conversation, parent, text, files = [], answering = null) {
  const turn = { id: newId(), parent, text, files, answers: [], runs: [], session: null, answering };
  conversation.turns.push(turn);
  choose(conversation, turn);
  if (!conversation.title) conversation.title = titleOf(text, files);
  return turn;
}

function titleOf(text, files) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  const title = [...(line || files[0]?.name || "")];
  return title.length > 60 ? `${title.slice(0, 59).join("")}…` : title.join("");
}

/** Return the turns before one, the first one first. */
function before(conversation, turn) {
  const found = [];
  for (let one = turn; ;) {
    one = conversation.turns.find(({ id }) => id === one.parent);
    if (!one || found.includes(one)) return found;
    found.unshift(one);
  }
}

/**
 * Return how a new turn gets its session: `{ session }` to continue it, `{ fork, keep }` to begin a new one with the
 * turns that these runs answered, or `{}` to begin a new one without any.
 */
export function sessionFor(conversation, turn) {
  const earlier = before(conversation, turn);
  const last = earlier.at(-1);
  if (!last?.session) return {};
  const others = conversation.turns.filter((one) => one !== turn && !earlier.includes(one));
  if (!others.some((one) => one.session === last.session)) return { session: last.session };
  return { fork: last.session, keep: earlier.flatMap((one) => one.runs) };
}

export const sessions = (conversation) => [...new Set(conversation.turns.map((turn) => turn.session).filter(Boolean))];

/** Add to a conversation the turns of another copy of it, which another tab has saved. */
export function merge(conversation, other) {
  const known = new Set(conversation.turns.map((turn) => turn.id));
  const missing = (other?.turns ?? []).filter((turn) => !known.has(turn.id));
  if (!missing.length) return conversation;
  return { ...conversation, turns: [...conversation.turns, ...missing] };
}

/** Return the text of a conversation as Markdown. */
export function asMarkdown(conversation, words) {
  const parts = [`# ${conversation.title || words.untitled}`];
  for (const turn of path(conversation)) {
    const files = turn.files.map(({ name }) => `- ${name}`).join("\n");
    if (turn.text || files) parts.push(`## ${words.you}`, ...[files, turn.text].filter(Boolean));
    for (const answer of turn.answers) {
      const name = answer.node ? `${words.answer} (${answer.node})` : words.answer;
      parts.push(`## ${name}`, answer.output === undefined ? answer.text : `\`\`\`json\n${JSON.stringify(answer.output, null, 2)}\n\`\`\``);
    }
  }
  return `${parts.join("\n\n")}\n`;
}
