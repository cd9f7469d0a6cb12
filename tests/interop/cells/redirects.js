// Redirect hints: a full node moves one of its links to a newcomer, and the moved node connects there.

import assert from 'node:assert/strict'
import { PEERS, lacks } from '../languages.js'
import { withPeers } from '../peers.js'
import { LISTEN } from '../support.js'

export const title = 'Redirect hints'
export const roles = ['newcomer', 'full', 'its link']

/** The program takes no smaller limit. */
const FULL = ['--max-links', '2']
/** A hint is sent when the overlay has found no free slot, and is given up after 12 s. */
const OBEYED = { within: 120_000 }

export function cells () {
  return PEERS.map(language => ({
    pair: `rust – rust – ${language}`,
    what: 'redirected to a newcomer, it connects there; the link moves',
    absent: lacks(language, ['overlay']),
    run: () => moves(language)
  }))
}

/** The full node has links with two peers of the language; a newcomer arrives that nobody else knows. */
async function moves (language) {
  await withPeers(async ({ start }) => {
    const full = start('rust', { listen: LISTEN.ip4, args: FULL })
    const dial = await full.address()
    // They do not listen: the only peer to which they can be redirected is the newcomer.
    const both = [start(language, { dial }), start(language, { dial })]
    await Promise.all([full.until('link_up', { count: 2 }), ...both.map(peer => peer.until('link_up'))])
    const newcomer = start('rust', { dial, args: FULL })
    const [fulls, newcomers] = [await full.id(), await newcomer.id()]

    const isIt = hint => hint.from === fulls && hint.to === newcomers && hint.outcome === 'linked'
    const told = await Promise.any(both.map(async peer => {
      await peer.until('hint', { holds: isIt, ...OBEYED })
      return peer
    }))
    const tolds = await told.id()
    await full.until('redirected', { holds: line => line.peer_id === tolds && line.to === newcomers })
    const [up] = await told.until('link_up', { holds: line => line.peer_id === newcomers })
    assert.equal(up.direction, 'dialer')
    const [down] = await told.until('link_down', { holds: line => line.peer_id === fulls, ...OBEYED })
    assert.match(down.reason, /^handover/)
    assert(down.links >= 1, 'at no time without a link')

    full.say({ text: 'still one room' })
    await Promise.all([newcomer, ...both].map(peer => peer.until('message', { holds: m => m.text === 'still one room' })))
  })
}
