// The bytes sent on a connection besides diatribe's own messages: frames of yamux, identify, gossipsub's protocols.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { MAX_FRAME_DATA } from '../lib/muxer.js'
import { resolve, start } from '../peer.js'

const LISTEN = '/ip4/127.0.0.1/tcp/0/ws'
const PROTOCOL = '/test/1.0.0'
const MIB = 1024 * 1024
const nodes = []
after(() => Promise.all(nodes.map(node => node.stop())))

async function own () {
  const node = await start({ listen: [LISTEN] })
  nodes.push(node)
  return node
}

/** A libp2p program that knows nothing of the handshake. */
async function stranger () {
  const node = await createLibp2p({
    addresses: { listen: [LISTEN] },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionMonitor: { enabled: false },
    services: { identify: identify({ runOnConnectionOpen: false }) }
  })
  nodes.push(node)
  return node
}

test('a stream writes no frame of yamux that is larger than others take, on either side of the connection', async () => {
  for (const isDialer of [true, false]) {
    const [node, other] = [await own(), await own()]
    let received = 0
    const all = new Promise(resolve => other.handle(PROTOCOL, stream => stream.addEventListener('message', ({ data }) => {
      received += data.byteLength
      if (received === 10 * MIB) resolve()
    })))
    const [from, to] = isDialer ? [node, other] : [other, node]
    await from.services.diatribe.connect(to.getMultiaddrs()[0])
    const [connection] = node.getConnections()
    const sizes = []
    const { muxer } = connection
    const send = muxer.sendFrame.bind(muxer)
    muxer.sendFrame = (header, data) => {
      if (data !== undefined) sizes.push(header.length)
      return send(header, data)
    }
    const stream = await connection.newStream(PROTOCOL)
    // In parts: the window grows while they are read.
    for (let i = 0; i < 10; i++) {
      if (!stream.send(new Uint8Array(MIB))) await new Promise(resolve => stream.addEventListener('drain', resolve, { once: true }))
    }
    await all
    assert(sizes.length > 10 * MIB / MAX_FRAME_DATA - 1)
    assert.equal(Math.max(...sizes), MAX_FRAME_DATA)
  }
})

test('identify reveals no address', async () => {
  const [node, other] = [await own(), await stranger()]
  const connection = await other.dial(node.getMultiaddrs()[0])
  const told = await other.services.identify.identify(connection)
  assert.deepEqual(told.listenAddrs, [])
  assert.equal(told.observedAddr, undefined)
  assert.equal(told.signedPeerRecord, undefined)
  assert(told.protocols.includes('/diatribe/handshake/1.0.0'))
})

test('the protocols of gossip are those three that the contract names', async () => {
  const node = await own()
  const gossip = node.services.diatribe.gossip
  assert.deepEqual(gossip.protocols, ['/meshsub/1.2.0', '/meshsub/1.1.0', '/meshsub/1.0.0'])
  assert.deepEqual(node.getProtocols().filter(name => /meshsub|floodsub/.test(name)).sort(), gossip.protocols.toSorted())
})

test('a name is looked up before it is dialled, so that the link has the scope of its socket; with TLS it stays', async () => {
  const names = { '/dns4/localhost/tcp/9000/ws': '/ip4/127.0.0.1/tcp/9000/ws', '/dns4/localhost/tcp/9000/tls/ws': '/dns4/localhost/tcp/9000/tls/ws', '/ip6/::1/tcp/9000/ws': '/ip6/::1/tcp/9000/ws' }
  for (const [given, dialled] of Object.entries(names)) assert.equal((await resolve(multiaddr(given))).toString(), dialled)
  const id = '12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB'
  assert.equal((await resolve(multiaddr(`/dns/localhost/tcp/1/ws/p2p/${id}`))).toString().replace(/^\/ip.\/[^/]*/, ''), `/tcp/1/ws/p2p/${id}`)
})
