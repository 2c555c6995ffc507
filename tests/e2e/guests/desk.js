// A front desk: something in every phase, and on its own routes whatever a function may ask of its host.

const pass = (headers = {}) => new Response(null, { status: 204, headers });
const replace = (body, headers = {}) => Response.json(body, { headers });
const refuse = (status, text) => new Response(text, { status, headers: { "x-edgecache-action": "refuse" } });
const say = (content) =>
  replace(
    { choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content } }] },
    { "x-edgecache-action": "answer" },
  );
const last = (asked) => asked.messages.at(-1);

const named = async (request, header) => {
  const text = await request.text();
  const user = request.headers.get("x-user");
  if (user === null) return pass({ "x-desk": header });
  return new Response(text.replaceAll("NAME", user), { headers: { "x-desk": header } });
};

const phases = {
  async request(request) {
    const asked = await request.json();
    const text = last(asked).content;
    if (text.includes("forbidden")) return refuse(451, "We do not talk about that.");
    if (text === "When are you open?") return say(`From ${request.headers.get("x-open")}.`);
    if (!text.includes("colour")) return pass();
    last(asked).content = text.replaceAll("colour", "color");
    return replace(asked);
  },
  key: (request) => pass({ "x-edgecache-key": request.headers.get("x-country") ?? "" }),
  async miss(request) {
    const asked = await request.json();
    const text = last(asked).content;
    if (text.includes("canteen")) return say("The canteen says: soup.");
    if (!text.includes("@country")) return pass();
    last(asked).content = text.replace("@country", "France");
    return replace(asked);
  },
  hit(request) {
    if (request.headers.has("x-fresh")) return pass({ "x-edgecache-action": "miss" });
    return named(request, `hit ${request.headers.get("x-edgecache-status")}`);
  },
  response: (request) => named(request, "response"),
  route: (request) => {
    const url = new URL(request.url);
    return routes[url.pathname.slice(1)](url.searchParams, request);
  },
};

const routes = {
  visit(query) {
    const who = query.get("who");
    const pepper = edgecache.variable("pepper");
    console.log(`${who} uses ${pepper} and says it`);
    return new Response(`${edgecache.kv("visits").increment(who)} ${pepper}`);
  },
  infer: (query) => Response.json(edgecache.llm.infer("edge-test", query.get("q"))),
  embed: (query) => Response.json([...edgecache.llm.embed("hashing", query.get("q")).embeddings[0]]),
  lookup: (query) => Response.json(edgecache.cache.lookup("edge-test", query.get("q"))),
};

export default { fetch: (request) => phases[request.headers.get("x-edgecache-phase")](request) };
