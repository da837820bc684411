// Say every text of the page in the user's language; a text without a translation is English. `texts/` has a file a language.
import de from "./texts/de.js";
import en from "./texts/en.js";

const WORDS = { de, en };

const language = navigator.languages.map((one) => one.split("-")[0]).find((one) => one in WORDS) ?? "en";
/** Return a text in the user's language; `{name}` is replaced by the value of that name. */
export function t(key, values = {}) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

/** Translate the texts of the document that `data-t`, `data-t-title`, `data-t-label` and `data-t-hint` name. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const one of root.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
  for (const one of root.querySelectorAll("[data-t-title]")) one.title = t(one.dataset.tTitle);
  for (const one of root.querySelectorAll("[data-t-label]")) one.setAttribute("aria-label", t(one.dataset.tLabel));
  for (const one of root.querySelectorAll("[data-t-hint]")) one.placeholder = t(one.dataset.tHint);
}
