// Messages between two peers: all arrive, once, unchanged, small and large, few and many.

import assert from 'node:assert/strict'
import { LIMIT, sayLargest } from '../exchanges.js'
import { withPeers } from '../peers.js'
import { LISTEN, base64, eachPair, heardOf, isSorted, link, words } from '../support.js'

export const title = 'Messages between two'

const FRESH_LINKS = 10
const MESSAGES = 20

export function cells () {
  return [
    ...eachPair('20 of 20 both ways right after the link, in 10 fresh links', rightAfterTheLink),
    ...eachPair('equal batch ids and numbers on both sides', equalIds),
    ...eachPair('an event of the limit −1, the limit, +1 byte; the link survives', aroundTheLimit),
    ...eachPair('ten of the largest event in a row, each way; the link survives', sayLargest),
    ...eachPair('200 events of 50,000 bytes back to back, each way', backToBack)
  ]
}

async function rightAfterTheLink (dialer, listener) {
  await withPeers(async ({ start }) => {
    const l = start(listener, { listen: LISTEN.ip4 })
    const dial = await l.address()
    for (let round = 0; round < FRESH_LINKS; round++) {
      const d = start(dialer, { dial })
      const from = l.lines.length
      const [mine, theirs] = [words(`d ${round}`, MESSAGES), words(`l ${round}`, MESSAGES)]
      const say = async (peer, words, options) => {
        await peer.until('link_up', options)
        peer.say(...words)
      }
      await Promise.all([say(d, mine), say(l, theirs, { from })])
      const [dialers, listeners] = [await d.id(), await l.id()]
      await l.until('message', { count: MESSAGES, from, holds: m => m.author === dialers })
      // Earlier messages may arrive too, as backfill.
      await d.until('message', { count: MESSAGES, holds: m => !m.backfill && m.author === listeners })
      assert.deepEqual(heardOf(l, dialers).map(m => m.text), mine.map(m => m.text))
      assert.deepEqual(heardOf(d, listeners).filter(m => !m.backfill).map(m => m.text), theirs.map(m => m.text))
      await d.kill()
      await l.until('link_down', { from })
    }
    assert.deepEqual(l.of('error'), [])
  })
}

async function equalIds (dialer, listener) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    for (const [from, to] of [pair, pair.toReversed()]) {
      const said = Array.from({ length: 50 }, (_, i) => ({ text: `${i}`, name: i % 2 ? 'odd' : 'even' }))
      from.say(...said)
      const sent = await from.until('sent', { count: 50 })
      const heard = (await to.until('message', { count: 50 })).slice(-50)
      const key = ({ id, seq }) => `${id} ${seq}`
      assert.deepEqual(heard.map(key), sent.map(key))
      assert.deepEqual(sent.map(s => s.seq), Array.from({ length: 50 }, (_, i) => i + 1))
      assert.deepEqual(heard.map(m => [m.text, m.name]), said.map(w => [w.text, w.name]))
      assert(sent.every(s => /^[0-9a-f]{64}$/.test(s.id) && s.links === 1))
    }
  })
}

async function aroundTheLimit (dialer, listener) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    for (const [from, to] of [pair, pair.toReversed()]) {
      const author = await from.id()
      const fit = [LIMIT - 1, LIMIT].map(base64)
      from.say(...fit.map(data => ({ data })), { data: base64(LIMIT + 1) }, { text: 'after' })
      const [{ reason }] = await from.until('error')
      assert.match(reason, /1048576/)
      await to.until('message', { holds: m => m.text === 'after' && m.author === author })
      const heard = heardOf(to, author)
      assert.deepEqual(heard.slice(0, 2).map(m => m.data === fit.shift()), [true, true], 'they come as they were')
      assert.deepEqual(heard.slice(2).map(m => m.text), ['after'])
    }
    for (const peer of pair) assert.deepEqual(peer.of('link_down'), [])
  })
}

async function backToBack (dialer, listener) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    for (const [from, to] of [pair, pair.toReversed()]) {
      const data = Array.from({ length: 200 }, () => base64(50_000))
      const before = to.lines.length
      from.say(...data.map(data => ({ data })))
      const heard = await to.until('message', { count: 200, from: before, within: 120_000 })
      const wrong = heard.findIndex((m, i) => m.data !== data[i])
      assert.equal(wrong, -1, `event ${wrong} is not as it was said, or out of turn`)
      assert(isSorted(heard.map(m => m.seq)))
    }
    for (const peer of pair) assert.deepEqual([...peer.of('link_down'), ...peer.of('error')], [])
  })
}
