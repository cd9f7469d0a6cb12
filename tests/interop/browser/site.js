// Serves the page on loopback: its files, its bundles, and the published vectors. Nothing else of the disk.

import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'

const here = import.meta.dirname
/** Folder of the files that `build.js` makes for the browser. */
export const BUNDLES = join(here, '../.cache/browser')

const PAGES = ['index.html', 'page.css', 'vectors.html']
const SCRIPTS = ['page.js', 'vectors.js']
const VECTOR = /^\/proto\/vectors\/([a-z0-9_-]+\.json)$/
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.json': 'application/json' }

/** No script but the page's own, no `eval`: diatribe needs neither. WebAssembly is for Argon2 in the vectors. */
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws: wss:; img-src data:; frame-ancestors 'none'"

/** Yields `{ url, close }`; without a port the system chooses one. */
export async function serveSite ({ port = 0 } = {}) {
  if (!SCRIPTS.every(name => existsSync(join(BUNDLES, name)))) {
    throw new Error('the page is not built: run tests/interop/browser/install')
  }
  const server = createServer((request, response) => {
    const file = request.method === 'GET' ? fileOf(new URL(request.url, 'http://localhost').pathname) : undefined
    if (file === undefined || !existsSync(file)) return response.writeHead(404).end('not here\n')
    response.writeHead(200, { 'content-type': `${TYPES[extname(file)]}; charset=utf-8`, 'content-security-policy': POLICY, 'cache-control': 'no-store' })
    response.end(readFileSync(file))
  })
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close () {
      server.close()
      server.closeAllConnections()
    }
  }
}

function fileOf (path) {
  const name = path === '/' ? 'index.html' : path.slice(1)
  if (PAGES.includes(name)) return join(here, 'page', name)
  if (SCRIPTS.includes(name)) return join(BUNDLES, name)
  const vector = VECTOR.exec(path)?.[1]
  return vector && join(here, '../../../proto/vectors', vector)
}
