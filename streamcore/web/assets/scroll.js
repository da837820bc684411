// Keep the end of the conversation in view while it grows, unless the user has scrolled up.
import { $ } from "./dom.js";

const log = $("log");
const latest = $("latest");
let follow = true;
let scrolled = 0;

const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;

function toEnd() {
  log.scrollTop = log.scrollHeight;
}

/** Follow the end again. */
export function followEnd() {
  follow = true;
  toEnd();
}

/** Call after each change of the conversation. */
export function grown() {
  if (follow) toEnd();
  latest.hidden = follow || atEnd();
}

log.addEventListener("scroll", () => {
  // Only a user scrolls up. While the page scrolls down, text may be added faster, so `atEnd` is not enough.
  follow = atEnd() || (follow && log.scrollTop >= scrolled);
  scrolled = log.scrollTop;
  latest.hidden = follow;
});
latest.addEventListener("click", followEnd);
new ResizeObserver(grown).observe(log);
