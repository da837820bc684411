// Show structured output as nested lists of names and values.
import { element } from "./dom.js";

const MAX_DEPTH = 40;
const MAX_VALUES = 5_000;

/** Return JSON data as nested lists of names and values; undefined if it is too deep or too large to be read so. */
export function tree(value) {
  let values = 0;
  const draw = (inner, depth) => {
    if (inner === null || typeof inner !== "object") return element("span", "", inner === null ? "–" : String(inner));
    if (depth > MAX_DEPTH) throw new RangeError("too deep");
    const list = element("dl", "tree");
    for (const [name, item] of Object.entries(inner)) {
      values += 1;
      if (values > MAX_VALUES) throw new RangeError("too large");
      const term = element("dt", "", Array.isArray(inner) ? `${Number(name) + 1}.` : name);
      const definition = element("dd");
      definition.append(draw(item, depth + 1));
      list.append(term, definition);
    }
    return list;
  };
  try {
    return draw(value, 0);
  } catch {
    return undefined;
  }
}

/** Return the object or list that a text represents; undefined if it represents neither. */
export function dataOf(text) {
  try {
    const found = JSON.parse(text.replace(/^\s*```(?:json)?\s*|\s*```\s*$/g, ""));
    return found !== null && typeof found === "object" ? found : undefined;
  } catch {
    return undefined;
  }
}

export const looksLikeData = (text) => /^\s*(?:```json\s*)?(?:\{|\[(?!\s*[ xX]\]|[^\]\n]*\]\())/.test(text);
