// How a call gets in and out: `setup` finds the handler at upload, `enter` runs it, `take` gives what it answered.

const PENDING = 0;
const TEXT = 1; // head and body in one string
const BINARY = 2; // head, then bytes
const THREW = 3;
const NO_ANSWER = 4;
// What the host looks at: how the call ended, whether a timer ran, how many promises are waited for after the answer.
const state = new Int32Array(3);
const [ENDED, TICKED, WAITING] = [0, 1, 2];
const listeners = [];
let handler = null;
let results = [];

const settle = (how, ...values) => {
  state[ENDED] = how;
  results = values;
};

const answer = (response) => {
  if (!(response instanceof Response)) {
    const got = response === undefined ? "nothing" : response === null ? "null" : `a value of type ${typeof response}`;
    return settle(NO_ANSWER, `the handler answered with ${got} where a Response was expected`);
  }
  let data = takeBody(response);
  const lines = response.headers[FIELDS];
  const head = `${response.status}\n${lines.length}\n${lines.length ? `${lines.join("\n")}\n` : ""}`.toWellFormed();
  if (data === null) data = "";
  if (typeof data === "string") settle(TEXT, head + data.toWellFormed());
  else settle(BINARY, head, toHost(data));
};

const conclude = (response) => {
  try {
    answer(response);
  } catch (error) {
    fail(error);
  }
};

const fail = (error) => {
  let text = "a value that cannot be shown";
  try {
    text = error instanceof Error ? String(error) : `threw ${shown(error)}`;
  } catch {
    // its own conversion to text threw
  }
  settle(THREW, `${text}\n${traceOf(error)}`.trimEnd().slice(0, 4096).toWellFormed());
};

// `env.NAME` is the variable NAME of function.toml, undefined when it is not there or not granted.
const env = new Proxy(Object.freeze({}), {
  get(_, name) {
    if (typeof name !== "string") return undefined;
    try {
      return edgecache.variable(name);
    } catch (error) {
      if (error.code === undefined) throw error;
      return undefined;
    }
  },
});

const context = Object.freeze({
  waitUntil(promise) {
    state[WAITING] += 1;
    Promise.resolve(promise).then(finished, (error) => (console.error(error), finished()));
  },
});
const finished = () => {
  state[WAITING] -= 1;
};

const dispatch = (request) => {
  let given;
  const event = Object.freeze({
    type: "fetch",
    request,
    waitUntil: context.waitUntil,
    respondWith(response) {
      if (given !== undefined) throw new DOMException("respondWith() was called twice", "InvalidStateError");
      given = response ?? null;
    },
  });
  for (const listener of listeners) {
    listener(event);
    if (given !== undefined) return given;
  }
  return given;
};

const addEventListener = (type, listener) => {
  if (type !== "fetch") throw new TypeError(`there are no ${JSON.stringify(String(type))} events here, only "fetch"`);
  if (typeof listener !== "function") throw new TypeError("addEventListener takes a function");
  listeners.push(listener);
};

const NAMES = ["fetch", "handleRequest", "onRequest"];

// True when a handler was found among the exports of the module, the globals of the script, and the listeners.
const setup = (exported) => {
  const main = exported?.default;
  handler = null;
  if (typeof main === "function") handler = main;
  else if (typeof main?.fetch === "function") handler = main.fetch.bind(main);
  for (const name of NAMES) handler ??= typeof exported?.[name] === "function" ? exported[name] : null;
  if (!exported) {
    for (const name of NAMES) {
      const found = globalThis[name];
      handler ??= typeof found === "function" && found !== fetch ? found : null;
    }
  }
  if (listeners.length) handler ??= dispatch;
  timers.length = 0;
  generator = null;
  reserve();
  return handler !== null;
};

// `meta` is lines: method, URL, ms since 1970, then name and value of each header.
const enter = (meta, body) => {
  settle(PENDING);
  generator = null;
  const [method, url, now, ...fields] = meta.split("\n");
  started = Number(now);
  const content = body instanceof ArrayBuffer ? new Uint8Array(body) : body ?? null;
  try {
    const given = handler(Request[INCOMING](method, url, fields, content), env, context);
    if (typeof given?.then === "function") Promise.resolve(given).then(conclude, fail);
    else answer(given);
  } catch (error) {
    fail(error);
  }
  return results.shift();
};

const take = () => results.shift();

// Run the timer that is next.
const tick = () => {
  state[TICKED] = 1;
  try {
    state[TICKED] = Number(runTimer());
  } catch (error) {
    console.error(error);
  }
};

// QuickJS makes its built-in functions when they are first used, each somewhere else in memory, and a call pays for
// every page that it writes to. So what most handlers use is used once here, before the developer's file is looked at.
const warmUp = () => {
  const text = "warm up: a@b.example 12";
  const words = text.split(" ").map((word) => word.trim().toLowerCase()).filter((word) => word.length > 1);
  [words.join("-").replace(/a+/g, "b").replaceAll("b", "c"), text.match(/\d+/g), text.slice(1, 3), text.indexOf("x")];
  [text.includes("x"), text.startsWith("w"), text.endsWith("2"), text.padStart(30), text.substring(1), text.search(/u/)];
  [words.slice(), words.concat([1]), words.some(Boolean), words.every(Boolean), words.find(Boolean), words.includes("a")];
  [words.reverse(), words.sort(), words.indexOf("a"), words.reduce((a, b) => a + b, ""), words.flat(), words.splice(0)];
  words.push(1), words.pop(), words.unshift(2), words.shift(), words.forEach(Boolean);
  [/a(b)?/.test(text), /u/y.exec(text), [...text.matchAll(/(?<letter>[a-z])\b/gi)], text.charCodeAt(0), text.at(-1)];
  const record = JSON.parse(JSON.stringify({ a: [1, null, { b: "\u00e9" }], c: 1.5 }));
  [Object.keys(record), Object.entries(record), Object.values(record), Object.assign({}, record), { ...record }];
  [Object.fromEntries([["a", 1]]), Array.isArray(words), Array.from("ab"), Number("1"), String(1), (1.25).toFixed(1)];
  [parseInt("1"), parseFloat("1.5"), Math.round(1.5), Math.min(1, 2), Math.max(1, 2), Math.floor(1.5), isNaN(1)];
  const map = new Map([["a", 1]]);
  map.set("b", 2), map.get("a"), map.has("a"), map.delete("a"), [...map], new Set([1]).add(2).has(1);
  const answers = (request) =>
    request.text().then((body) => {
      request.headers.get("x-user"), request.headers.has("accept");
      return new Response(body, { status: 200, headers: { "content-type": "application/json" } });
    });
  const later = async (request) => Response.json(await request.json(), { headers: request.headers });
  for (const each of [answers, later, () => new Response(null, { status: 204 })]) {
    handler = each;
    enter("POST\nhttp://edgecache.local/\n0\ncontent-type\ntext/plain\nx-user\nAda", "{}");
  }
};

// Room for so many names that a call is the first to use: else their table grows, and is copied, in the call.
const reserve = () => {
  const names = { __proto__: null };
  for (let index = 0; index < 256; index++) names[`name-${index}`] = index;
};

expose({ addEventListener });
warmUp();
return { setup, enter, take, tick, state: state.buffer };
