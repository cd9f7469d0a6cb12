// Links: establishment, refusal and recovery.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Self, scratch, withPeers } from '../peers.js'
import { LISTEN, eachPair, freePorts, link, sleep, words } from '../support.js'

export const title = 'Links'

const MESSAGES = 20

export function cells () {
  return [
    ...eachPair('both rounds pass over ip4', passes('ip4')),
    ...eachPair('both rounds pass over ip6', passes('ip6')),
    ...eachPair('a wrong network key is named on both sides', wrongNetworkKey),
    ...eachPair('the dialer comes back to a listener started again', comesBack),
    ...eachPair('a killed dialer that is started again is linked again', killedDialer),
    ...eachPair('the same identity twice is refused by name, the first stays', sameIdentity),
    ...eachPair('SIGTERM ends the dialer with code 0, and the link', endsWell),
    ...eachPair('a link on which nothing is said for 15 s stays', staysSilent),
    ...eachPair('both dial at once: one link, nothing lost, nothing twice', bothDial, { can: ['listens'], alone: true })
      // Both ways round are the same.
      .filter(({ pair }) => pair.endsWith('→ rust'))
  ]
}

function passes (version) {
  return async (dialer, listener) => {
    await withPeers(async peers => {
      const [d, l] = await link(peers, dialer, listener, { version })
      const [[up], [down]] = [d.of('link_up'), l.of('link_up')]
      assert.deepEqual([up.peer_id, up.direction, up.links], [await l.id(), 'dialer', 1])
      assert.deepEqual([down.peer_id, down.direction, down.links], [await d.id(), 'listener', 1])
      assert.match(up.address, version === 'ip6' ? /^\/ip6\// : /^\/ip4\//)
    })
  }
}

async function wrongNetworkKey (dialer, listener) {
  const [a, b] = [0, 1].map(() => {
    const file = join(scratch, `network-${randomBytes(8).toString('hex')}`)
    writeFileSync(file, randomBytes(32).toString('hex') + '\n', { mode: 0o600 })
    return file
  })
  for (const [dialersKey, listenersKey] of [[a, b], [a, undefined], [undefined, b]]) {
    await withPeers(async ({ start }) => {
      const l = start(listener, { listen: LISTEN.ip4, networkKey: listenersKey })
      const d = start(dialer, { dial: await l.address(), networkKey: dialersKey })
      const refused = await Promise.all([d.until('refused'), l.until('refused')])
      for (const [{ code, stage, reason }] of refused) {
        assert.deepEqual([code, stage], ['NETWORK', 'handshake_1'])
        assert.match(reason, /network keys differ/)
      }
      assert.equal(d.of('link_up').length + l.of('link_up').length, 0)
    })
  }
  await withPeers(peers => link(peers, dialer, listener, { networkKey: a }))
}

async function comesBack (dialer, listener) {
  await withPeers(async ({ start }) => {
    const self = new Self()
    const first = start(listener, { listen: LISTEN.ip4, self })
    const address = await first.address()
    const d = start(dialer, { dial: address })
    await Promise.all([d.until('link_up'), first.until('link_up')])
    await first.kill()
    await d.until('link_down')
    const second = start(listener, { listen: address.replace(/\/p2p\/.*/, ''), self })
    assert.equal(await second.id(), await first.id())
    await Promise.all([d.until('link_up', { count: 2, within: 120_000 }), second.until('link_up', { within: 120_000 })])
    d.say({ text: 'again' })
    second.say({ text: 'indeed' })
    await second.until('message', { holds: m => m.text === 'again' })
    await d.until('message', { holds: m => m.text === 'indeed' })
  })
}

async function killedDialer (dialer, listener) {
  await withPeers(async ({ start }) => {
    const self = new Self()
    const l = start(listener, { listen: LISTEN.ip4 })
    const dial = await l.address()
    const first = start(dialer, { dial, self })
    await Promise.all([first.until('link_up'), l.until('link_up')])
    await first.kill('SIGKILL')
    await l.until('link_down')
    const second = start(dialer, { dial, self })
    await Promise.all([second.until('link_up'), l.until('link_up', { count: 2 })])
    second.say({ text: 'again' })
    const [{ seq }] = await l.until('message', { holds: m => m.text === 'again' })
    assert.equal(seq, 1, 'another process numbers its events anew')
  })
}

async function sameIdentity (dialer, listener) {
  await withPeers(async ({ start }) => {
    const self = new Self()
    const l = start(listener, { listen: LISTEN.ip4 })
    const dial = await l.address()
    const first = start(dialer, { dial, self })
    await Promise.all([first.until('link_up'), l.until('link_up')])
    const second = start(dialer, { dial, self: self.twin() })
    for (const peer of [second, l]) {
      const [{ code }] = await peer.until('refused')
      assert.equal(code, 'DUPLICATE_IDENTITY')
    }
    first.say({ text: 'still here' })
    await l.until('message', { holds: m => m.text === 'still here' })
    assert.equal(l.of('link_down').length, 0)
  })
}

async function endsWell (dialer, listener) {
  await withPeers(async peers => {
    const [d, l] = await link(peers, dialer, listener)
    assert.equal(await d.kill('SIGTERM'), 0)
    await l.until('link_down')
  })
}

/** By then the program has requested every optional protocol several times. */
async function staysSilent (dialer, listener) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    await sleep(15_000)
    for (const peer of pair) assert.deepEqual([...peer.of('link_down'), ...peer.of('refused')], [])
    for (const [from, to] of [pair, pair.toReversed()]) {
      from.say({ text: 'still here' })
      const author = await from.id()
      await to.until('message', { holds: m => m.author === author })
    }
  })
}

async function bothDial (one, other) {
  await withPeers(async ({ start }) => {
    const [p, q] = (await freePorts(2)).map(port => `/ip4/127.0.0.1/tcp/${port}/ws`)
    const pair = [start(one, { listen: p, dial: q }), start(other, { listen: q, dial: p })]
    await Promise.all(pair.map(peer => peer.until('link_up')))
    // Right away, while a second connection may start, and after it was closed.
    const parts = ['at once', 'soon', 'later']
    for (const [i, part] of parts.entries()) {
      for (const peer of pair) peer.say(...words(part, MESSAGES))
      await Promise.all(pair.map(peer => peer.until('message', { count: MESSAGES * (i + 1) })))
      await sleep(1_500)
    }
    const all = parts.flatMap(part => words(part, MESSAGES)).map(({ text }) => text)
    for (const peer of pair) {
      assert.deepEqual(peer.of('message').map(m => m.text), all)
      assert.deepEqual([peer.of('link_up').length, peer.of('link_down').length], [1, 0])
    }
  })
}
