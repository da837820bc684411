// Send requests to the service, with the key of the session if it needs one; read a run over as many connections as needed.
import { events } from "./sse.js";

/** The service refused a request: `status` is the HTTP status, undefined if there was no response. */
export class Refused extends Error {}

const KEY = `streamcore:key:${location.pathname}`;
const wait = (ms) => new Promise((go) => {
  const timer = setTimeout(go, ms);
  addEventListener("online", () => { clearTimeout(timer); go(); }, { once: true });
});

export const setKey = (key) => sessionStorage.setItem(KEY, key);

export async function send(path, { body, headers = {}, ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  const given = { ...headers };
  if (key) given.Authorization = `Bearer ${key}`;
  if (body !== undefined) {
    given["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options, headers: given });
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
  const final = response.headers.get("X-Should-Retry") === "false";
  throw Object.assign(new Refused(why), { status: response.status, final });
}

const post = async (path, body) => (await send(path, { method: "POST", body })).json();

export const settings = async () => (await send("assets/settings.json")).json();
export const about = async () => (await send("about")).json();
export const state = async (session) => (await send(`state/${session}`)).json();
export const stop = (session) => post(`stop/${session}`);
export const fork = async (session, keep) => (await post(`fork/${session}`, { keep })).session_id;
export const forget = (session) => send(`state/${session}`, { method: "DELETE" });
export const rate = (session, run, rating) => send(`feedback/${session}`, { method: "POST", body: { run, rating } });

/** Send a message, or answer a question; return the run that has begun. `sent` are the fields that send its files. */
export async function start(session, { text, sent = {}, model = "", answer }) {
  if (answer !== undefined) return (await post(`resume/${session}`, { answer })).run;
  if (!sent) throw Object.assign(new Refused("The files of the message are not known."), { type: "FilesLost" });
  const body = { prompt: text || null, session_id: session, ...sent };
  if (model) body.model = model;
  return (await post("start", body)).run;
}

/**
 * Yield the messages of a run from its beginning to its end, each once, over as many connections as are needed.
 * `lost(true)` is called when a connection is lost, `lost(false)` when there is a connection again.
 */
export async function* listen(session, run, signal, lost) {
  let last = "";
  for (let tries = 0; ; tries += 1) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await send(`stream/${session}?run=${run}&format=json`, { headers, signal, cache: "no-store" });
      tries = Math.min(tries, 1); // the service answers: a connection that breaks before its first message is no reason to wait
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
