// Requests to the server.

export class ServerError extends Error {
  // status is 0 if the server cannot be reached; retryMs is the time that it asks to wait.
  constructor(status, detail, retryMs = 0) {
    super(detail);
    this.status = status;
    this.retryMs = retryMs;
  }
}

export function post(path, body) {
  return answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

export function get(path) {
  return answer(path, {});
}

// Send a form and tell which share of it is sent; `abort` of an AbortController stops it.
export function send(path, form, { signal, sent }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much is sent
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded, total }) => sent(total ? loaded / total : 0));
    request.addEventListener("load", () => {
      const content = request.response ?? {};
      if (request.status < 300) resolve(content);
      else reject(new ServerError(request.status, content.detail ?? request.statusText));
    });
    request.addEventListener("error", () => reject(new ServerError(0, "the server cannot be reached")));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", path);
    request.send(form);
  });
}

// True if a file is there, false if not; throws ServerError if the server does not answer.
export async function exists(path) {
  return (await reach(path, { method: "HEAD" })).ok;
}

async function answer(path, options) {
  const response = await reach(path, options);
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw new ServerError(response.status, content.detail ?? response.statusText, 1000 * wait);
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new ServerError(0, "the server cannot be reached");
  }
}
