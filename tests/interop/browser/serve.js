#!/usr/bin/env node
// Serves the page, for a person who opens it; with --browser also a Chromium for peers to share.
//
//   node serve.js [--port N] [--browser]
//
// Prints a line each: `page URL`, and `browser URL`, which is what DIATRIBE_BROWSER_WS is to be set to.

import { parseArgs } from 'node:util'
import { launchShared } from './chromium.js'
import { serveSite } from './site.js'

function options () {
  const { values: { port = '0', browser } } = parseArgs({ options: { port: { type: 'string' }, browser: { type: 'boolean' } } })
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) throw new Error(`--port ${port}: a port is a number up to 65535`)
  return { port: Number(port), browser }
}

async function main () {
  const { port, browser } = options()
  const site = await serveSite({ port })
  const shared = browser ? await launchShared() : undefined
  process.stdout.write(`page ${site.url}\n${shared === undefined ? '' : `browser ${shared.endpoint}\n`}`)
  const stop = async () => {
    await shared?.close()
    process.exit(0)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

main().catch(error => {
  process.stderr.write(`error: ${error.message}\n`)
  process.exit(error.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1)
})
