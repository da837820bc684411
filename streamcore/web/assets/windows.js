// Read a long text of Markdown in windows, so that no task has to read all of it, however long one of its blocks is.
import { blocksOf } from "./blocks.js";

const STABLE = 4; // the last blocks, which more text may change
const WINDOW = 12_000; // characters that are read at once

const EMPTY_LINE = /\n[ \t]*\n$/;

/** Return where a text begins to be read; `links` are the definitions of links that are known. */
export const beginning = (links) => ({ offset: 0, prefix: "", rest: false, links });

/**
 * Read a window of the text. Return { blocks, settled, next, end }: the blocks, how many of them more text does not change,
 * from where to read on, and whether this is the end of the text.
 *
 * A block that is longer than a window is cut. Its parts after the first have `rest`, and are read with a prefix that makes
 * them the same kind of block: the line that opens code, or the head of a table. `over`: the text does not grow any more.
 */
export function readWindow(text, from, over) {
  const end = text.length - from.offset <= WINDOW;
  const source = end ? text.slice(from.offset) : whole(text.slice(from.offset, from.offset + WINDOW));
  const blocks = read(from, source);
  const settled = end ? (over ? blocks.length : Math.max(0, blocks.length - STABLE)) : certain(blocks);
  if (end || settled) {
    const done = blocks.slice(0, settled);
    const next = done.length ? { ...beginning(from.links), offset: from.offset + lengthOf(done, source) } : from;
    return { blocks: end ? blocks : done, settled, next, end };
  }
  const { length, ...how } = cut(blocks[0], from.prefix, source);
  const parts = read(from, source.slice(0, length));
  return { blocks: parts, settled: parts.length, next: { offset: from.offset + length, links: from.links, ...how }, end };
}

/** Return how many blocks at the beginning of a window are not changed by what follows the window. */
function certain(blocks) {
  if (blocks.length > STABLE) return blocks.length - STABLE;
  if (blocks.length === 2) return blocks[1].type === "space" ? 0 : 1;
  return Math.max(0, blocks.length - 2);
}

function lengthOf(blocks, source) {
  const raw = blocks.map((one) => one.raw).join("");
  return source.startsWith(raw) ? raw.length : source.length; // never read anything twice
}

/** Return the blocks of a source, the first one without its prefix. */
function read({ prefix, rest, links }, source) {
  if (!rest) return blocksOf(source, links);
  const headless = !isFence(prefix) && /^[ \t]*\n/.test(source); // the table has ended
  const blocks = blocksOf(headless ? source : prefix + source, links);
  const [first] = blocks;
  if (!first) return [];
  if (!headless) first.raw = first.raw.slice(prefix.length);
  first.rest = true;
  if (first.type === "code" && !first.text) first.type = "space";
  return blocks;
}

const isFence = (prefix) => /^ {0,3}[`~]{3}/.test(prefix);

/** Leave out a line that is not whole, or else half of a character. */
function whole(source) {
  const end = source.lastIndexOf("\n") + 1;
  return end ? source.slice(0, end) : source.replace(/[\uD800-\uDBFF]$/, "");
}

/** Return where to cut the first block of a source: { length, prefix, rest }. */
function cut({ type, raw }, prefix, source) {
  const all = prefix + raw;
  const lines = source.lastIndexOf("\n") + 1 || source.lastIndexOf(" ") + 1 || source.length;
  const complete = { length: raw.length, prefix: "", rest: false };
  const fence = type === "code" && /^( {0,3}(`{3,}|~{3,})[^\n]*\n)/.exec(all);
  if (fence) {
    if (new RegExp(`\n {0,3}${fence[2]}[\`~]*[ \t]*\n*$`).test(all)) return complete;
    const text = source.slice(0, lines).replace(/\n+$/, "\n"); // a part of code would lose an empty line at its end
    return { length: text.length > 1 ? text.length : lines, prefix: fence[1], rest: true };
  }
  if (type === "table") {
    const head = /^[^\n]*\n[^\n]*\n/.exec(all);
    const ended = source.slice(raw.length).trim() || EMPTY_LINE.test(source);
    return head && !ended ? { length: lines, prefix: head[0], rest: true } : complete;
  }
  const items = type === "list" ? [...source.matchAll(/\n(?=(?:[-*+]|\d{1,9}[.)]) )/g)] : [];
  const length = items.length ? items.at(-1).index + 1 : lines;
  return { length, prefix: "", rest: !EMPTY_LINE.test(source.slice(0, length)) || type === "list" };
}
