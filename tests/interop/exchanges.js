// Exchanges of messages between a pair, used in several themes.

import assert from 'node:assert/strict'
import { withPeers } from './peers.js'
import { base64, heardOf, link, words } from './support.js'

/** The most data of an event. */
export const LIMIT = 1024 * 1024

const LARGEST_IN_A_ROW = 10
/** 10 MiB of text go into a process and out of another, on a busy machine. */
const LARGEST_WITHIN_MS = 120_000

/** Small messages right after the link, both ways at the same time: all arrive, once, in their order. */
export async function saySmall (dialer, listener, count) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    await Promise.all(pair.map(async (from, i) => {
      const to = pair[1 - i]
      const said = words(`from ${i}`, count)
      from.say(...said)
      const author = await from.id()
      await to.until('message', { count, holds: m => m.author === author })
      assert.deepEqual(heardOf(to, author).map(m => m.text), said.map(s => s.text))
    }))
    staysLinked(pair)
  })
}

/** The largest event, many times in a row, each way: a multiplexer that writes frames too large loses the link by this. */
export async function sayLargest (dialer, listener) {
  await withPeers(async peers => {
    const pair = await link(peers, dialer, listener)
    for (const [from, to] of [pair, pair.toReversed()]) {
      const author = await from.id()
      const data = Array.from({ length: LARGEST_IN_A_ROW }, () => base64(LIMIT))
      from.say(...data.map(data => ({ data })))
      const all = to.until('message', { count: data.length, holds: m => m.author === author, within: LARGEST_WITHIN_MS })
      const heard = await Promise.race([all, loses(from), loses(to)])
      const wrong = data.findIndex((data, i) => heard[i].data !== data)
      assert.equal(wrong, -1, `event ${wrong} is not as it was said, or out of turn`)
    }
    staysLinked(pair)
  })
}

/** Rejects when a peer loses a link; else it stays pending. */
async function loses (peer) {
  const down = await peer.until('link_down', { within: LARGEST_WITHIN_MS }).catch(() => new Promise(() => {}))
  throw new Error(`${peer.name} lost the link: ${down[0].reason}`)
}

/** No link was lost, and nothing was refused to anybody. */
function staysLinked (pair) {
  for (const peer of pair) assert.deepEqual([...peer.of('link_down'), ...peer.of('refused'), ...peer.of('error')], [])
}
