// Store conversations: at the service, for a user that it knows, or else in this browser. Tells other tabs of changes.
import { merge, readable } from "./conversation.js";
import { withoutData } from "./files.js";
import { send } from "./service.js";

const NAME = `streamcore:${location.pathname}`;
const entry = ({ id, title, updated }) => ({ id, title, updated });
const latestFirst = (entries) => entries.sort((one, other) => other.updated - one.updated);

/** Keep conversations until the page is closed, where the browser allows no storage. */
class MemoryStore {
  #kept = new Map();

  async list() { return latestFirst([...this.#kept.values()].map(entry)); }
  async load(id) { return this.#kept.get(id); }
  async save(conversation) { this.#kept.set(conversation.id, structuredClone(conversation)); }
  async remove(id) { this.#kept.delete(id); }
  async all() { return [...this.#kept.values()]; }
}

/** Keep conversations in the browser's database. */
class BrowserStore {
  constructor(database) { this.database = database; }

  static async open() {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("conversations", { keyPath: "id" });
    const database = await settled(opening);
    database.onversionchange = () => database.close();
    return new BrowserStore(database);
  }

  #run(mode, act) {
    const transaction = this.database.transaction("conversations", mode);
    return settled(act(transaction.objectStore("conversations")), transaction);
  }

  async list() { return latestFirst((await this.all()).map(entry)); }
  load(id) { return this.#run("readonly", (store) => store.get(id)); }
  save(conversation) { return this.#run("readwrite", (store) => store.put(conversation)); }
  remove(id) { return this.#run("readwrite", (store) => store.delete(id)); }
  all() { return this.#run("readonly", (store) => store.getAll()); }
}

/** Return the result of a request to the database, once its transaction is complete. */
function settled(request, transaction = null) {
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    if (transaction) {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    } else {
      request.onsuccess = () => resolve(request.result);
      request.onblocked = () => reject(new Error("blocked"));
    }
  });
}

/** Keep conversations at the service. */
class ServiceStore {
  async list() { return (await (await send("conversations")).json()).conversations; }

  async load(id) {
    try {
      return await (await send(`conversations/${id}`)).json();
    } catch (error) {
      if (error.status === 404) return undefined;
      throw error;
    }
  }

  async save(conversation) {
    await send(`conversations/${conversation.id}`, { method: "PUT", body: { record: conversation } });
  }

  async remove(id) { await send(`conversations/${id}`, { method: "DELETE" }); }
}

export class Library {
  #channel = new BroadcastChannel(NAME);
  #saving = Promise.resolve();

  constructor(store, atService) {
    this.store = store;
    this.atService = atService;
  }

  /** `keeps`: the service keeps the conversations. */
  static async open(keeps) {
    if (keeps) return new Library(new ServiceStore(), true);
    try {
      return new Library(await BrowserStore.open(), false);
    } catch (error) {
      console.warn(error);
      return new Library(new MemoryStore(), false);
    }
  }

  /** Call `changed` with the id of each conversation that another tab saves or deletes. */
  listen(changed) {
    this.#channel.onmessage = ({ data }) => changed(data);
  }

  list() { return this.store.list(); }

  async load(id) { return readable(await this.store.load(id)); }

  /** Save a conversation with the turns that another tab has added to it; return it with them. */
  save(conversation) {
    conversation.updated = Date.now();
    const turns = conversation.turns.map((turn) => ({ ...turn, files: turn.files.map(withoutData) }));
    const copy = structuredClone({ ...conversation, turns });
    const saved = this.#saving.catch(() => {}).then(async () => {
      const whole = merge(copy, await this.load(copy.id));
      await this.store.save(whole);
      this.#channel.postMessage(copy.id);
      return whole;
    });
    this.#saving = saved;
    return saved;
  }

  async remove(id) {
    await this.store.remove(id);
    this.#channel.postMessage(id);
  }

  /** Return the ids of the conversations in which a text occurs; at the service only their titles are searched. */
  async find(text) {
    const wanted = text.toLocaleLowerCase();
    const has = (one) => typeof one === "string" && one.toLocaleLowerCase().includes(wanted);
    if (!this.store.all) return (await this.list()).filter(({ title }) => has(title)).map(({ id }) => id);
    const inTurn = (turn) => has(turn?.text) || turn?.answers?.some?.((answer) => has(answer?.text));
    return (await this.store.all()).filter((one) => has(one.title) || one.turns?.some?.(inTurn)).map(({ id }) => id);
  }
}
