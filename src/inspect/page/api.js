// Requests to the server, as docs/src/inspect-api.md describes them.

export class Refused extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export async function ask(path, { method = "GET", body, headers = {}, keepalive = false, signal } = {}) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, {
      method,
      keepalive,
      signal,
      headers: { ...headers, ...json },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer: is picker inspect still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    const words = answer.status === 401 ? "The server was restarted: open the address that it printed." : null;
    throw new Refused(answer.status, words ?? told?.error ?? `error ${answer.status}`, told?.hint);
  }
  return { data: await answer.json(), etag: answer.headers.get("ETag") };
}

export const picture = (id, size) => `/api/micrographs/${id}/image?size=${size}`;
