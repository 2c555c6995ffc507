// wasm-tools without a command line of its own, which npm's jco does not expose.
//
//   node wasm_tools.mjs dummy WIT WORLD OUT             the core module that `world` asks for, empty
//   node wasm_tools.mjs component CORE WIT WORLD OUT    the component that is made of a core module
//
// WIT is one file with all its packages in it.
import { readFile, writeFile } from 'node:fs/promises';
import { componentEmbed, componentNew } from '@bytecodealliance/jco-transpile/wasm-tools';

const [, , command, ...parameters] = process.argv;

async function dummy(wit, world, out) {
  const witSource = await readFile(wit, 'utf8');
  await writeFile(out, await componentEmbed({ witSource, world, dummy: true, stringEncoding: 'utf8' }));
}

async function component(core, wit, world, out) {
  const [binary, witSource] = [await readFile(core), await readFile(wit, 'utf8')];
  const embedded = await componentEmbed({ binary, witSource, world, stringEncoding: 'utf8' });
  await writeFile(out, await componentNew(embedded, []));
}

await { dummy, component }[command](...parameters);
