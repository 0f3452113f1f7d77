// Reads a streamed response of the gateway through any number of cuts: docs/streams.md specifies the field.

const PAUSES = [0, 100, 400, 1600, 5000];  // milliseconds before each attempt without progress
const COME_BACK = new Set([429, 502, 503, 504]);

export class Refused extends Error {
  constructor(status, { code, message }) {
    super(`${status} ${code}: ${message}`);
  }
}

// The text of the response to one POST, piece by piece. `onCut` is called with the bytes read so far, for each cut.
export async function* stream(url, { key, body, onCut = () => {}, pauses = PAUSES }) {
  const headers = {
    authorization: `Bearer ${key}`,
    "content-type": "application/json",
    "idempotency-key": crypto.randomUUID(),
  };
  const decoder = new TextDecoder();
  let received = new Uint8Array(0);
  let generation = null;
  for (let failures = 0; ; failures += 1) {
    await new Promise((done) => setTimeout(done, pauses[failures]));
    try {
      if (generation) headers["idempotent-stream"] = `"${generation}";from=${received.length}`;
      const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      if (!response.ok) throw await refusal(response, generation);
      const field = response.headers.get("idempotent-stream");
      if (!generation) generation = field?.match(/^"([^"]+)"/)?.[1] ?? null;
      else if (!(await continues(field, generation, received))) throw new Error("The stream has changed.");
      for await (const piece of response.body) {
        received = joined(received, piece);
        failures = 0;
        yield decoder.decode(piece, { stream: true });
      }
      if (isWhole(response, received)) return;
    } catch (error) {
      // fetch reports whatever happens to a connection as a TypeError
      const mayPass = error instanceof TypeError || error instanceof ComeBack;
      if (!mayPass || !generation || failures + 1 >= pauses.length) throw error;
    }
    onCut(received.length);
  }
}

class ComeBack extends Error {}

async function refusal(response, generation) {
  if (generation && COME_BACK.has(response.status)) return new ComeBack(`${response.status}`);
  const { error } = await response.json().catch(() => ({ error: { code: "", message: response.statusText } }));
  return new Refused(response.status, error);
}

// Whether a continuation goes on after exactly these bytes.
async function continues(field, generation, received) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", received));
  const base64 = btoa(String.fromCharCode(...digest));
  return field === `"${generation}";from=${received.length};sha256=:${base64}:`;
}

// A proxy can end a stream that was cut as if it were whole: only a length or the last event proves the end.
function isWhole(response, received) {
  return response.headers.has("content-length") || new TextDecoder().decode(received.slice(-14)) === "data: [DONE]\n\n";
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
