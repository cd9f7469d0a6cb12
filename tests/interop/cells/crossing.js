// Two connections between the same two, dialled from both ends, while both sides go on talking.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { withPeers } from '../peers.js'
import { LISTEN, sleep } from '../support.js'

export const title = 'Connections that cross'

const ROUNDS = 200
const PAUSE_MS = 15

export function cells () {
  // The others cannot be made to dial a second time from outside; "both dial at once" is theirs.
  return [{ pair: 'js ⇄ rust', what: 'of two connections that cross one stays, nothing is lost', run: cross, alone: true }]
}

async function cross () {
  const js = createRequire(join(import.meta.dirname, '../js/'))
  const { multiaddr } = await import(js.resolve('@multiformats/multiaddr'))
  const { start: startHere } = await import('../js/peer.js')
  await withPeers(async ({ start }) => {
    const node = await startHere({ listen: [LISTEN.ip4] })
    const { diatribe } = node.services
    diatribe.join('lobby')
    const heard = []
    const links = []
    let connections = 0
    diatribe.addEventListener('message', ({ detail }) => heard.push(Buffer.from(detail.data).toString()))
    for (const type of ['link_up', 'link_down']) diatribe.addEventListener(type, () => links.push(type))
    try {
      const opened = new Promise(resolve => node.addEventListener('connection:open', resolve, { once: true }))
      const rust = start('rust', { dial: String(node.getMultiaddrs()[0]) })
      const address = multiaddr(await rust.address())
      await opened
      await diatribe.connect(address, { force: true })
      await rust.until('link_up')
      const words = []
      const say = async text => {
        words.push(text)
        rust.say({ text })
        await diatribe.broadcast('lobby', { data: Buffer.from(text) })
      }
      for (let i = 0; i < ROUNDS || node.getConnections().length > 1; i++) {
        await say(`${i}`)
        connections = Math.max(connections, node.getConnections().length)
        await sleep(PAUSE_MS)
      }
      await say('last')
      // Data checking brings, seconds later, the messages that the closing side no longer reads.
      const all = () => heard.length >= words.length
      const whole = new Promise(resolve => diatribe.addEventListener('message', () => all() && resolve()))
      await Promise.all([rust.until('message', { count: words.length }), all() || whole])
      assert.deepEqual(rust.of('message').map(m => m.text).sort(), words.toSorted())
      assert.deepEqual(heard.toSorted(), words.toSorted())
      assert.deepEqual([links, rust.of('link_up').length, rust.of('link_down').length], [['link_up'], 1, 0])
      assert.equal(connections, 2)
    } finally {
      await node.stop()
    }
  })
}
