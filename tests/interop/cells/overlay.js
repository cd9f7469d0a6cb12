// The overlay with a newcomer in another language: it enters through a node that is full, and has two links in the end.

import assert from 'node:assert/strict'
import { PEERS, lacks } from '../languages.js'
import { withPeers } from '../peers.js'
import { LISTEN, words } from '../support.js'

export const title = 'Entering through a full node'

/** The program takes no smaller limit. */
const FULL = ['--max-links', '2']
const MESSAGES = 10
/** A hint may fail, and is given up after 12 s; then the node tries another way. */
const SETTLED = { within: 90_000 }

export function cells () {
  return PEERS.flatMap(language => [
    {
      pair: `rust – rust – ${language}`,
      what: 'a newcomer expects the peer that its entry names, and all receive all messages, once',
      absent: lacks(language, ['overlay', 'listens']),
      run: () => enters(language, true)
    },
    {
      pair: `rust – rust – ${language}`,
      what: 'a newcomer that cannot be dialled is redirected to dial itself, and all receive all messages, once',
      absent: lacks(language, ['overlay']),
      run: () => enters(language, false)
    }
  ])
}

/** Three of the program are linked with each other, and the entry is full. */
async function enters (language, isDialable) {
  await withPeers(async ({ start }) => {
    const entry = start('rust', { listen: LISTEN.ip4, args: FULL })
    const dial = await entry.address()
    const others = [start('rust', { dial, args: FULL }), start('rust', { dial, args: FULL })]
    const three = [entry, ...others]
    await Promise.all(three.map(peer => peer.until('link_up', { holds: line => line.links === 2, ...SETTLED })))

    const newcomer = start(language, { dial, listen: isDialable ? LISTEN.ip4 : undefined })
    const ids = await Promise.all(others.map(peer => peer.id()))
    const [{ peer_id: to, direction, links }] = await newcomer.until('link_up', { holds: line => ids.includes(line.peer_id), ...SETTLED })
    assert.deepEqual([direction, links], [isDialable ? 'listener' : 'dialer', 2])

    const [from, id] = [await entry.id(), await newcomer.id()]
    const [dialer, dialled] = isDialable ? [to, id] : [id, to]
    const [{ address }] = await entry.until('redirected', { holds: line => line.peer_id === dialer && line.to === dialled })
    assert.match(address, /^\/ip4\/127\.0\.0\.1\/tcp\/\d+\/ws/, 'the operator of the entry sees who was told to dial whom, and where')
    const told = isDialable ? others[ids.indexOf(to)] : newcomer
    await told.until('hint', { holds: line => line.from === from && line.to === dialled && line.outcome === 'linked', ...SETTLED })
    const moved = others[ids.indexOf(to)]
    const [down] = await moved.until('link_down', { holds: line => line.peer_id === from, ...SETTLED })
    assert.match(down.reason, /^handover/)
    assert(down.links >= 1, 'at no time without a link')

    const all = [...three, newcomer]
    all.forEach((peer, i) => peer.say(...words(`from ${i}`, MESSAGES)))
    const expected = all.map((_, i) => words(`from ${i}`, MESSAGES).map(w => w.text))
    for (const [i, peer] of all.entries()) {
      await peer.until('message', { count: 3 * MESSAGES })
      const heard = peer.of('message').map(m => m.text)
      assert.deepEqual(heard.sort(), expected.filter((_, from) => from !== i).flat().sort(), `${peer.name} hears the three others, each once`)
    }
  })
}
