// Support: finds the page that fits a question by its embedding, and lets the model answer from it.
import { generateEmbeddings, infer, EmbeddingModels } from '@spinframework/spin-llm';

const PAGES = ['Returns are free for 30 days.', 'Parcels take two to four days.', 'We ship to all of Europe.'];

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

function nearest(question) {
  const { embeddings, usage } = generateEmbeddings(EmbeddingModels.AllMiniLmL6V2, [question, ...PAGES]);
  const [asked, ...pages] = embeddings.map((each) => Array.from(each));
  const scores = pages.map((page) => dot(asked, page));
  return { page: PAGES[scores.indexOf(Math.max(...scores))], tokens: usage.promptTokenCount, dimension: asked.length };
}

async function handle(request) {
  const question = await request.text();
  const { page, tokens, dimension } = nearest(question);
  const answer = infer('llama2-chat', `${page}\n\nQuestion: ${question}\nAnswer:`, { maxTokens: 50 });
  return Response.json({ page, tokens, dimension, answer: answer.text, made: answer.usage.generatedTokenCount });
}

addEventListener('fetch', (event) => event.respondWith(handle(event.request)));
