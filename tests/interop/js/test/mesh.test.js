// The overlay between nodes on real connections.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { start } from '../peer.js'

const LISTEN = '/ip4/127.0.0.1/tcp/0/ws'
const nodes = []
after(() => Promise.all(nodes.map(node => node.stop())))

async function own ({ rooms = ['lobby'], ...options } = {}) {
  const node = await start({ listen: [LISTEN], ...options })
  const service = node.services.diatribe
  for (const room of rooms) service.join(room)
  nodes.push(node)
  return { node, service, id: node.peerId.toString(), address: node.getMultiaddrs()[0] }
}

const next = (service, type, holds = () => true) => new Promise(resolve => {
  service.addEventListener(type, function listener ({ detail }) {
    if (!holds(detail)) return
    service.removeEventListener(type, listener)
    resolve(detail)
  })
})

test('a newcomer that knows one address has two links in the end', async () => {
  const [a, b, c] = [await own(), await own(), await own()]
  await a.service.connect(b.address)
  const both = Promise.all([a, b].map(({ id }) => next(c.service, 'link_up', line => line.peer_id === id)))
  await c.service.connect(b.address)
  await both
  assert.equal(c.service.links, 2)
})

test('a full node refuses by name, and keeps its links', async () => {
  const [full, d] = [await own({ maxLinks: 2 }), await own()]
  const peers = [await own({ listen: [] }), await own({ listen: [] })]
  for (const { service } of peers) await service.connect(full.address)
  const refused = next(full.service, 'refused')
  await assert.rejects(d.service.connect(full.address), { stage: 'handshake_1', code: 'BUSY' })
  assert.equal((await refused).code, 'BUSY')
  assert.equal(full.service.links, 2)
})

test('a node that stops says so', async () => {
  const [a, b] = [await own(), await own()]
  await a.service.connect(b.address)
  const down = next(b.service, 'link_down')
  await a.node.stop()
  assert.match((await down).reason, /^leaving/)
})

test('an address of another peer than the one named is not linked with', async () => {
  const [a, b, c] = [await own(), await own(), await own()]
  const named = b.address.toString().replace(b.id, c.id)
  await assert.rejects(a.service.connect(multiaddr(named)))
  assert.deepEqual([a.service.links, b.service.links], [0, 0])
})

test('a message sent before the subscriptions of a slow peer waits for them', async () => {
  const [a, b] = [await own(), await own({ rooms: [] })]
  await linkedInSilence(a, b)
  const heard = next(b.service, 'message')
  const sent = say(a, 'hello')
  b.service.join('lobby')
  await sent
  assert.equal((await heard).author, a.id)
})

test('a sender without recipients gets an error', async () => {
  const [a, b] = [await own(), await own({ rooms: [] })]
  await linkedInSilence(a, b)
  await assert.rejects(say(a, 'hello'), /nobody is in the room/)
})

/** The link starts although B has sent no subscriptions. */
async function linkedInSilence (a, b) {
  const up = next(a.service, 'link_up')
  await a.service.connect(b.address)
  await up
}

const say = ({ service }, text) => service.broadcast('lobby', { name: 'chat', data: new TextEncoder().encode(text) })
