#!/usr/bin/env node
// A node in JavaScript with the command line and the JSON lines of `diatribe node --json`.
//
//   node peer.js [--listen MULTIADDR]… [--dial MULTIADDR]… [--room NAME]… [--network-key FILE]
//                [--seed HEX] [--trust PEERID]… [--deny PEERID]… [--max-links N] [--json]
//
// stdin: one object a line, {"room"?, "name"?, "text" | "data"}; data is base64. stdout: one object a line.

import { lookup } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { diatribe, identify, parseNetworkKey, yamux } from './diatribe.js'
import { fromHex } from './lib/bytes.js'
import { keepDialing } from './lib/dialing.js'

const STOP_MS = 1_500

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

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
      'max-links': { type: 'string' },
      json: { type: 'boolean' }
    }
  })
  const maxLinks = values['max-links'] === undefined ? undefined : Number(values['max-links'])
  if (maxLinks !== undefined && !(Number.isInteger(maxLinks) && maxLinks >= 2)) throw new Error('--max-links is a number from 2 on')
  const dial = (values.dial ?? []).map(address => [address, multiaddr(address)])
  return { ...values, dial, maxLinks, room: values.room ?? ['lobby'] }
}

export function tell (type, fields) {
  process.stdout.write(JSON.stringify({ time: new Date().toISOString(), type, ...fields }) + '\n')
}

/** The text of bytes that are UTF-8. */
function textOf (data) {
  try { return utf8.decode(data) } catch { return undefined }
}

export async function start ({ listen = [], networkKey, seed, trust, deny, maxLinks, overlay, sync }) {
  const privateKey = seed === undefined ? await generateKeyPair('Ed25519') : await generateKeyPairFromSeed('Ed25519', seed)
  return createLibp2p({
    privateKey,
    addresses: { listen },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // js-libp2p does not dial loopback by itself, and takes 5 connections a second from one address.
    connectionGater: { denyDialMultiaddr: () => false },
    connectionManager: { inboundConnectionThreshold: 100 },
    connectionMonitor: { enabled: false },
    services: { identify: identify(), ping: ping(), diatribe: diatribe({ networkKey, trust, deny, maxLinks, overlay, sync }) }
  })
}

/**
 * An address with the IP address that its name leads to: a link's scope is that of its socket, which js-libp2p does not expose here.
 * With TLS the name stays, since the certificate is for it.
 */
export async function resolve (address) {
  const [{ name, value }, ...rest] = address.getComponents()
  const family = { dns: 0, dns4: 4, dns6: 6 }[name]
  if (family === undefined || rest.some(({ name }) => name === 'tls' || name === 'wss')) return address
  const found = await lookup(value, { family })
  return multiaddr([{ name: `ip${found.family}`, value: found.address }, ...rest].map(part => `/${part.name}${part.value === undefined ? '' : `/${part.value}`}`).join(''))
}

/** Returns the stage at which a dial failed before the handshake. */
function stageOf (error) {
  const all = [error, error?.cause, ...(error?.errors ?? [])].filter(Boolean)
  const is = (...names) => all.some(e => names.includes(e.name) || names.includes(e.code))
  const says = pattern => all.some(e => pattern.test(`${e.message}`))
  if (is('UnexpectedPeerError', 'EncryptionFailedError', 'InvalidCryptoExchangeError')) return 'noise'
  if (is('MuxerUnavailableError')) return 'yamux'
  if (is('ENOTFOUND', 'EAI_AGAIN')) return 'resolve'
  if (is('ECONNREFUSED', 'EHOSTUNREACH', 'ETIMEDOUT') || says(/ECONNREFUSED|EHOSTUNREACH|ETIMEDOUT/)) return 'tcp'
  return 'websocket'
}

/** One line of stdin: `{ room, sent }`, where sent is the promise of `broadcast`. */
function send (node, line, firstRoom) {
  let room
  try {
    const { name = 'chat', text, data, ...rest } = JSON.parse(line)
    room = rest.room ?? firstRoom
    delete rest.room
    if (Object.keys(rest).length > 0) throw new Error(`a line has no ${Object.keys(rest)}`)
    if ((typeof text === 'string') === (typeof data === 'string')) throw new Error('a line has either text or data')
    const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : Uint8Array.from(Buffer.from(data, 'base64'))
    return { room, sent: node.services.diatribe.broadcast(room, { name, data: bytes }) }
  } catch (error) {
    return { room, sent: Promise.reject(error) }
  }
}

/** Answers the lines of stdin in their order. */
function serve (node, firstRoom) {
  let answered = Promise.resolve()
  createInterface({ input: process.stdin }).on('line', line => {
    if (line.trim() === '') return
    const { room, sent } = send(node, line, firstRoom)
    const answer = sent.then(
      ({ id, seq, links }) => () => tell('sent', { id, seq, room, links }),
      error => () => tell('error', { reason: error.message, room })
    )
    answered = answered.then(async () => (await answer)())
  })
}

async function main () {
  const given = options()
  const node = await start({
    ...given,
    networkKey: given['network-key'] && parseNetworkKey(readFileSync(given['network-key'])),
    seed: given.seed && fromHex(given.seed)
  })
  const service = node.services.diatribe
  for (const room of given.room) service.join(room)
  for (const type of ['link_up', 'link_down', 'checked', 'hint']) service.addEventListener(type, ({ detail }) => tell(type, detail))
  service.addEventListener('refused', ({ detail }) => tell('refused', { ...detail, code: detail.code ?? null }))
  service.addEventListener('message', ({ detail }) => tell('message', {
    ...detail,
    data: Buffer.from(detail.data).toString('base64'),
    text: textOf(detail.data),
    sent_at: new Date(detail.sent_at).toISOString()
  }))
  tell('online', { peer_id: node.peerId.toString(), addresses: node.getMultiaddrs().map(String), rooms: given.room })

  for (const [address, parsed] of given.dial) {
    keepDialing(node, parsed, error => tell('refused', { address, stage: stageOf(error), code: null, reason: error.message }), resolve)
  }
  serve(node, given.room[0])
  const stop = () => {
    setTimeout(() => process.exit(0), STOP_MS).unref()
    node.stop().catch(() => {}).finally(() => process.exit(0))
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  process.stdout.on('error', () => process.exit(0))
}

if (import.meta.main ?? process.argv[1]?.endsWith('peer.js')) {
  main().catch(error => {
    process.stderr.write(`error: ${error.message}\n`)
    process.exit(error.code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1)
  })
}
