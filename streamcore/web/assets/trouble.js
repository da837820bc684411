// Say errors in the user's words, with what can be done; what the service says is behind "Details".
import { button, element } from "./dom.js";
import { t } from "./words.js";

const BY_STATUS = { 400: "error_input", 401: "error_signed_out", 403: "error_service", 404: "error_gone", 409: "error_busy", 413: "error_long", 422: "error_input", 429: "error_too_many", 503: "error_service" };
const BY_TYPE = {
  AuthenticationError: "error_operator", BadRequestError: "error_model", ConfigError: "error_operator",
  ConnectionFailed: "error_overloaded", ContentRefused: "error_refused", FilesLost: "error_files", MissingAPIKey: "error_operator",
  NotFoundError: "error_operator", OutputValidationError: "error_form", OverloadedError: "error_overloaded",
  ProviderError: "error_model", RateLimitError: "error_overloaded", RunExpired: "error_gone",
  RunLimitReached: "error_limit", ServerError: "error_overloaded", StreamInterrupted: "error_cut",
  StreamTimeout: "error_slow",
};

/** Return { words, details, act } for an error of a request, or for the data of `stream-error`. */
export function troubleOf(error) {
  const { status, type, message = "", final } = error;
  if (status === 429 && final) return { words: t("error_spent"), details: message, act: null };
  const known = status ? BY_STATUS[status] ?? "error_service" : BY_TYPE[type] ?? (type ? "error_service" : "error_offline");
  const act = status === 401 ? "sign_in" : status === 400 || status === 413 || status === 422 || type === "FilesLost" ? null : "again";
  return { words: t(known), details: message, act };
}

/** Return the box that shows a trouble; `act` has the functions `again` and `sign_in`. */
export function troubleBox(trouble, act) {
  const { words, details, act: action } = typeof trouble === "string" ? { words: trouble } : trouble;
  const box = element("div", "trouble");
  box.setAttribute("role", "alert");
  box.append(element("span", "", words));
  if (action === "again" && act.again) box.append(button(t("try_again"), act.again));
  if (action === "sign_in" && act.sign_in) box.append(button(t("sign_in"), act.sign_in));
  if (details) {
    const fold = box.appendChild(element("details"));
    fold.append(element("summary", "", t("details")), element("div", "", details));
  }
  return box;
}
