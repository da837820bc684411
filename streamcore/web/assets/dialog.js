// Ask the user something in a modal dialog: whether to delete, a new title, a key.
import { button, element } from "./dom.js";
import { t } from "./words.js";

/**
 * Show a dialog and return what was entered, true without a field, or null if it was cancelled.
 * `field` is { label, value, type }; `yes` is the label of the button that accepts.
 */
export function askUser(text, { yes, field = null, trouble = "", mayCancel = true }) {
  const dialog = element("dialog");
  const form = dialog.appendChild(element("form"));
  form.append(element("p", "", text));
  dialog.setAttribute("aria-label", text);
  let input;
  if (field) {
    const label = form.appendChild(element("label", "", field.label));
    input = label.appendChild(element("input"));
    Object.assign(input, { type: field.type ?? "text", value: field.value ?? "", required: true, autocomplete: "off" });
  }
  if (trouble) {
    const box = form.appendChild(element("p", "trouble", trouble));
    box.setAttribute("role", "alert");
  }
  const accept = button(yes, () => {});
  accept.type = "submit";
  const row = form.appendChild(element("div", "choices"));
  row.append(accept);
  if (mayCancel) row.append(button(t("cancel"), () => dialog.close()));
  document.body.append(dialog);
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = input ? input.value : true;
      dialog.close();
    });
    dialog.addEventListener("cancel", (event) => { if (!mayCancel) event.preventDefault(); });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    (input ?? accept).focus();
  });
}
