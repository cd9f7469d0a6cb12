// Three in a line: messages of one end arrive through the middle at the other, once, with their ids.

import assert from 'node:assert/strict'
import { PEERS, lacks } from '../languages.js'
import { withPeers } from '../peers.js'
import { LISTEN, words } from '../support.js'

export const title = 'Three in a line'

const MESSAGES = 20

export function cells () {
  const pairs = PEERS.flatMap((one, i) => PEERS.slice(i).map(other => [one, other]))
  const lines = [...pairs.map(([one, other]) => [one, 'rust', other]), ...PEERS.map(middle => ['rust', middle, 'rust'])]
  return lines.map(line => ({
    pair: line.join(' – '),
    what: 'each message arrives once, both ways, with its id',
    run: () => through(...line)
  }))
}

async function through (left, middle, right) {
  await withPeers(async ({ start }) => {
    const [l, m, r] = await (lacks(middle, ['listens']) ? dialled : dialling)(start, left, middle, right)
    await m.until('link_up', { count: 2 })
    await Promise.all([l.until('link_up'), r.until('link_up')])
    await Promise.all([hears(l, r, 'from the left'), hears(r, l, 'from the right')])
    // Messages in flight arrive before new ones.
    await Promise.all([hears(l, r, 'last'), hears(r, l, 'last')])
    for (const [from, to] of [[l, r], [r, l]]) {
      // The sender may print `sent` after the other end has received the message.
      await from.until('sent', { count: 2 * MESSAGES })
      assert.deepEqual(to.of('message').map(m => m.id + m.seq), from.of('sent').map(s => s.id + s.seq), 'each comes once')
      assert.deepEqual([...new Set(to.of('message').map(m => m.author))], [await from.id()])
    }
    for (const end of [l, r]) assert.deepEqual(end.of('link_up').map(up => up.peer_id), [await m.id()], 'only by the middle')
  })
}

/** The ends dial the middle. They refuse each other, so that there is no other way. */
async function dialling (start, left, middle, right) {
  const m = start(middle, { listen: LISTEN.ip4 })
  const dial = await m.address()
  const l = start(left, { dial })
  return [l, m, start(right, { dial, deny: await l.id() })]
}

/** The middle dials the ends. */
async function dialled (start, left, middle, right) {
  const l = start(left, { listen: LISTEN.ip4 })
  const r = start(right, { listen: LISTEN.ip4, deny: await l.id() })
  return [l, start(middle, { dial: [await l.address(), await r.address()] }), r]
}

async function hears (from, to, tag) {
  const said = words(tag, MESSAGES)
  from.say(...said)
  const author = await from.id()
  const heard = await to.until('message', { count: MESSAGES, holds: m => m.author === author && m.text.startsWith(tag) })
  assert.deepEqual(heard.map(m => m.text), said.map(s => s.text))
}
