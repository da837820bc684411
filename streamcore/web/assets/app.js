// Start the page: its look, its language, signing in; connect the message box, the list and the conversation.
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { path } from "./conversation.js";
import { askUser } from "./dialog.js";
import { $, element } from "./dom.js";
import { Library } from "./library.js";
import { callsOf } from "./run.js";
import { followEnd } from "./scroll.js";
import { about, setKey, settings } from "./service.js";
import { Sidebar } from "./sidebar.js";
import { notice, say } from "./surroundings.js";
import { troubleBox, troubleOf } from "./trouble.js";
import { t, translate } from "./words.js";

const input = $("input");
const fine = matchMedia("(pointer: fine)");
let look = {};
let [chat, sidebar, composer] = [null, null, null];
let ready; // is called when messages can be sent
const begun = new Promise((go) => { ready = go; });

// Appearance

function startTheme() {
  const root = document.documentElement;
  const kept = localStorage.getItem("streamcore:theme");
  if (kept) root.dataset.theme = kept;
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = dark === "dark" ? "light" : "dark";
    localStorage.setItem("streamcore:theme", root.dataset.theme);
  });
}

function applyLook() {
  if (look.color) document.documentElement.style.setProperty("--operator", look.color);
  document.documentElement.toggleAttribute("data-operator", Boolean(look.color));
  if (look.logo) Object.assign($("logo"), { src: "assets/logo", hidden: false });
  if (look.title) document.title = $("title").textContent = look.title;
}

function applyTarget(target) {
  document.title = $("title").textContent = look.title ?? target.name;
  $("about").textContent = $("about").title = target.description;
  composer.take(target);
  $("model").hidden = !target.models.length;
  $("model").replaceChildren(...["", ...target.models].map((name) => Object.assign(element("option", "", name || t("model_default")), { value: name })));
  $("model").addEventListener("change", () => { chat.conversation.model = $("model").value; });
}

// Signing in

/** Sign in: go to the operator's page, or ask for a key and try again with it. */
async function signIn() {
  if (look.login_url) location.assign(look.login_url);
  else if (look.asks_key) {
    await askKey("");
    location.reload();
  }
}

async function askKey(trouble) {
  const field = { label: t("key_label"), type: "password" };
  setKey((await askUser(t("key_help"), { yes: t("sign_in"), field, trouble, mayCancel: false })).trim());
}

/** Return what is served, once the user is signed in. */
async function signedIn() {
  for (let tries = 0; ; tries += 1) {
    try {
      return await about();
    } catch (error) {
      if (error.status !== 401 || !look.asks_key) throw error;
      await askKey(tries || sessionStorage.getItem(`streamcore:key:${location.pathname}`) ? t("key_wrong") : "");
    }
  }
}

// The conversation and the message box

/** Show the message box as the state of the conversation wants it. */
function shown({ ended = null, failed = false } = {}) {
  const { conversation, run, target } = chat;
  const question = conversation.question && !callsOf(conversation.question);
  $("send").hidden = Boolean(run);
  $("stop").hidden = !run;
  $("stop").disabled = false;
  $("log").setAttribute("aria-busy", String(Boolean(run)));
  const empty = !conversation.turns.length;
  const takes = question || (target.input !== null && !(empty && target.begins));
  $("ask").classList.toggle("closed", !takes && !run);
  input.disabled = !takes && !run;
  input.placeholder = question && !run ? t("input_answer") : t("input");
  $("fresh-begin").hidden = takes || run || empty || Boolean(callsOf(conversation.question));
  $("model").value = target.models.includes(conversation.model) ? conversation.model : "";
  if (run) say(t("answer_begins"));
  if (ended) endOf(ended, failed);
  if (!run && fine.matches && !input.disabled && !document.querySelector("dialog, form.edit, #side:focus-within")) input.focus();
}

function endOf(turn, failed) {
  say(turn.answers.map((record) => record.text).join("\n"));
  if (failed || chat.conversation.question) composer.giveBack();
  else {
    const next = composer.next();
    if (next) queueMicrotask(() => chat.ask(next));
  }
}

async function send(message) {
  await begun;
  if (chat.run) {
    composer.later(message);
    if (look.while_running === "interrupt") await chat.runner.stop();
  } else await chat.ask(message);
}

function saved(conversation) {
  if (conversation === chat.conversation && addressed() !== conversation.id) history.replaceState(null, "", `#${conversation.id}`);
  sidebar.draw();
}

const addressed = () => (/^#[\w~.-]{1,64}$/.test(location.hash) ? location.hash.slice(1) : "");

async function go() {
  const id = addressed();
  if (id && id === chat.conversation.id) return;
  composer.giveBack();
  await chat.open(id);
  sidebar.draw();
}

function fresh() {
  history.pushState(null, "", location.pathname + location.search);
  sidebar.chosen();
  go();
}

function listenToUser() {
  addEventListener("hashchange", go);
  addEventListener("pagehide", () => { chat.runner.leaving = true; });
  addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
  for (const name of ["online", "offline"]) addEventListener(name, () => notice("offline", !navigator.onLine));
  notice("offline", !navigator.onLine);
  $("stop").addEventListener("click", () => { $("stop").disabled = true; chat.runner.stop(); });
  for (const id of ["fresh", "fresh-begin"]) $(id).addEventListener("click", fresh);
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.isComposing) chat.runner.stop(); });
  addEventListener("visibilitychange", () => { if (!document.hidden && chat.library.atService) sidebar.draw(); });
}

async function begin() {
  translate();
  startTheme();
  composer = new Composer({ send, recalled: () => path(chat.conversation).map(({ text }) => text).filter(Boolean) });
  try {
    look = await settings();
    applyLook();
    const target = await signedIn();
    const library = await Library.open(target.keeps);
    chat = new Chat({ library, target, look, shown, saved, signIn });
    sidebar = new Sidebar(library, {
      current: () => chat.conversation,
      renamed: (conversation) => { if (conversation.id === chat.conversation.id) chat.conversation.title = conversation.title; },
      removed: (id) => { if (id === chat.conversation.id) { chat.runner.leave(); fresh(); } },
    });
    library.listen((id) => {
      sidebar.draw();
      if (id === chat.conversation.id) chat.changed();
    });
    applyTarget(target);
  } catch (error) {
    const trouble = troubleOf(error);
    $("log").append(troubleBox(trouble, { again: () => location.reload(), sign_in: signIn }));
    return;
  }
  listenToUser();
  await chat.open(addressed());
  ready();
  sidebar.draw();
  followEnd();
}

begin();
