// What reaches out of the sandbox: `edgecache`, `fetch`, `console`, `crypto`; and time, which is frozen for a call.

// The fields of an answer, which come as netstrings: as text when `form` is "text", else as bytes.
const ask = (form, op, ...fields) => {
  const answer = native.call(form, op, ...fields.map(toHost));
  return typeof answer === "string" ? splitText(answer) : splitBytes(new Uint8Array(answer));
};

const splitText = (answer) => {
  if (answer.startsWith("!")) {
    const [code, ...message] = answer.slice(1).split("\n");
    throw Object.assign(new Error(message.join("\n")), { code });
  }
  const fields = [];
  for (let at = 1; at < answer.length; ) {
    const colon = answer.indexOf(":", at);
    const end = colon + 1 + Number(answer.slice(at, colon));
    fields.push(answer.slice(colon + 1, end));
    at = end + 1;
  }
  return fields;
};

const splitBytes = (answer) => {
  const fields = [];
  for (let at = 1; at < answer.length; ) {
    const colon = answer.indexOf(0x3a, at);
    const end = colon + 1 + Number(String.fromCharCode.apply(null, answer.subarray(at, colon)));
    fields.push(answer.slice(colon + 1, end));
    at = end + 1;
  }
  return fields;
};

const lifetime = (options) => (options?.ttl === undefined ? [] : [options.ttl]);
const own = (value) => (typeof value === "string" || isBinary(value) ? value : JSON.stringify(value));

