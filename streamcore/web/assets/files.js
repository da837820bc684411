// Read the files that a user adds to a message, and show the files of a message.
import { element, iconButton } from "./dom.js";
import { imageData } from "./sources.js";
import { t } from "./words.js";

const BY_ENDING = { csv: "text/csv", md: "text/markdown", markdown: "text/markdown", txt: "text/plain" };
const PREVIEW = 192; // pixels of the longer side

/** Return the type as which a file is sent; texts of other types are sent as plain texts. */
function typeOf(file, accepts) {
  const known = BY_ENDING[file.name.split(".").at(-1).toLowerCase()] ?? file.type;
  if (accepts.includes(known)) return known;
  const isText = known.startsWith("text/") || known === "application/json";
  return isText && known !== "text/html" && accepts.includes("text/plain") ? "text/plain" : null;
}

/** Return a name that the service accepts. */
const nameOf = ({ name }) => [...name.replace(/[\x00-\x1f\x7f/\\]/g, "_")].slice(-100).join("") || t("file");

/**
 * Return { files, troubles }: the files that can be sent, and why others cannot. `known` are those that the message has
 * already; `limits` has accepts, max_file_bytes, max_files and max_files_bytes of the service.
 */
export async function readFiles(given, known, limits) {
  const [files, troubles] = [[], []];
  const size = (bytes) => (bytes / 1e6).toFixed(1);
  let total = known.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const file of given) {
    const [name, type] = [nameOf(file), typeOf(file, limits.accepts)];
    if (!type) troubles.push(t("file_type", { name }));
    else if (known.length + files.length >= limits.max_files) troubles.push(t("file_many", { name, count: limits.max_files }));
    else if (file.size > limits.max_file_bytes) troubles.push(t("file_large", { name, size: size(limits.max_file_bytes) }));
    else if (total + file.size > limits.max_files_bytes) troubles.push(t("files_large", { name, size: size(limits.max_files_bytes) }));
    else {
      try {
        files.push({ name, media_type: type, bytes: file.size, data: await base64(file), ...await previewOf(file, type) });
        total += file.size;
      } catch (error) {
        console.warn(error);
        troubles.push(t("file_broken", { name }));
      }
    }
  }
  return { files, troubles };
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Return { preview } with a small picture of an image, {} for other files; an image that cannot be read raises. */
async function previewOf(file, type) {
  if (!type.startsWith("image/")) return {};
  const image = await createImageBitmap(file);
  const scale = Math.min(1, PREVIEW / Math.max(image.width, image.height));
  const canvas = Object.assign(element("canvas"), {
    width: Math.max(1, Math.round(image.width * scale)),
    height: Math.max(1, Math.round(image.height * scale)),
  });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return { preview: canvas.toDataURL("image/webp", 0.8) };
}

/** Return a file as it is stored: without its bytes, which the service keeps with the message. */
export const withoutData = ({ data, ...file }) => file;

/**
 * Return the fields of a request that send files: their bytes, or the message that they were sent with before; null if
 * neither is known any more.
 */
export function sending(files) {
  if (!files.length) return {};
  if (files.every(({ data }) => data)) return { files: files.map(({ name, media_type, data }) => ({ name, media_type, data })) };
  const sent = files.find((file) => file.sent)?.sent;
  return sent ? { files_of: sent } : null;
}

/** Return the list of a message's files, with small pictures of its images. */
export function fileList(files, remove) {
  const list = element("ul", "files");
  for (const file of files) {
    const item = list.appendChild(element("li"));
    const picture = imageData(file.preview);
    if (picture) {
      const image = item.appendChild(element("img"));
      Object.assign(image, { src: picture, alt: "" });
    }
    item.append(element("span", "", String(file.name)));
    if (remove) item.append(iconButton("×", t("file_remove", { name: file.name }), () => remove(file)));
  }
  return list;
}
