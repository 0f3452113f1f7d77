// The page of the playground in node: a document of four elements, and a fetch with three prepared responses.

const parts = { out: {}, status: {}, button: { disabled: false } };
parts.form = { key: { value: "sk-demo" }, prompt: { value: "Hello" }, addEventListener: (name, f) => { parts.submit = f; } };
const names = { form: parts.form, pre: parts.out, "[role=status]": parts.status, button: parts.button };
globalThis.document = { querySelector: (name) => names[name] };
const chunk = (text) => new TextEncoder().encode(`data: ${JSON.stringify({ choices: [{ delta: { content: text } }] })}\n\n`);
const json = { headers: { "content-type": "application/json" } };
const error = (message, status) => new Response(JSON.stringify({ error: { code: "invalid_api_key", message } }), { status, ...json });
let calls = 0, release;
const held = new Promise((done) => { release = done; });
const events = async function* () { yield chunk("Who"); await held; yield chunk(" are you?"); yield new TextEncoder().encode("data: [DONE]\n\n"); };
const responses = [
  async () => new Response(ReadableStream.from(events())),
  async () => error("Invalid API key provided.", 401),
  async () => { throw new TypeError("Failed to fetch"); },
];
globalThis.fetch = (...request) => responses[calls++](...request);
const submit = () => parts.submit({ preventDefault: () => {} });
const shown = () => ({ text: parts.out.textContent, status: parts.status.textContent, busy: parts.button.disabled, calls });
await import(process.argv[2]);
const first = submit();
while (parts.out.textContent !== "Who") await new Promise((done) => setTimeout(done, 1));
await submit();  // while the first response is on its way
const during = shown();
release();
await first;
const whole = shown();
await submit();
const refused = shown();
await submit();
console.log(JSON.stringify({ during, whole, refused, lost: shown() }));
