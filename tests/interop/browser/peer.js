#!/usr/bin/env node
// A node in a page of headless Chromium, with the command line and the JSON lines of `diatribe node --json`.
//
//   node peer.js [--dial MULTIADDR]… [--room NAME]… [--network-key FILE] [--seed HEX]
//                [--trust PEERID]… [--deny PEERID]… [--json]
//
// The peer is `page/peer.js`; this program starts the page, hands it the lines of stdin and prints its lines. With
// $DIATRIBE_BROWSER_WS the page opens in the browser of `serve.js --browser`, which is quicker than one of its own.

import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { parseNetworkKey } from '../js/lib/identity.js'
import { openBrowser } from './chromium.js'
import { serveSite } from './site.js'

const STOP_MS = 1_500

class Usage extends Error {}

function options () {
  const list = { type: 'string', multiple: true }
  const { values } = parseArgs({
    options: {
      listen: list,
      dial: list,
      room: list,
      trust: list,
      deny: list,
      'network-key': { type: 'string' },
      seed: { type: 'string' },
      json: { type: 'boolean' }
    }
  })
  const { listen, dial, room: rooms = ['lobby'], trust, deny, seed } = values
  if (listen !== undefined) throw new Usage('--listen: a browser cannot listen; have the other side listen, and --dial it')
  if (seed !== undefined && !/^[0-9a-fA-F]{64}$/.test(seed)) throw new Usage('--seed: a seed is 64 hex digits')
  const file = values['network-key']
  const networkKey = file && Buffer.from(parseNetworkKey(readFileSync(file))).toString('hex')
  return { dial, rooms, trust, deny, seed, networkKey }
}

function fail (error) {
  process.stderr.write(`error: ${error.message}\n`)
  process.exit(error instanceof Usage || error.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1)
}

/** Hands the lines of stdin to the page, those together that came while it took others. */
function serve (page) {
  let lines = []
  let busy = false
  const hand = async () => {
    busy = true
    while (lines.length > 0) {
      const taken = lines
      lines = []
      await page.evaluate(lines => window.peer.say(lines), taken)
    }
    busy = false
  }
  createInterface({ input: process.stdin }).on('line', line => {
    if (line.trim() === '') return
    lines.push(line)
    if (!busy) hand().catch(fail)
  })
}

async function main () {
  const given = options()
  let stopping = false
  let page
  let browser
  const stop = async () => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(0), STOP_MS)
    // First the node, so that its peers see websockets that were closed and not ones that broke.
    await page?.evaluate(() => window.peer.stop()).catch(() => {})
    await browser?.close().catch(() => {})
    process.exit(0)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.stdout.on('error', stop)
  const lost = why => { if (!stopping) fail(new Error(why)) }

  const site = await serveSite()
  browser = await openBrowser()
  browser.on('disconnected', () => lost('the browser has ended'))
  const context = await browser.newContext()
  page = await context.newPage()
  page.on('crash', () => lost('the page has crashed'))
  page.on('close', () => lost('the page was closed'))
  page.on('pageerror', error => process.stderr.write(`page: ${error.stack ?? error}\n`))
  await page.exposeFunction('tellRunner', lines => { process.stdout.write(lines) })
  await page.goto(site.url)
  await page.evaluate(options => window.peer.start(options), given)
  serve(page)
}

main().catch(fail)
