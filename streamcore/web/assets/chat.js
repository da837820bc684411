// Talk to the service: begin, listen, stop, and find the way back when the connection breaks.
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
  } catch { /* no JSON: the status has to do */ }
  throw Object.assign(new Refused(why), { status: response.status });
}

export const about = async () => (await ask("about")).json();
export const state = async (session) => (await ask(`state/${session}`)).json();
export const stop = async (session) => (await ask(`stop/${session}`, { method: "POST" })).json();

async function post(path, body) {
  return (await ask(path, { method: "POST", headers: json, body: JSON.stringify(body) })).json();
}

/** Leave a message, or the answer to a question; return the conversation's id. */
export async function leave(session, { prompt, answer }) {
  if (answer !== undefined) return (await post(`resume/${session}`, { answer })).session_id;
  return (await post("start", { prompt: prompt || null, session_id: session })).session_id;
}

/**
 * Yield the messages of a run, to its end, over as many connections as it takes.
 * `lost(true)` is called when a connection broke, `lost(false)` when it is back.
 */
export async function* listen(session, signal, lost) {
  let last = "";
  for (let tries = 0; ; tries += 1) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await ask(`stream/${session}?format=json`, { headers, signal, cache: "no-store" });
      lost(false);
      for await (const event of events(response)) {
        tries = 0;
        if (event.id) last = event.id;
        yield { name: event.name, data: JSON.parse(event.data) };
        if (event.name === "done") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      // Refused for good; 409 means that the server has not noticed yet that we were gone.
      if (error instanceof Refused && error.status && !(last && [409, 502, 503, 504].includes(error.status))) throw error;
      if (error instanceof Refused && !last) throw error;
    }
    if (signal.aborted) return;
    last ||= "0"; // it may have begun: ask for the rest, never for a second answer
    lost(true);
    await wait(Math.min(10_000, 500 * 2 ** tries));
  }
}
