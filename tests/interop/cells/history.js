// Data checking: a node that missed messages gets them in the end, once, marked as backfill.

import assert from 'node:assert/strict'
import { createServer, connect } from 'node:net'
import { withPeers } from '../peers.js'
import { LISTEN, eachPair, freePorts, words } from '../support.js'

export const title = 'Data checking'

/** More than a few ids: a comparison has to divide. */
const MESSAGES = 100

export function cells () {
  return [
    ...eachPair('what the dialer holds comes to a listener that joins late, once', dialerHolds, { can: ['sync'] }),
    ...eachPair('what was said while a link was down is there after it, both ways, once', linkDown, { can: ['sync'] })
  ]
}

const texts = (peer, holds) => peer.of('message').filter(holds).map(m => m.text)

/** The holder sent it while the listener was offline, and dials it until it answers. */
async function dialerHolds (dialer, listener) {
  await withPeers(async ({ start }) => {
    const [port] = await freePorts(1)
    const late = `/ip4/127.0.0.1/tcp/${port}/ws`
    const witness = start('rust', { listen: LISTEN.ip4 })
    const holder = start(dialer, { dial: [await witness.address(), late] })
    await Promise.all([holder.until('link_up'), witness.until('link_up')])
    holder.say(...words('before', MESSAGES))
    const sent = await holder.until('sent', { count: MESSAGES })
    await witness.until('message', { count: MESSAGES })
    await witness.kill()
    await holder.until('link_down')

    const joiner = start(listener, { listen: late })
    const heard = await joiner.until('message', { count: MESSAGES, within: 60_000 })
    assert.deepEqual(heard.map(m => m.id + m.seq).sort(), sent.map(s => s.id + s.seq).sort(), 'all of it, once')
    assert(heard.every(m => m.backfill), 'marked as backfill')
    await joiner.until('checked')
    holder.say({ text: 'live' })
    await joiner.until('message', { holds: m => m.text === 'live' && !m.backfill })
    assert.equal(joiner.of('message').length, MESSAGES + 1)
  })
}

/** Two with a witness each, so that they have somebody to speak to; between them a wire that can be cut. */
async function linkDown (dialer, listener) {
  const wire = new Wire()
  try {
    await withPeers(async ({ start }) => {
      const [ours, theirs] = [start('rust', { listen: LISTEN.ip4 }), start('rust', { listen: LISTEN.ip4 })]
      // Nobody goes round the wire.
      const l = start(listener, { listen: LISTEN.ip4, dial: await theirs.address(), deny: await ours.id() })
      await l.until('link_up')
      const dial = await wire.to(await l.address())
      const d = start(dialer, { dial: [await ours.address(), dial], deny: await theirs.id() })
      await Promise.all([d.until('link_up', { count: 2 }), l.until('link_up', { count: 2 })])
      const pair = [[d, l, 'd'], [l, d, 'l']]

      await said(pair, 'while it was up')
      wire.cut()
      await Promise.all([[d, l], [l, d]].map(async ([peer, other]) => {
        const id = await other.id()
        await peer.until('link_down', { holds: line => line.peer_id === id })
      }))
      for (const [from, , tag] of pair) {
        from.say(...words(`${tag}: while it was down`, MESSAGES))
        await from.until('sent', { count: 2 * MESSAGES })
      }
      wire.heal()
      for (const [, to, tag] of pair) {
        const missed = m => m.text.startsWith(`${tag}: while it was down`)
        const heard = await to.until('message', { count: MESSAGES, holds: missed, within: 90_000 })
        assert(heard.every(m => m.backfill), 'what was missed is marked as backfill')
      }
      await said(pair, 'after it')
      for (const [, to, tag] of pair) {
        const all = ['while it was up', 'while it was down', 'after it'].flatMap(part => words(`${tag}: ${part}`, MESSAGES).map(w => w.text))
        assert.deepEqual(texts(to, m => m.text.startsWith(`${tag}:`)).sort(), all.sort(), 'each once')
      }
    })
  } finally {
    wire.close()
  }
}

/** Each says something that the other hears. */
async function said (pair, part) {
  for (const [from, , tag] of pair) from.say(...words(`${tag}: ${part}`, MESSAGES))
  for (const [, to, tag] of pair) {
    await to.until('message', { count: MESSAGES, holds: m => m.text.startsWith(`${tag}: ${part}`) })
  }
}

/** A port that leads to another one, until it is cut. */
class Wire {
  #sockets = new Set()
  #isCut = false

  /** Where the wire begins that leads to an address. */
  async to (address) {
    const [, port] = /\/tcp\/(\d+)/.exec(address)
    this.server = createServer(near => {
      const far = connect(Number(port), '127.0.0.1')
      for (const [socket, other] of [[near, far], [far, near]]) {
        this.#sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
        socket.pipe(other)
      }
      if (this.#isCut) near.destroy()
    })
    await new Promise(resolve => this.server.listen(0, '127.0.0.1', resolve))
    return `/ip4/127.0.0.1/tcp/${this.server.address().port}/ws`
  }

  cut () {
    this.#isCut = true
    for (const socket of this.#sockets) socket.destroy()
  }

  heal () {
    this.#isCut = false
  }

  close () {
    this.server?.close()
    this.cut()
  }
}
