// Strangers before the gate, on real connections.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { topicOf } from '../lib/batch.js'
import { writeFrame } from '../lib/frame.js'
import { PROTOCOL, encodeFrame } from '../lib/handshake.js'
import { start } from '../peer.js'

const LISTEN = '/ip4/127.0.0.1/tcp/0/ws'
const MESHSUB = '/meshsub/1.1.0'
const nodes = []
after(() => Promise.all(nodes.map(node => node.stop())))

async function own (listen) {
  const node = await start({ listen })
  node.services.diatribe.join('lobby')
  nodes.push(node)
  return node
}

/** A libp2p program that knows nothing of the handshake. */
async function stranger () {
  const node = await createLibp2p({
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionMonitor: { enabled: false },
    services: { identify: identify() }
  })
  nodes.push(node)
  return node
}

const next = (target, type) => new Promise(resolve => target.addEventListener(type, event => resolve(event.detail), { once: true }))
const closed = async it => {
  if (it.status === 'open') await next(it, 'close')
}
const within = (ms, promise) => Promise.race([promise, new Promise((resolve, reject) => setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms))])

test('a peer without the handshake gets no gossip, gives none, and is gone after 3 s', async () => {
  const [listener, other] = [await own([LISTEN]), await stranger()]
  const refused = next(listener.services.diatribe, 'refused')
  let streams = 0
  await other.handle(MESHSUB, stream => { streams++; stream.abort(new Error('unwanted')) })
  const connection = await other.dial(listener.getMultiaddrs()[0])
  const begin = Date.now()

  const stream = await connection.newStream(MESHSUB)
  await within(1_000, closed(stream))
  assert.equal(stream.status, 'reset')
  await within(4_000, closed(connection))
  assert(Date.now() - begin > 2_500, 'not before its time')
  assert.equal((await refused).code, 'TIMEOUT')
  assert.equal(streams, 0)
  assert.deepEqual(listener.services.diatribe.gossip.getPeers(), [])
  assert.deepEqual(listener.services.diatribe.gossip.getSubscribers(topicOf('lobby')), [])
})

test('a peer that is asked and does not speak the handshake is named', async () => {
  const other = await createLibp2p({
    addresses: { listen: [LISTEN] },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() }
  })
  nodes.push(other)
  const dialer = await own([])
  await assert.rejects(dialer.services.diatribe.connect(other.getMultiaddrs()[0]), { stage: 'handshake_1', reason: /does not speak/ })
})

test('frames out of turn close the connection, also after the pass', async () => {
  const [listener, other, peer] = [await own([LISTEN]), await stranger(), await own([])]
  const [address] = listener.getMultiaddrs()

  const early = await other.dial(address)
  const refused = next(listener.services.diatribe, 'refused')
  const pass = encodeFrame('pass', { confirm: new Uint8Array(32) })
  await writeFrame(await early.newStream(PROTOCOL), pass, AbortSignal.timeout(1_000))
  await within(2_000, closed(early))
  assert.equal((await refused).code, 'VIOLATION')

  await peer.services.diatribe.connect(address)
  const [late] = peer.getConnections()
  await writeFrame(await late.newStream(PROTOCOL), pass, AbortSignal.timeout(1_000))
  await within(2_000, closed(late))
})
