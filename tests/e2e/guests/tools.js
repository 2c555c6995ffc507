// What an attacker has: every bad thing that JavaScript can do, by the path of the request.

let calls = 0; // is 1 in every call, if nothing leaks from one to the next

const tools = {
  loop() {
    for (;;);
  },
  regexp: () => new Response(String(/^(a+)+$/.test("a".repeat(64) + "!"))),
  async promises() {
    for (;;) await null;
  },
  timers: () => new Promise(() => setInterval(() => {}, 0)),
  never: () => new Promise(() => {}),
  memory() {
    const kept = [];
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },
  recursion() {
    return 1 + tools.recursion();
  },
  headers(query) {
    const headers = new Headers();
    const count = Number(query.get("count"));
    for (let index = 0; index < count; index++) headers.append(`x-header-${index}`, "a value of some length");
    return new Response("", { headers });
  },
  list: () => Response.json(Array.from({ length: 1e7 }, (_, index) => index)),
  globals: () => new Response(`${++calls} ${(globalThis.seen = (globalThis.seen ?? 0) + 1)}`),
  log(query) {
    for (let index = 0; index < Number(query.get("count")); index++) console.log("flood ".repeat(100));
    return new Response("logged");
  },
  kv(query) {
    const store = edgecache.kv("mine");
    const told = [];
    for (let index = 0; index < Number(query.get("count")); index++) {
      try {
        store.set(`${query.get("prefix")}${index}`, "x".repeat(Number(query.get("size"))));
      } catch (error) {
        told.push(`${error.code}: ${error.message}`);
        break;
      }
    }
    return new Response(told.join("\n"));
  },
  async reach(query) {
    try {
      const found = await fetch(query.get("url"));
      return new Response(`${found.status} ${await found.text()}`);
    } catch (error) {
      return new Response(`${error.code}: ${error.message}`);
    }
  },
  foreign(query) {
    try {
      return new Response(`read ${edgecache.kv(query.get("store")).getText(query.get("key"))}`);
    } catch (error) {
      return new Response(`${error.code}: ${error.message}`);
    }
  },
  secret() {
    throw new Error(`the secret is ${edgecache.variable("pepper")}`);
  },
};

export default {
  fetch(request) {
    const url = new URL(request.url);
    return tools[url.pathname.slice(1)](url.searchParams);
  },
};