class Store {
  #name;
  constructor(name) {
    this.#name = String(name);
  }
  get(key) {
    return ask("bytes", "kv.get", this.#name, key)[0] ?? null;
  }
  getText(key) {
    return ask("text", "kv.get", this.#name, key)[0] ?? null;
  }
  set(key, value, options) {
    ask("text", "kv.set", this.#name, key, own(value), ...lifetime(options));
  }
  delete(key) {
    ask("text", "kv.delete", this.#name, key);
  }
  exists(key) {
    return ask("text", "kv.exists", this.#name, key)[0] === "1";
  }
  keys(prefix) {
    return ask("text", "kv.keys", this.#name, ...(prefix === undefined ? [] : [prefix]));
  }
  increment(key, delta = 1) {
    return Number(ask("text", "kv.increment", this.#name, key, delta)[0]);
  }
  compareAndSwap(key, expected, value, options) {
    const absent = expected === null || expected === undefined;
    const fields = [absent ? "-" : "=", absent ? "" : own(expected), own(value), ...lifetime(options)];
    return ask("text", "kv.swap", this.#name, key, ...fields)[0] === "1";
  }
}

const floats = (bytes) => new Float32Array(bytes.buffer, 0, bytes.byteLength >> 2);

const edgecache = Object.freeze({
  kv: (store) => new Store(store),
  variable: (name) => ask("text", "var.get", name)[0],
  log: (level, ...values) => void ask("text", "log", level, values.map(shown).join(" ")),
  llm: Object.freeze({
    infer(model, prompt, options = {}) {
      const { maxTokens = 100, repeatPenalty = 1.1, repeatLastN = 64, temperature = 0.8, topK = 40, topP = 0.9 } = options;
      const sampling = [maxTokens, repeatPenalty, repeatLastN, temperature, topK, topP];
      const [text, prompted, completed] = ask("text", "llm.infer", model, prompt, ...sampling);
      return { text, promptTokens: Number(prompted), completionTokens: Number(completed) };
    },
    embed(model, texts) {
      const list = typeof texts === "string" ? [texts] : [...texts];
      const [prompted, ...vectors] = ask("bytes", "llm.embed", model, ...list);
      return { embeddings: vectors.map(floats), promptTokens: Number(decode(prompted)) };
    },
  }),
  cache: Object.freeze({
    lookup(model, question) {
      const [answer, similarity, entry] = ask("text", "cache.lookup", model, question);
      return answer === undefined ? null : { answer: JSON.parse(answer), similarity: Number(similarity), entry };
    },
  }),
});

// The answer has come when this returns; the promise is there because that is what `fetch` gives.
const fetch = async (input, init) => {
  const request = new Request(input, init);
  request.signal.throwIfAborted();
  const body = bytesOf(request[DATA]);
  const [status, content, ...fields] = ask("bytes", "fetch", request.method, request.url, body, ...[...request.headers].flat());
  const headers = new Headers();
  for (let index = 0; index < fields.length; index += 2) headers.append(decode(fields[index]), decode(fields[index + 1]));
  const response = new Response(null, { headers });
  response.status = Number(decode(status));
  response.url = request.url;
  response[DATA] = content;
  return response;
};

const shown = (value) => {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value}\n${traceOf(value)}`.trimEnd();
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  const seen = [];
  try {
    return JSON.stringify(value, function (key, each) {
      if (typeof each === "bigint") return `${each}n`;
      if (typeof each === "function") return `[function ${each.name}]`;
      if (typeof each !== "object" || each === null) return each;
      seen.splice(seen.indexOf(this) + 1);
      if (seen.includes(each)) return "[circular]";
      seen.push(each);
      if (each instanceof Map || each instanceof Set || each instanceof Headers) return [...each];
      return each instanceof Error ? String(each) : each;
    });
  } catch (error) {
    return `[${error}]`;
  }
};

// Where an error came from: in the developer's file, and in what that made of text.
const traceOf = (error) =>
  String(error?.stack ?? "")
    .split("\n")
    .filter((line) => /\bfunction\.js:|<input>:/.test(line))
    .join("\n");

const console = {};
for (const [method, level] of Object.entries({ log: "info", info: "info", debug: "debug", trace: "trace", warn: "warn", error: "error" })) {
  console[method] = (...values) => edgecache.log(level, ...values);
}
console.assert = (condition, ...values) => condition || console.error("Assertion failed:", ...values);

const crypto = Object.freeze({
  getRandomValues(target) {
    if (!ArrayBuffer.isView(target) || /Float|DataView/.test(target[Symbol.toStringTag])) throw new TypeError("an array of integers is needed");
    if (target.byteLength > 65536) throw new DOMException("more than 65536 bytes", "QuotaExceededError");
    viewOf(target).set(new Uint8Array(native.random(String(target.byteLength))));
    return target;
  },
  randomUUID() {
    const bytes = new Uint8Array(native.random("16"));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return digits.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
  },
});

// QuickJS seeds Math.random once, at upload: every call would draw the same numbers. This one (sfc32) is seeded by the
// first draw of each call, from what keys all of its randomness.
let generator = null;
Math.random = () => {
  const s = (generator ??= new Uint32Array(native.random("16")));
  const t = (s[0] + s[1] + s[3]) | 0;
  s[3] += 1;
  s[0] = s[1] ^ (s[1] >>> 9);
  s[1] = s[2] + (s[2] << 3);
  s[2] = ((s[2] << 21) | (s[2] >>> 11)) + t;
  return (t >>> 0) / 4294967296;
};

// Clocks stand still during a call: timers do not wait, they run in the order in which they would.
const timers = [];
let timer = 0;
let elapsed = 0;
const schedule = (callback, delay, repeat, values) => {
  if (typeof callback !== "function") throw new TypeError("a timer takes a function");
  const wait = Math.max(0, Number(delay) || 0);
  timers.push({ id: ++timer, due: elapsed + wait, every: repeat ? Math.max(1, wait) : null, run: () => callback(...values) });
  return timer;
};
const setTimeout = (callback, delay = 0, ...values) => schedule(callback, delay, false, values);
const setInterval = (callback, delay = 0, ...values) => schedule(callback, delay, true, values);
const clearTimeout = (id) => {
  const at = timers.findIndex((each) => each.id === id);
  if (at >= 0) timers.splice(at, 1);
};

// Run the timer that is due next; false when there is none.
const runTimer = () => {
  if (timers.length === 0) return false;
  const next = timers.reduce((first, each) => (each.due < first.due ? each : first));
  elapsed = next.due;
  if (next.every === null) clearTimeout(next.id);
  else next.due += next.every;
  next.run();
  return true;
};

const performance = Object.freeze({
  now: () => Date.now() - performance.timeOrigin,
  get timeOrigin() {
    return started;
  },
});
let started = 0;

expose({ edgecache, fetch, console, crypto, performance, setTimeout, setInterval, clearTimeout, clearInterval: clearTimeout });
