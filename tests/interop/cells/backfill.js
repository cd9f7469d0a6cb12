// Data checking: a late node gets earlier messages from a neighbour that is not their author.

import assert from 'node:assert/strict'
import { withPeers } from '../peers.js'
import { LISTEN, eachPair, heardOf, words } from '../support.js'

export const title = 'Late joiners'

const MESSAGES = 20

export function cells () {
  return eachPair('a late joiner gets all that was said, marked as backfill', late, { can: ['sync'] })
}

async function late (dialer, listener) {
  await withPeers(async ({ start }) => {
    const keeper = start(listener, { listen: LISTEN.ip4 })
    const dial = await keeper.address()
    const author = start('rust', { dial })
    await Promise.all([author.until('link_up'), keeper.until('link_up')])
    author.say(...words('early', MESSAGES))
    const sent = await author.until('sent', { count: MESSAGES })
    await keeper.until('message', { count: MESSAGES })
    await author.kill()
    await keeper.until('link_down')

    const joiner = start(dialer, { dial })
    await joiner.until('message', { count: MESSAGES })
    keeper.say({ text: 'live' })
    await joiner.until('message', { holds: m => m.text === 'live' && !m.backfill })
    const heard = heardOf(joiner, await author.id())
    assert.deepEqual(heard.map(m => m.id + m.seq), sent.map(s => s.id + s.seq), 'each once, in the order said')
    assert(heard.every(m => m.backfill), 'marked as backfill')
  })
}
