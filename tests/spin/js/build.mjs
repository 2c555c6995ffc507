// As Spin's own template bundles: node build.mjs APP BUNDLE
import { build } from 'esbuild';
import { SpinEsbuildPlugin } from '@spinframework/build-tools/plugins/esbuild/index.js';

const [, , app, bundle] = process.argv;

await build({
  entryPoints: [app],
  outfile: bundle,
  bundle: true,
  format: 'esm',
  platform: 'node',
  plugins: [await SpinEsbuildPlugin()],
  logLevel: 'error',
});
