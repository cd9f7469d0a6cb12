// gossipsub configured as the contract requires, with workarounds for js-libp2p.

import { gossipsub } from '@libp2p/gossipsub'
import { MAX_MESSAGE, messageId, roomOf } from './batch.js'

/** A gossipsub implementation may compare its limit with its whole read buffer: this much above the largest message. */
const BUFFER_SLACK = 128 * 1024

/** The only protocols that are offered and accepted, even if the library supports further ones. */
const PROTOCOLS = ['/meshsub/1.2.0', '/meshsub/1.1.0', '/meshsub/1.0.0']
/** Fields of a message that are absent under StrictNoSign: one that is there is too much, also when it is empty. */
const SIGNING_FIELDS = ['from', 'seqno', 'signature', 'key']

/** A gossipsub that knows only what `registrar` tells it. */
export function gossipOf (components, registrar) {
  const gossip = gossipsub(gossipsubOptions())({ ...componentsOf(components), registrar })
  gossip.protocols = PROTOCOLS
  dropSigned(gossip)
  gossip.allowedTopics = { has: topic => roomOf(topic) !== undefined }
  return gossip
}

/**
 * Moves the outbound gossip stream of a peer to another of its connections, before the old one closes. gossipsub opens no
 * second stream: for the moment in which it looks the first one is hidden; it stays in use until the second is there.
 */
export async function moveStream (gossip, peerId, connection) {
  const id = peerId.toString()
  const old = gossip.streamsOutbound.get(id)
  if (old === undefined) return
  gossip.streamsOutbound.delete(id)
  const opened = gossip.createOutboundStream(peerId, connection)
  gossip.streamsOutbound.set(id, old)
  await opened
  // Data already written on it is still sent.
  if (gossip.streamsOutbound.get(id) !== old) await old.rawStream.close().catch(() => {})
}

/** libp2p's components behind a proxy: they are looked up by name, and cannot be spread. */
function componentsOf (components) {
  const names = ['peerId', 'privateKey', 'peerStore', 'connectionManager', 'logger', 'metrics']
  return Object.fromEntries(names.map(name => [name, optional(() => components[name])]))
}

function optional (get) {
  try { return get() } catch { return undefined }
}

function gossipsubOptions () {
  return {
    globalSignaturePolicy: 'StrictNoSign',
    msgIdFn: ({ topic, data }) => messageId(topic, data),
    fallbackToFloodsub: false,
    D: 4,
    Dlo: 3,
    Dhi: 5,
    Dscore: 3,
    Dout: 2,
    doPX: false,
    seenTTL: 300_000,
    maxInboundDataLength: MAX_MESSAGE + BUFFER_SLACK,
    maxInboundStreams: 8,
    maxOutboundStreams: 8,
    // The default ignores everyone behind one address once there are more than a few.
    scoreParams: { IPColocationFactorWeight: 0 }
  }
}

/** Drops messages with a field of signing before js-libp2p sees them: it does not check all of them, and counts others. */
function dropSigned (gossip) {
  const decode = gossip.decodeRpc.bind(gossip)
  gossip.decodeRpc = bytes => {
    const rpc = decode(bytes)
    rpc.messages = rpc.messages.filter(message => SIGNING_FIELDS.every(field => message[field] == null))
    return rpc
  }
}
