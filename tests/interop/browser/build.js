// Bundles the page and the vectors' tests for the browser, below tests/interop/.cache/browser/.
//
// The packages are those of ../js: the page runs the very same versions. The tests over the vectors are the very file
// that Node runs: `page/shims/` replaces its imports from Node.

import { join } from 'node:path'
import { build } from 'esbuild'
import { BUNDLES } from './site.js'

const here = import.meta.dirname
const shims = {
  'node:test': 'test.js',
  'node:assert/strict': 'assert.js',
  'node:fs': 'fs.js'
}

const instead = {
  name: 'node',
  setup ({ onResolve }) {
    onResolve({ filter: /^node:/ }, ({ path, importer }) => shims[path] === undefined
      ? { errors: [{ text: `${path} is not there in a browser, and has no shim; ${importer} needs it` }] }
      : { path: join(here, 'page/shims', shims[path]) })
  }
}

await build({
  entryPoints: ['page.js', 'vectors.js'].map(name => join(here, 'page', name)),
  outdir: BUNDLES,
  bundle: true,
  format: 'esm',
  platform: 'browser',
  target: 'chrome140',
  nodePaths: [join(here, '../js/node_modules')],
  plugins: [instead],
  logLevel: 'warning'
})
