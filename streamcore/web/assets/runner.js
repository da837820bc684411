// Run requests in a conversation: begin one, read it to its end, show how it ended.
import { newId, sessionFor } from "./conversation.js";
import { $ } from "./dom.js";
import { Run } from "./run.js";
import { followEnd } from "./scroll.js";
import { fork, start, state, stop } from "./service.js";
import { footOf, notice } from "./surroundings.js";
import { t } from "./words.js";

export class Runner {
  run = null; // the run that is read
  leaving = false; // the page is being closed, which is no failure of the run

  constructor(chat) { this.chat = chat; }

  /** Stop reading; the run goes on, and is read again when its conversation is opened. */
  leave() {
    this.run?.abort.abort();
    this.run = null;
  }

  async begin(turn, request) {
    const { conversation } = this.chat;
    const run = this.#prepare(turn, turn.answers.length);
    turn.reading = { run: null, from: run.from };
    run.sentAt = performance.now();
    let id = null;
    try {
      turn.session ??= await this.#session(turn);
      this.chat.save(conversation);
      id = await start(turn.session, request);
      turn.runs.push(id);
      turn.reading = { run: id, from: run.from };
      if (this.run === run) this.chat.conversation.question = null;
      $("log").querySelector(".approval")?.remove();
      this.chat.save(conversation);
    } catch (error) {
      run.fail(error);
      if ([400, 404, 409].includes(error.status) && turn.answering !== null) conversation.question = null;
    }
    if (id && this.run === run) await run.read(id, (is) => notice("lost", is));
    if (this.run === run && !this.leaving) await this.ended(run);
  }

  async #session(turn) {
    const { session, fork: from, keep } = sessionFor(this.chat.conversation, turn);
    return session ?? (from ? fork(from, keep) : newId());
  }

  /** Read a run from its beginning. */
  async read(turn) {
    const run = this.#prepare(turn, turn.reading.from);
    await run.read(turn.reading.run, (is) => notice("lost", is));
    if (this.run === run && !this.leaving) await this.ended(run);
  }

  #prepare(turn, from) {
    const view = this.chat.views.get(turn.id);
    const run = (this.run = new Run(turn, view, from, turn.answering));
    view.waiting(true);
    view.refresh();
    followEnd();
    this.chat.shown();
    return run;
  }

  async ended(run) {
    const { turn, view } = run;
    const open = [...run.open.values()];
    const calls = open.some(({ record }) => record.calls?.some((call) => call && call.result === undefined));
    this.run = null;
    turn.reading = null;
    if (!run.trouble && turn.runs.length) for (const file of turn.files) file.sent = { session_id: turn.session, run: turn.runs.at(-1) };
    view.waiting(false);
    try {
      this.#showEnd(run, open);
    } catch (error) {
      console.warn(error);
    }
    if (run.question) this.chat.conversation.question = run.question;
    else if (calls) this.chat.conversation.question = (await state(turn.session).catch(() => ({}))).question ?? null;
    if (this.run) return;
    this.chat.conversation.title ||= [...(turn.answers[0]?.text ?? "")].slice(0, 60).join("");
    this.chat.askApproval();
    this.chat.shown({ ended: turn, failed: Boolean(run.trouble) });
    await this.chat.save(this.chat.conversation);
  }

  #showEnd(run, open) {
    const { turn, view, trouble } = run;
    const stoppedElsewhere = run.done?.complete === false && !run.done.finish_reason; // in another tab
    const stopped = !trouble && (run.stopped || stoppedElsewhere);
    const short = { length: t("note_length"), content_filter: t("note_filter") };
    const note = stopped ? t("note_stopped") : short[run.done?.finish_reason] ?? "";
    const acts = this.acts(turn);
    if (run.done?.finish_reason === "length" && this.chat.target.kind === "prompt") acts.continue = () => this.chat.ask({ text: t("continue") });
    const last = open.pop() ?? (trouble || stopped ? view.addAnswer({ text: "" }) : null);
    for (const one of open) one.finish(note);
    const shown = last ?? view.shown.slice(run.from).findLast(({ record }) => !record.question);
    if (shown && this.chat.look.show_usage) shown.record.foot = footOf(run);
    last?.finish(note, trouble ?? "", acts);
    view.refresh();
  }

  acts(turn) {
    return { again: () => this.chat.retry(turn), sign_in: this.chat.signIn };
  }

  /** Stop the run: the stream then sends its end; a connection without an end is closed. */
  async stop() {
    const { run } = this;
    if (!run || run.stopped) return;
    run.stopped = true;
    const timer = setTimeout(() => run.abort.abort(), 3000);
    try {
      if (run.turn.session) await stop(run.turn.session);
    } catch {
      run.abort.abort();
    }
    while (this.run === run && !run.abort.signal.aborted) await new Promise((go) => setTimeout(go, 50));
    clearTimeout(timer);
  }
}
