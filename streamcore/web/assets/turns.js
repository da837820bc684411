// Show one turn: the user's message with its versions, and the answers to it.
import { Answer } from "./answer.js";
import { button, element, iconButton } from "./dom.js";
import { fileList } from "./files.js";
import { t } from "./words.js";

/**
 * `does` has what the page does for a turn: `grown()` after each change, `edit(turn, text)`, `again(turn)`,
 * `rate(turn, rating)`, `show(turn)` for another version, and what is allowed: `mayEdit(turn)`, `mayAskAgain(turn)`,
 * `mayRate(turn)`, `versions(turn)`.
 */
export class TurnView {
  constructor(turn, does) {
    Object.assign(this, { turn, does, shown: [] });
    this.element = element("section", "turn");
    if (turn.text || turn.files.length) this.element.append(this.message());
    else if (does.versions(turn).length > 1) this.element.append(this.versionSwitch());
    for (const record of [...turn.answers]) this.draw(record);
  }

  message() {
    const { turn } = this;
    const message = element("article", "user");
    message.setAttribute("aria-label", t("you"));
    const body = message.appendChild(element("div", "body", turn.text));
    body.dir = "auto";
    if (turn.files.length) message.prepend(fileList(turn.files));
    const tools = message.appendChild(element("div", "tools"));
    if (this.does.versions(turn).length > 1) tools.append(this.versionSwitch());
    if (this.does.mayEdit(turn)) tools.append(button(t("edit"), () => this.edit(message), t("edit_label")));
    return message;
  }

  versionSwitch() {
    const all = this.does.versions(this.turn);
    const position = all.indexOf(this.turn);
    const box = element("span", "versions");
    const go = (step, symbol, label) => {
      const made = iconButton(symbol, label, () => this.does.show(all[position + step]));
      made.disabled = !all[position + step];
      return made;
    };
    const count = element("span", "", `${position + 1}/${all.length}`);
    count.setAttribute("aria-label", t("branch", { number: position + 1, count: all.length }));
    count.setAttribute("role", "img");
    box.append(go(-1, "‹", t("branch_previous")), count, go(1, "›", t("branch_next")));
    return box;
  }

  /** Replace the message by a field in which it can be changed. */
  edit(message) {
    const form = element("form", "edit");
    const field = element("textarea");
    field.value = this.turn.text;
    field.rows = Math.min(12, this.turn.text.split("\n").length + 1);
    field.setAttribute("aria-label", t("edit_label"));
    const close = () => {
      form.replaceWith(message);
      message.querySelector(".tools button:last-child")?.focus();
    };
    const submit = button(t("send"), () => {});
    submit.type = "submit";
    const row = element("div", "choices");
    row.append(submit, button(t("cancel"), close));
    form.append(field, row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) this.does.edit(this.turn, field.value);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    message.replaceWith(form);
    field.focus();
  }

  draw(record) {
    const made = new Answer(record, this.does.grown, () => this.tools(record));
    this.shown.push(made);
    this.element.append(made.element);
    return made;
  }

  /** Add an answer to the turn. */
  addAnswer(record) {
    this.turn.answers.push(record);
    const made = this.draw(record);
    this.does.grown();
    return made;
  }

  removeAnswer(answer) {
    answer.element.remove();
    this.shown = this.shown.filter((one) => one !== answer);
    this.turn.answers = this.turn.answers.filter((record) => record !== answer.record);
  }

  /** Remove all answers but the first `count`. */
  keepAnswers(count) {
    for (const answer of this.shown.slice(count)) this.removeAnswer(answer);
  }

  /** Show that the turn waits for its answer. */
  waiting(is) {
    this.waits?.remove();
    if (is) this.waits = this.element.appendChild(element("div", "waiting"));
  }

  /** Return the buttons at the foot of an answer; those about the whole turn are at its last one. */
  tools(record) {
    const { turn, does } = this;
    if (record !== turn.answers.at(-1) || record.question) return [];
    const made = [];
    if (does.mayAskAgain(turn)) made.push(button(t("again"), () => does.again(turn), t("again_title")));
    if (does.mayRate(turn)) made.push(this.thumb("good", "👍"), this.thumb("bad", "👎"));
    return made;
  }

  thumb(rating, symbol) {
    const made = iconButton(symbol, t(rating), async () => {
      const wanted = this.turn.rating === rating ? null : rating;
      await this.does.rate(this.turn, wanted);
      for (const one of this.element.querySelectorAll("[data-rating]")) {
        one.setAttribute("aria-pressed", String(one.dataset.rating === this.turn.rating));
      }
    });
    made.dataset.rating = rating;
    made.setAttribute("aria-pressed", String(this.turn.rating === rating));
    return made;
  }

  /** Draw the feet of all answers again, since what can be done has changed. */
  refresh() {
    const message = this.element.querySelector(":scope > article.user");
    if (message) message.replaceWith(this.message());
    for (const answer of this.shown) if (answer.record.over) answer.finish(undefined, undefined, answer.act);
  }
}
