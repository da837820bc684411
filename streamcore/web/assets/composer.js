// Run the message box: it grows, recalls earlier messages, takes files, and keeps messages for later while an answer runs.
import { $, element, iconButton } from "./dom.js";
import { fileList, readFiles } from "./files.js";
import { t } from "./words.js";

const input = $("input");

export class Composer {
  /** `send({ text, files })` is called with a message; `recalled()` returns the user's earlier messages. */
  constructor({ send, recalled }) {
    Object.assign(this, { send, recalled, files: [], queue: [], limits: { accepts: [] }, back: 0, reading: null });
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => this.#grow());
    input.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length && this.takesFiles) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
    this.#listenToDrops();
    $("attach").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      this.add($("file").files);
      $("file").value = "";
    });
  }

  #listenToDrops() {
    const over = (is) => $("ask").classList.toggle("drop", is);
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // else the browser would leave the page and show the file
      event.dataTransfer.dropEffect = this.takesFiles ? "copy" : "none";
      over(this.takesFiles);
    });
    addEventListener("dragleave", ({ relatedTarget }) => { if (!relatedTarget) over(false); });
    addEventListener("drop", (event) => {
      over(false);
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      if (this.takesFiles) this.add(event.dataTransfer.files);
    });
  }

  /** Set which files the target takes; see `readFiles`. */
  take(limits) {
    this.limits = limits;
    $("attach").hidden = !this.takesFiles;
    $("file").accept = limits.accepts.join(",");
  }

  get takesFiles() { return this.limits.accepts.length > 0; }

  async submit() {
    await this.reading;
    const text = input.value;
    if (!text.trim() && !this.files.length) return;
    const { files } = this;
    input.value = "";
    this.files = [];
    this.back = 0;
    this.#trouble("");
    this.#showFiles();
    this.#grow();
    this.send({ text: text.trim() ? text : "", files });
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "ArrowUp" && (!input.value || this.back)) {
      const earlier = this.recalled();
      const wanted = earlier.at(-1 - this.back);
      if (wanted === undefined || (this.back && input.value !== earlier.at(-this.back))) return;
      event.preventDefault();
      this.back += 1;
      this.write(wanted);
    }
  }

  /** Write a text into the box. */
  write(text) {
    input.value = text;
    input.setSelectionRange(text.length, text.length);
    this.#grow();
  }

  #grow() {
    if (CSS.supports("field-sizing", "content")) return;
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight + 2}px`;
  }

  /** Add files to the message; `submit` waits until they are read. */
  add(given) {
    const all = [...given]; // the list of an event is emptied after it
    const read = Promise.resolve(this.reading).then(async () => {
      const { files, troubles } = await readFiles(all, this.files, this.limits);
      this.files.push(...files);
      this.#trouble(troubles.join("\n"));
      this.#showFiles();
      input.focus();
    });
    this.reading = read;
    return read;
  }

  #trouble(text) {
    $("file-trouble").textContent = text;
    $("file-trouble").hidden = !text;
  }

  #showFiles() {
    const remove = (file) => {
      this.files = this.files.filter((one) => one !== file);
      this.#trouble("");
      this.#showFiles();
      input.focus();
    };
    $("attached").replaceChildren(...(this.files.length ? [fileList(this.files, remove)] : []));
  }

  /** Keep a message until the answer that runs has ended. */
  later(message) {
    this.queue.push(message);
    this.#showQueue();
  }

  /** Return the next message that waits; undefined if there is none. */
  next() {
    const found = this.queue.shift();
    this.#showQueue();
    return found;
  }

  /** Return all messages that wait to the box, since what they follow on has not come. */
  giveBack() {
    const texts = this.queue.map(({ text }) => text);
    if (texts.length) this.write([input.value, ...texts].filter(Boolean).join("\n"));
    this.files.push(...this.queue.flatMap(({ files }) => files));
    this.queue = [];
    this.#showFiles();
    this.#showQueue();
  }

  #showQueue() {
    $("queue").replaceChildren(...this.queue.map((message) => {
      const item = element("li");
      item.append(element("span", "", t("queued", { text: message.text || message.files[0].name })), iconButton("×", t("queued_remove"), () => {
        this.queue = this.queue.filter((one) => one !== message);
        this.#showQueue();
      }));
      return item;
    }));
  }
}
