// Puts the risk decision about an account above an answer that is the same for everybody.
//
// A bank's answer to "how do I add a payee?" comes from the cache. Whether *this* account may be the target of a fraud
// right now comes from key-value data, which the bank's risk engine writes (`edgecache fn kv put risk ACCOUNT '{…}'`, or
// PUT through the admin API): {"score": 0.93, "reason": "new device", "until": 1790000000}. Above the variable
// `threshold` the answer begins with the variable `banner`; what was shown is counted by reason.

const risks = edgecache.kv("risk");
const counts = edgecache.kv("shown");

function decision(account) {
  const stored = account === null ? null : risks.getText(account);
  if (stored === null) return null;
  const risk = JSON.parse(stored);
  if (typeof risk.until === "number" && risk.until * 1000 <= Date.now()) return null;
  return risk.score >= Number(edgecache.variable("threshold")) ? risk : null;
}

export default {
  async fetch(request) {
    const risk = decision(request.headers.get("x-account"));
    if (risk === null) return new Response(null, { status: 204 });
    const answer = await request.json();
    for (const { message } of answer.choices ?? []) {
      if (typeof message?.content === "string") message.content = edgecache.variable("banner") + "\n\n" + message.content;
    }
    counts.increment(risk.reason ?? "unknown", 1);
    console.warn(`banner shown: ${risk.reason ?? "unknown"}, score ${risk.score}`);
    return Response.json(answer, { headers: { "x-risk": "high" } });
  },
};
