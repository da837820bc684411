// Show a conversation, send messages, and read the answers.
import { approvalCard } from "./approval.js";
import { addTurn, blank, choose, head, path, versions } from "./conversation.js";
import { $, element } from "./dom.js";
import { sending } from "./files.js";
import { callsOf } from "./run.js";
import { Runner } from "./runner.js";
import { followEnd, grown } from "./scroll.js";
import { rate, state } from "./service.js";
import { emptyPage, notice } from "./surroundings.js";
import { troubleBox, troubleOf } from "./trouble.js";
import { TurnView } from "./turns.js";
import { t } from "./words.js";

const log = $("log");

export class Chat {
  conversation = blank();
  views = new Map(); // of the turns that are shown, by their ids
  runner = new Runner(this);
  #visit = 0;

  /** `shown` is called when the page shows another state: idle or busy, with or without a question. */
  constructor({ library, target, look, shown, saved, signIn }) {
    Object.assign(this, { library, target, look, shown, saved, signIn });
    this.does = {
      grown,
      versions: (turn) => versions(this.conversation, turn),
      mayEdit: (turn) => this.mayAskAgain(turn) && Boolean(turn.text),
      mayAskAgain: (turn) => this.mayAskAgain(turn),
      mayRate: (turn) => look.feedback && turn.runs.length > 0,
      edit: (turn, text) => this.ask({ text, files: turn.files }, turn.parent),
      again: (turn) => this.ask(turn, turn.parent),
      rate: (turn, rating) => this.rate(turn, rating),
      show: (turn) => this.showVersion(turn),
    };
  }

  // Which conversation is shown

