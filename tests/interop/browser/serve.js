#!/usr/bin/env node
// Serves the page, for a person who opens it; with --browser also a Chromium for peers to share.
//
//   node serve.js [--port N] [--browser]
//
// Prints a line each: `page URL`, and `browser SOCKET`, the value for DIATRIBE_BROWSER.

import { parseArgs } from 'node:util'
import { serveSite } from './site.js'

function options () {
  const { values: { port = '0', browser } } = parseArgs({ options: { port: { type: 'string' }, browser: { type: 'boolean' } } })
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) throw new Error(`--port ${port}: a port is a number up to 65535`)
  return { port: Number(port), browser }
}

async function main () {
  const { port, browser } = options()
  const { url, endpoint, close } = browser ? await (await import('./shared.js')).launchShared({ port }) : await serveSite({ port })
  process.stdout.write(`page ${url}\n${browser ? `browser ${endpoint}\n` : ''}`)
  const stop = async () => {
    await close()
    process.exit(0)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

main().catch(error => {
  process.stderr.write(`error: ${error.message}\n`)
  process.exit(error.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1)
})
