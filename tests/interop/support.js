// Building blocks of cells: pairs of languages, links, test messages.

import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { PEERS, lacks } from './languages.js'

export const LISTEN = { ip4: '/ip4/127.0.0.1/tcp/0/ws', ip6: '/ip6/::1/tcp/0/ws' }

/**
 * A cell for each language as dialer and as listener against the program: `run(dialer, listener)`.
 * @param options `can`: further abilities that the language must have; the rest as in a cell
 */
export function eachPair (what, run, { can = [], ...options } = {}) {
  return PEERS.flatMap(language => [[language, 'rust'], ['rust', language]].map(([dialer, listener]) => ({
    pair: `${dialer} → ${listener}`,
    what,
    absent: lacks(listener, ['listens']) ?? lacks(language, can),
    run: () => run(dialer, listener),
    ...options
  })))
}

/** Starts a pair and waits for the link; `[dialer, listener]`. */
export async function link ({ start }, dialer, listener, { version = 'ip4', ...options } = {}) {
  const l = start(listener, { listen: LISTEN[version], ...options })
  const d = start(dialer, { dial: await l.address(), ...options })
  await Promise.all([l.until('link_up'), d.until('link_up')])
  return [d, l]
}

/** Returns `count` test messages that contain a tag. */
export const words = (tag, count) => Array.from({ length: count }, (_, i) => ({ text: `${tag}.${i}` }))
/** Returns the messages that a peer has received from an author. */
export const heardOf = (peer, author) => peer.of('message').filter(m => m.author === author)
export const base64 = size => randomBytes(size).toString('base64')
export const isSorted = numbers => numbers.every((n, i) => i === 0 || numbers[i - 1] < n)
/** For pacing, never as a proof. */
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

export async function freePorts (count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => resolve(server))
  })))
  const ports = servers.map(server => server.address().port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}