  /** Show the conversation with an id; "" shows an empty one. */
  async open(id) {
    const visit = (this.#visit += 1);
    this.runner.leave();
    let [found, trouble] = [null, null];
    try {
      if (id) found = await this.library.load(id);
    } catch (error) {
      trouble = troubleBox(troubleOf(error), { sign_in: this.signIn });
    }
    if (visit !== this.#visit) return;
    this.conversation = found ?? blank();
    this.draw();
    if (trouble) log.append(trouble);
    else if (id && !found) log.append(element("p", "notice", t("no_conversation")));
    await this.lookUp();
  }

  /** The run that is read; null if there is none. */
  get run() { return this.runner.run; }

  draw() {
    log.replaceChildren();
    this.views.clear();
    for (const turn of path(this.conversation)) this.drawTurn(turn);
    this.shown();
  }

  drawTurn(turn) {
    if (turn.reading) turn.answers.length = Math.min(turn.reading.from ?? 0, turn.answers.length); // is read again
    for (const record of turn.answers) if (!record.over) Object.assign(record, { over: true, note: t("closed_early") });
    try {
      const view = new TurnView(turn, this.does);
      this.views.set(turn.id, view);
      log.append(view.element);
    } catch (error) {
      console.warn(error);
    }
  }

  /** Ask the service what is waiting or running in the conversation, and go on with it. */
  async lookUp(passive = false) {
    const visit = this.#visit;
    const turn = head(this.conversation);
    let question = null;
    if (turn?.session && !this.run) {
      try {
        const found = await state(turn.session);
        if (visit !== this.#visit || this.run) return;
        question = found.question ?? null;
        const known = this.conversation.turns.some((one) => one.runs.includes(found.run));
        if (found.run && !known) Object.assign(turn, { runs: [...turn.runs, found.run], reading: { run: found.run, from: turn.answers.length } });
      } catch (error) {
        if (visit !== this.#visit || this.run) return;
        if (error.status === 404 && !passive) this.lose(turn);
        else if (error.status !== 404) log.append(troubleBox(troubleOf(error), { again: () => this.open(this.conversation.id), sign_in: this.signIn }));
      }
    }
    this.conversation.question = question;
    if (turn?.reading?.run) this.runner.read(turn);
    else if (turn?.reading && passive) this.views.get(turn.id)?.waiting(true); // another tab is about to send it
    else this.settle(turn);
  }

  /** Note that the service does not have a session any more. */
  lose(turn) {
    turn.session = null;
    if (turn.runs.length) log.append(element("p", "notice", t("session_lost")));
  }

  /** Show the end of a conversation of which nothing runs. */
  settle(turn) {
    if (!turn) log.append(emptyPage(this.target, this.look, (text) => this.ask({ text })));
    const view = turn && this.views.get(turn.id);
    if (view && !turn.answers.length) {
      turn.reading = null;
      view.addAnswer({ text: "" }).finish("", { words: t("closed_early"), act: "again" }, this.runner.acts(turn));
    }
    this.askApproval();
    this.shown();
    grown();
  }

  // Messages

  mayAskAgain(turn) {
    return !this.run && turn.answering === null && (this.target.forks || (turn.parent === "" && Boolean(turn.text)));
  }

  /** Send a message after a turn; without one, after the last. It answers the question that waits, if there is one. */
  async ask({ text = "", files = [] }, parent = null) {
    if (this.run) return;
    const last = head(this.conversation);
    const after = parent ?? last?.id ?? "";
    const { question } = this.conversation;
    const answering = parent === null && question && !callsOf(question) ? question.node : null;
    const turn = addTurn(this.conversation, after, text, files, answering);
    if (parent !== null) this.draw();
    else {
      for (const one of log.querySelectorAll(".empty, .approval, .notice")) one.remove();
      this.drawTurn(turn);
      this.views.get(last?.id)?.refresh();
    }
    await this.runner.begin(turn, this.#request(turn));
  }

  /** Return what is sent for a turn: its message, or the answer to a question that no run has received yet. */
  #request(turn) {
    if (turn.answering === null) {
      const { model } = this.conversation;
      return { text: turn.text, sent: sending(turn.files), model: this.target.models.includes(model) ? model : "" };
    }
    return turn.runs.length ? { text: "" } : { answer: turn.text };
  }

  /** Try a turn again: beside it, or in its place where nothing has come or its session cannot be forked. */
  retry(turn) {
    if (this.run) return undefined;
    if (turn.runs.length && this.mayAskAgain(turn) && this.target.forks) return this.ask(turn, turn.parent);
    const view = this.views.get(turn.id);
    for (const answer of [...view.shown]) if (answer.record.trouble && !answer.record.text) view.removeAnswer(answer);
    return this.runner.begin(turn, this.#request(turn));
  }

  /** Send the decisions about calls, and read how the run goes on. */
  decide(decisions) {
    const turn = head(this.conversation);
    return turn && !this.run ? this.runner.begin(turn, { answer: decisions }) : undefined;
  }

  askApproval() {
    const { question } = this.conversation;
    const calls = callsOf(question);
    log.querySelector(".approval")?.remove();
    if (!calls) return;
    // A prompt's calls are decided together, those of an agent in a graph one by one.
    log.append(approvalCard(calls, (decisions) => this.decide(question.message.calls ? decisions : decisions.call)));
    grown();
  }

  // Versions, ratings, storage

  async showVersion(turn) {
    if (this.run) return;
    choose(this.conversation, turn);
    this.draw();
    this.views.get(turn.id)?.element.querySelector(".versions button:not(:disabled)")?.focus();
    await this.lookUp();
    this.save(this.conversation);
  }

  async rate(turn, rating) {
    try {
      await rate(turn.session, turn.runs.at(-1), rating);
      turn.rating = rating;
      await this.save(this.conversation);
    } catch (error) {
      console.warn(error);
    }
  }

  async save(conversation) {
    try {
      const whole = await this.library.save(conversation);
      const known = new Set(conversation.turns.map(({ id }) => id));
      conversation.turns.push(...whole.turns.filter(({ id }) => !known.has(id)));
      notice("storage", false);
    } catch (error) {
      console.warn(error);
      notice("storage", true, t("storage_full", { why: error.status ? error.message : t("storage_none") }));
    }
    this.saved(conversation);
  }

  /** Another tab has changed the conversation: show it as it is now. */
  async changed() {
    if (this.run) return;
    const visit = this.#visit;
    const found = await this.library.load(this.conversation.id).catch(() => null);
    if (visit !== this.#visit || this.run) return;
    if (!found) return;
    this.conversation = found;
    this.draw();
    followEnd();
    await this.lookUp(true);
  }
}
