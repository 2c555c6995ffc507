// A shop's edge: greets, prices, passes stock questions on.

const RATES = { EUR: 1, USD: 1.1, JPY: 160 };

async function price(request) {
  const { amount, currency } = await request.json();
  if (!(currency in RATES)) return Response.json({ error: `unknown currency ${currency}` }, { status: 422 });
  return Response.json({ amount: Math.round(amount * RATES[currency] * 100) / 100, currency });
}

async function stock(url) {
  const answer = await fetch(`https://stock.example/${url.searchParams.get('sku')}`, { headers: { 'x-from': 'edge' } });
  return new Response(await answer.text(), { status: answer.status, headers: { 'x-stock': answer.headers.get('x-age') } });
}

async function handle(request) {
  const url = new URL(request.url);
  console.log(`${request.method} ${url.pathname}`);
  switch (url.pathname) {
    case '/greet':
      return new Response(`Hello ${request.headers.get('x-user') ?? 'friend'}!`, { headers: { 'x-order': crypto.randomUUID() } });
    case '/price':
      return price(request);
    case '/stock':
      return stock(url);
    case '/photo':
      return new Response(await request.arrayBuffer(), { headers: { 'content-type': 'image/png' } });
    default:
      return new Response('nothing here', { status: 404 });
  }
}

addEventListener('fetch', (event) => event.respondWith(handle(event.request)));
