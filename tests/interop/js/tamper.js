#!/usr/bin/env node
// A peer that passes the handshake and then breaks one rule of gossip, for the matrix: it publishes envelopes of which
// one bit was flipped.
//
//   node tamper.js (--listen MULTIADDR | --dial MULTIADDR) --room NAME --flip signature|body|author

import { parseArgs } from 'node:util'
import { multiaddr } from '@multiformats/multiaddr'
import { seal, topicOf } from './lib/batch.js'
import { random } from './lib/bytes.js'
import { Identity, networkId } from './lib/identity.js'
import { start, tell } from './peer.js'

/** Where in an envelope of a short event the bit is: the last byte of the signature, of the data, of the author. */
const AT = { signature: -1, body: -67, author: 39 }

const { values } = parseArgs({
  options: { listen: { type: 'string' }, dial: { type: 'string' }, room: { type: 'string' }, flip: { type: 'string' } }
})
const seed = random(32)
const node = await start({ seed, listen: values.listen === undefined ? [] : [values.listen] })
const service = node.services.diatribe
service.join(values.room)
tell('online', { peer_id: node.peerId.toString(), addresses: node.getMultiaddrs().map(String), rooms: [values.room] })

service.addEventListener('link_up', async ({ detail }) => {
  tell('link_up', detail)
  const { data } = seal({
    identity: new Identity(seed),
    networkId: networkId(),
    instanceId: random(16),
    firstSeq: 1,
    sentAtMs: Date.now(),
    room: values.room,
    events: [{ name: 'chat', data: new TextEncoder().encode('tampered') }]
  })
  data[data.length * (AT[values.flip] < 0) + AT[values.flip]] ^= 1
  // gossipsub drops messages without a stream, and reports them as sent.
  const { gossip } = service
  while (gossip.streamsOutbound.size === 0 || gossip.getSubscribers(topicOf(values.room)).length === 0) {
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  await gossip.publish(topicOf(values.room), data)
  tell('sent', {})
})
service.addEventListener('link_down', ({ detail }) => tell('link_down', detail))
service.addEventListener('refused', ({ detail }) => tell('refused', detail))
if (values.dial !== undefined) await service.connect(multiaddr(values.dial))
