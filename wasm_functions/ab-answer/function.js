// Two forms of the same stored answer, to find out which one serves people better.
//
// Variant `a` is the answer as it is. Variant `b` closes with the text of the variable `closing`. Who gets which depends
// on the client's `x-user` (else on the request id), hashed together with the experiment's name: the same person sees
// the same variant every time, and another experiment divides people anew. `x-experiment` tells the client, which reports
// how it went.

const variable = (name) => edgecache.variable(name);

function share(text) {
  let hash = 0x811c9dc5; // FNV-1a, 32 bits
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  hash ^= hash >>> 16; // FNV's high bits are poor for short texts: mix once more (murmur3's finaliser)
  hash = Math.imul(hash, 0x85ebca6b) >>> 0;
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35) >>> 0;
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

export default {
  async fetch(request) {
    const experiment = variable("experiment");
    const who = request.headers.get("x-user") ?? request.headers.get("x-edgecache-request-id") ?? "";
    const variant = share(experiment + "/" + who) < Number(variable("share")) ? "b" : "a";
    const answer = await request.json();
    if (variant === "b") {
      for (const { message } of answer.choices ?? []) {
        if (typeof message?.content === "string") message.content += "\n\n" + variable("closing");
      }
    }
    return Response.json(answer, { headers: { "x-experiment": `${experiment}=${variant}` } });
  },
};
