// Turns a prose answer into JSON: the client names the properties that it wants in `x-answer-schema`.
//
// The schema is a JSON Schema (draft 2020-12) object whose properties are of this list; each is read off the Markdown that
// models write. What the answer does not hold is left out; if it is `required`, the answer goes out as it is and
// `x-answer-shape: incomplete NAME` says so, for the client to decide.

const READ = {
  title: (text) => text.match(/^#{1,6}\s+(.+?)\s*#*$/m)?.[1],
  summary: (text) => paragraphs(text).find((each) => !/^(#|[-*+]\s|\d+[.)]\s|```|\|)/.test(each)),
  steps: (text) => items(text, /^\s*\d+[.)]\s+(.+)$/gm),
  bullets: (text) => items(text, /^\s*[-*+]\s+(.+)$/gm),
  links: (text) => items(text, /\bhttps?:\/\/[^\s<>()\]"']+[^\s<>()\]"'.,;:!?]/g, 0),
  code: (text) => items(text, /^```[^\n]*\n([\s\S]*?)^```/gm),
  numbers: (text) => items(text, /(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?!\w)/g, 0)?.map((each) => Number(each.replaceAll(",", ""))),
};

const TYPES = { title: "string", summary: "string", numbers: "number" };

function paragraphs(text) {
  return text.split(/\n\s*\n/).map((each) => each.trim()).filter(Boolean);
}

function items(text, pattern, group = 1) {
  const found = [...text.matchAll(pattern)].map((match) => plain(match[group]));
  return found.length > 0 ? found : undefined;
}

function plain(text) {
  return text.replace(/\*\*(.+?)\*\*/g, "$1").replace(/__(.+?)__/g, "$1").trimEnd();
}

function refuse(reason) {
  return new Response(reason, { status: 400, headers: { "x-edgecache-action": "refuse" } });
}

function read(header) {
  let schema;
  try {
    schema = JSON.parse(header);
  } catch (error) {
    return [null, "x-answer-schema is not JSON: " + error.message];
  }
  const wanted = Object.entries(schema?.properties ?? {});
  if (schema?.type !== "object" || wanted.length === 0) {
    return [null, "x-answer-schema is a JSON Schema of type object with properties"];
  }
  for (const [name, { type, items: inner }] of wanted) {
    if (!(name in READ)) return [null, `x-answer-schema: no property ${name}; there are ${Object.keys(READ).join(", ")}`];
    const right = TYPES[name] === "string" ? type === "string" : type === "array" && inner?.type === (TYPES[name] ?? "string");
    if (!right) return [null, `x-answer-schema: ${name} is ${TYPES[name] === "string" ? "a string" : `an array of ${TYPES[name] ?? "string"}s`}`];
  }
  return [schema, ""];
}

export default {
  async fetch(request) {
    const header = request.headers.get("x-answer-schema");
    if (header === null) return new Response(null, { status: 204 });
    const [schema, problem] = read(header);
    if (schema === null) return refuse(problem);
    const answer = await request.json();
    for (const { message } of answer.choices ?? []) {
      if (typeof message?.content !== "string") continue;
      const shaped = {};
      for (const name of Object.keys(schema.properties)) shaped[name] = READ[name](message.content);
      const missing = (schema.required ?? []).find((name) => shaped[name] === undefined);
      if (missing !== undefined) {
        return Response.json(answer, { headers: { "x-answer-shape": `incomplete ${missing}` } });
      }
      message.content = JSON.stringify(shaped);
    }
    return Response.json(answer, { headers: { "x-answer-shape": "complete" } });
  },
};
