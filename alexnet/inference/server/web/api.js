// Requests to the service. A failure is an Error whose message is the service's own line.

import { addTexts, t } from "./i18n.js";

addTexts({
  en: { unreachable: "The service does not answer. Is it still running?" },
  zh: { unreachable: "服务没有响应。它还在运行吗？" },
});

const token = new URLSearchParams(location.hash.slice(1)).get("token");

/** Request a path; return its JSON. `body`: bytes (a File or Blob), or a value sent as JSON. */
export async function request(path, { method, body, query, signal } = {}) {
  const answer = await send(path, { method, body, query, signal });
  return answer.status === 204 ? null : answer.json();
}

/** Request a path whose answer is a file; return it as a File with this name. */
export async function requestFile(path, name, options = {}) {
  const answer = await send(path, options);
  const blob = await answer.blob();
  return new File([blob], name, { type: blob.type });
}

/** Request a path whose answer is lines of JSON; yield each as it comes. */
export async function* requestLines(path, options = {}) {
  const answer = await send(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
    if (done) return;
  }
}

/** Return the address of a path with its query; for images and event streams. */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

async function send(path, { method, body, query, signal } = {}) {
  const headers = {};
  const raw = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = raw ? "application/octet-stream" : "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(address(path, query), {
    method: method ?? (body === undefined ? "GET" : "POST"),
    body: body === undefined || raw ? body : JSON.stringify(body),
    headers,
    signal,
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error(t("unreachable"));
  });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}
