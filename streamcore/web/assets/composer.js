// Run the message box: it grows, recalls earlier messages, takes files, and keeps messages for later while an answer runs.
import { $, element, iconButton } from "./dom.js";
import { fileList } from "./turns.js";
import { t } from "./words.js";

const input = $("input");

export class Composer {
  /** `send({ text, files })` is called with a message; `recalled()` returns the user's earlier messages. */
  constructor({ send, recalled }) {
    Object.assign(this, { send, recalled, files: [], queue: [], accepts: [], maxBytes: 0, back: 0 });
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => this.#grow());
    input.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length && this.accepts.length) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
    addEventListener("dragover", (event) => { if (this.accepts.length) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault(); // else the browser would leave the page and show the file
      if (this.accepts.length) this.add(event.dataTransfer.files);
    });
    $("attach").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      this.add($("file").files);
      $("file").value = "";
    });
  }

  /** Set which files the target takes. */
  take(accepts, maxBytes) {
    Object.assign(this, { accepts, maxBytes });
    $("attach").hidden = !accepts.length;
    $("file").accept = accepts.join(",");
  }

  submit() {
    const text = input.value;
    if (!text.trim() && !this.files.length) return;
    const { files } = this;
    input.value = "";
    this.files = [];
    this.back = 0;
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

  async add(files) {
    this.#trouble("");
    for (const file of files) {
      const fits = this.accepts.some((one) => one === file.type || (one.endsWith("/*") && file.type.startsWith(one.slice(0, -1))));
      if (!fits) this.#trouble(t("file_type", { name: file.name }));
      else if (file.size > this.maxBytes) this.#trouble(t("file_large", { name: file.name, size: (this.maxBytes / 1e6).toFixed(1) }));
      else this.files.push({ name: file.name, media_type: file.type, data: await base64(file) });
    }
    this.#showFiles();
    input.focus();
  }

  #trouble(text) {
    $("file-trouble").textContent = text;
    $("file-trouble").hidden = !text;
  }

  #showFiles() {
    const remove = (file) => {
      this.files = this.files.filter((one) => one !== file);
      this.#showFiles();
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
    this.queue = [];
    this.#showQueue();
  }

  #showQueue() {
    $("queue").replaceChildren(...this.queue.map((message) => {
      const item = element("li");
      item.append(element("span", "", t("queued", { text: message.text })), iconButton("×", t("queued_remove"), () => {
        this.queue = this.queue.filter((one) => one !== message);
        this.#showQueue();
      }));
      return item;
    }));
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
