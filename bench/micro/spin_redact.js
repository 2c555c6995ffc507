// What bench.micro.functions measures of a Spin app in JavaScript, unmodified. Built with Spin's own tools:
//   make spin && build/spin/js/node_modules/.bin/j2w -i bench/micro/spin_redact.js -o build/spin/redact.wasm

async function handle(request) {
  const name = request.headers.get("x-user") ?? "friend";
  const text = await request.text();
  return new Response(
    text.replaceAll("{{name}}", name).replace(/[\w.+-]+@[\w.-]+/g, "[email]").replace(/\d{9,}/g, "[number]"),
  );
}

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));
