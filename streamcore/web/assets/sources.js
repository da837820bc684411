// Show what an answer rests on: the sources that the model cited, and images that it sent.
import { element } from "./dom.js";
import { t } from "./words.js";

const isWeb = (address) => typeof address === "string" && /^https?:\/\//i.test(address);
const isImage = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$/;

/** Return the sources in a citation, whatever vendor sent it: { url, title, quote }. */
export function sourcesIn(data, depth = 0) {
  if (data === null || typeof data !== "object" || depth > 6) return [];
  if (Array.isArray(data)) return data.flatMap((one) => sourcesIn(one, depth + 1));
  const url = [data.url, data.uri, data.source].find(isWeb);
  const title = [data.title, data.document_title, data.filename].find((one) => typeof one === "string" && one);
  const quote = [data.cited_text, data.quote, data.snippet].find((one) => typeof one === "string" && one);
  if (url || title) return [{ url, title, quote }];
  return Object.values(data).flatMap((one) => sourcesIn(one, depth + 1));
}

/** Add the sources of a citation to those of an answer, each once. */
export function addSources(known, data) {
  for (const source of sourcesIn(data)) {
    if (known.length < 100 && !known.some(({ url, title }) => url === source.url && title === source.title)) known.push(source);
  }
}

/** Return the numbered list of sources. */
export function sourceList(sources) {
  const box = element("section", "sources");
  box.append(element("div", "node", t("sources")));
  const list = box.appendChild(element("ol"));
  for (const { url, title, quote } of sources) {
    const item = list.appendChild(element("li"));
    const name = item.appendChild(element(isWeb(url) ? "a" : "span", "", title || url));
    if (isWeb(url)) Object.assign(name, { href: url, target: "_blank", rel: "noopener noreferrer nofollow" });
    if (quote) item.append(element("blockquote", "", quote));
  }
  return box;
}

/** Return the address of an image if its bytes are in it: an image elsewhere would tell its server that it was seen. */
export const imageData = (address) => (typeof address === "string" && isImage.test(address) ? address : null);

/** Return the addresses of the images among the parts of a tool's result. */
export function imagesIn(parts) {
  const found = (parts ?? []).map((part) => imageData(part?.url ?? `data:${part?.media_type};base64,${part?.data}`));
  return found.filter(Boolean);
}

/** Return the elements of images; a stored address that is not the image's own data is left out. */
export function imageBoxes(addresses) {
  const found = Array.isArray(addresses) ? addresses.filter(imageData) : [];
  return found.map((src) => Object.assign(element("img", "picture"), { src, alt: t("image") }));
}
