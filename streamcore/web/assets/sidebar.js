// Show the list of conversations: open, search, rename, export, delete.
import { asMarkdown, sessions } from "./conversation.js";
import { askUser } from "./dialog.js";
import { $, button, element } from "./dom.js";
import { forget, stop } from "./service.js";
import { t } from "./words.js";

const OPEN = "streamcore:side";
const wide = matchMedia("(min-width: 64rem)");

export class Sidebar {
  #drawing = 0;

  /** `current` returns the conversation that is shown; `removed` is called with the id of one that was deleted. */
  constructor(library, { current, renamed, removed }) {
    Object.assign(this, { library, current, renamed, removed });
    $("menu").addEventListener("click", () => this.open(document.body.dataset.side !== "open"));
    $("search").addEventListener("input", () => this.draw());
    $("side").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || wide.matches) return;
      event.stopPropagation();
      this.open(false);
      $("menu").focus();
    });
    $("shade").addEventListener("click", () => this.open(false));
    const fit = () => this.open(wide.matches && localStorage.getItem(OPEN) !== "closed", false);
    wide.addEventListener("change", fit);
    fit();
  }

  open(is, byUser = true) {
    document.body.dataset.side = is ? "open" : "closed";
    $("menu").setAttribute("aria-expanded", String(is));
    if (!byUser) return;
    if (wide.matches) localStorage.setItem(OPEN, is ? "open" : "closed");
    else if (is) $("search").focus();
  }

  /** Close the list where it covers the conversation. */
  chosen() {
    if (!wide.matches) this.open(false);
  }

  async draw() {
    const mine = (this.#drawing += 1);
    const text = $("search").value.trim();
    let [entries, found] = [[], null];
    try {
      entries = await this.library.list();
      if (text) found = new Set(await this.library.find(text));
    } catch (error) {
      console.warn(error);
    }
    if (mine !== this.#drawing) return;
    const shown = found ? entries.filter(({ id }) => found.has(id)) : entries;
    $("conversations").replaceChildren(...shown.map((entry) => this.item(entry)));
    $("none").textContent = shown.length ? "" : t(text ? "none_found" : "none");
  }

  item({ id, title }) {
    const item = element("li");
    const link = item.appendChild(element("a", "", title || t("untitled")));
    link.href = `#${id}`;
    link.dir = "auto";
    if (id === this.current()?.id) link.setAttribute("aria-current", "page");
    link.addEventListener("click", () => this.chosen());
    const more = item.appendChild(element("details", "more"));
    const summary = more.appendChild(element("summary", "", "⋯"));
    summary.setAttribute("aria-label", `${t("details")}: ${title || t("untitled")}`);
    const choices = more.appendChild(element("div"));
    const act = (label, does) => choices.append(button(t(label), () => { more.open = false; does(); }));
    act("rename", () => this.rename(id, title));
    act("export_markdown", () => this.export(id, "md"));
    act("export_json", () => this.export(id, "json"));
    act("delete", () => this.remove(id, title || t("untitled")));
    return item;
  }

  /** Return a conversation; the one that is shown may be newer than its stored form. */
  async #load(id) {
    const shown = this.current();
    return shown?.id === id ? shown : this.library.load(id);
  }

  async rename(id, title) {
    const wanted = await askUser(t("rename"), { yes: t("save"), field: { label: t("rename"), value: title } });
    const conversation = wanted?.trim() && (await this.#load(id));
    if (!conversation) return;
    conversation.title = wanted.trim().slice(0, 200);
    await this.library.save(conversation);
    this.renamed(conversation);
    this.draw();
  }

  async export(id, kind) {
    const conversation = await this.#load(id);
    if (!conversation) return;
    const words = { untitled: t("untitled"), you: t("you"), answer: t("answer_label") };
    const text = kind === "md" ? asMarkdown(conversation, words) : JSON.stringify(conversation, null, 2);
    const address = URL.createObjectURL(new Blob([text], { type: kind === "md" ? "text/markdown" : "application/json" }));
    const name = (conversation.title || t("untitled")).replace(/[^\p{L}\p{N} ._-]+/gu, "").trim() || "conversation";
    const link = Object.assign(element("a"), { href: address, download: `${name}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  async remove(id, title) {
    if (!(await askUser(t("delete_sure", { title }), { yes: t("delete") }))) return;
    const conversation = await this.#load(id);
    this.removed(id);
    await this.library.remove(id);
    this.draw();
    for (const session of conversation ? sessions(conversation) : []) {
      try {
        await forget(session);
      } catch (error) {
        if (error.status === 409) await stop(session).then(() => forget(session)).catch(console.warn);
      }
    }
  }
}
