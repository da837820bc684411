// Call the service: start, read and stop runs, and reconnect when the connection breaks.
import { events } from "./sse.js";

export class Refused extends Error {}

const json = { "Content-Type": "application/json" };
const wait = (ms) => new Promise((go) => {
  const timer = setTimeout(go, ms);
  addEventListener("online", () => { clearTimeout(timer); go(); }, { once: true });
});

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused("The service cannot be reached.");
  }
  if (response.ok) return response;
  let why = `${response.status} ${response.statusText}`;
  try {
    const { detail } = await response.json();
    why = typeof detail === "string" ? detail : detail.map((one) => one.msg).join("; ");
  } catch { /* not JSON: the status is the message */ }
  throw Object.assign(new Refused(why), { status: response.status });
}

export const about = async () => (await ask("about")).json();
export const state = async (session) => (await ask(`state/${session}`)).json();
export const stop = async (session) => (await ask(`stop/${session}`, { method: "POST" })).json();

async function post(path, body) {
  return (await ask(path, { method: "POST", headers: json, body: JSON.stringify(body) })).json();
}

/** Send a message, or answer a question; return the ids of the conversation and of the run that has begun. */
export async function start(session, { prompt, answer }) {
  if (answer !== undefined) return post(`resume/${session}`, { answer });
  return post("start", { prompt: prompt || null, session_id: session });
}

/**
 * Yield the messages of a run from its beginning to its end, each once, over as many connections as are needed.
 * `lost(true)` is called when a connection is lost, `lost(false)` when there is a connection again.
 */
export async function* listen({ session, run }, signal, lost) {
  let last = "";
  for (let tries = 0; ; tries += 1) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await ask(`stream/${session}?run=${run}&format=json`, { headers, signal, cache: "no-store" });
      lost(false);
      for await (const event of events(response)) {
        tries = 0;
        if (event.id) last = event.id;
        yield { name: event.name, data: JSON.parse(event.data) };
        if (event.name === "done") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status && ![429, 502, 503, 504].includes(error.status)) throw error;
    }
    if (signal.aborted) return;
    lost(true);
    await wait(Math.min(10_000, 500 * 2 ** tries));
  }
}
