#!/usr/bin/env node
// A node in a page of headless Chromium, with the command line and the JSON lines of `diatribe node --json`.
//
//   node peer.js [--dial MULTIADDR]… [--room NAME]… [--network-key FILE] [--seed HEX]
//                [--trust PEERID]… [--deny PEERID]… [--max-links N] [--json]
//
// The peer is `page/peer.js`; this program has the page started, hands it the lines of stdin and prints its lines. The
// browser is that of `serve.js --browser` when $DIATRIBE_BROWSER names its socket, and otherwise one of its own, which
// takes longer.

import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const STOP_MS = 1_500

class Usage extends Error {}

async function options () {
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
      'max-links': { type: 'string' },
      json: { type: 'boolean' }
    }
  })
  const { listen, dial, room: rooms = ['lobby'], trust, deny, seed } = values
  if (listen !== undefined) throw new Usage('--listen: a browser cannot listen; have the other side listen, and --dial it')
  if (seed !== undefined && !/^[0-9a-fA-F]{64}$/.test(seed)) throw new Usage('--seed: a seed is 64 hex digits')
  const maxLinks = values['max-links']
  if (maxLinks !== undefined && !/^([2-9]|[1-9]\d+)$/.test(maxLinks)) throw new Usage('--max-links: a number from 2 on')
  return { dial, rooms, trust, deny, seed, maxLinks: maxLinks && Number(maxLinks), networkKey: await networkKey(values['network-key']) }
}

async function networkKey (file) {
  if (file === undefined) return undefined
  const { parseNetworkKey } = await import('../js/lib/identity.js')
  return Buffer.from(parseNetworkKey(readFileSync(file))).toString('hex')
}

function fail (error) {
  process.stderr.write(`error: ${error.message}\n`)
  process.exit(error instanceof Usage || error.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1)
}

/** Hands on the lines of stdin, those of one turn together. */
function relay (tell) {
  let lines = []
  createInterface({ input: process.stdin }).on('line', line => {
    if (line.trim() === '') return
    lines.push(line)
    if (lines.length > 1) return
    setImmediate(() => {
      tell({ say: lines })
      lines = []
    })
  })
}

async function main () {
  let tell
  let stopping = false
  const stop = () => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(0), STOP_MS)
    if (tell === undefined) process.exit(0)
    tell({ stop: true })
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.stdout.on('error', stop)

  const given = await options()
  const endpoint = process.env.DIATRIBE_BROWSER || (await (await import('./shared.js')).launchShared({ spares: 0 })).endpoint
  const socket = connect(endpoint)
  const output = createInterface({ input: socket })
  const lost = error => fail(new Error(`there is no browser at ${endpoint} (${error.message}): start serve.js --browser, or unset DIATRIBE_BROWSER`))
  for (const source of [socket, output]) source.on('error', lost)
  socket.on('close', () => stopping ? process.exit(0) : fail(new Error('the browser has ended')))
  output.on('line', text => {
    const { lines, log, fail: reason } = JSON.parse(text)
    if (lines !== undefined) process.stdout.write(lines)
    if (log !== undefined) process.stderr.write(`${log}\n`)
    if (reason !== undefined && !stopping) fail(new Error(reason))
  })
  tell = message => { socket.write(JSON.stringify(message) + '\n') }
  tell({ start: given })
  relay(tell)
}

main().catch(fail)
