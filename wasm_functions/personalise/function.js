// Fills in fields of an answer from headers of the request: {{first_name}} from `x-profile-first-name`.
//
// One stored answer serves everybody; what is personal never gets into the cache. `{{city|your town}}` has a default for
// clients that send no such header; a field with neither header nor default becomes empty. Code in the answer that means
// its braces literally can write {{{ … }}}: three braces are left alone.

const FIELD = /(?<!\{)\{\{\s*([a-z][a-z0-9_]{0,40})\s*(?:\|([^{}]{0,200}))?\}\}(?!\})/g;

function fill(text, headers) {
  const filled = new Set();
  const done = text.replace(FIELD, (_, name, otherwise = "") => {
    filled.add(name);
    return headers.get("x-profile-" + name.replaceAll("_", "-")) ?? otherwise;
  });
  return [done, filled];
}

export default {
  async fetch(request) {
    const answer = await request.json();
    const names = new Set();
    for (const choice of answer.choices ?? []) {
      const part = typeof choice.message?.content === "string" ? choice.message : choice;
      const where = part === choice ? "text" : "content";
      if (typeof part[where] !== "string") continue;
      const [text, filled] = fill(part[where], request.headers);
      part[where] = text;
      filled.forEach((name) => names.add(name));
    }
    if (names.size === 0) return new Response(null, { status: 204 });
    return Response.json(answer, { headers: { "x-personalised": [...names].join(" ") } });
  },
};
