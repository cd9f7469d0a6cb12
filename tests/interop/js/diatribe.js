// diatribe for js-libp2p 3: handshake, gate, rooms, data checking and overlay as one libp2p service.
//
//   const node = await createLibp2p({
//     …, streamMuxers: [yamux()], services: { identify: identify(), ping: ping(), diatribe: diatribe() }
//   })
//   node.services.diatribe.addEventListener('message', ({ detail }) => …)
//   await node.services.diatribe.join('lobby')
//   await node.services.diatribe.connect(multiaddr('/ip4/127.0.0.1/tcp/9000/ws'))
//   await node.services.diatribe.broadcast('lobby', { name: 'chat', data: bytes })
//
// Events: link_up, link_down, refused, message, checked, hint. It runs in browsers as in Node ≥ 22; the node needs
// websockets, noise and ping of libp2p's, the yamux and the identify of this module, and an Ed25519 key.

import { peerIdFromMultihash } from '@libp2p/peer-id'
import * as Digest from 'multiformats/hashes/digest'
import { open, roomFault, roomOf, topicOf } from './lib/batch.js'
import { random, toHex } from './lib/bytes.js'
import { Gate } from './lib/gate.js'
import { gossipOf, moveStream } from './lib/gossip.js'
import { Local, PROTOCOL } from './lib/handshake.js'
import { Heads } from './lib/heads.js'
import { Identity, networkId } from './lib/identity.js'
import { Links } from './lib/links.js'
import { Log } from './lib/log.js'
import { Outbox, Unsendable } from './lib/outbox.js'
import { Overlay } from './lib/overlay.js'
import { MAX_STREAMS } from './lib/session.js'
import { Sync } from './lib/sync.js'

export { Identity, parseNetworkKey } from './lib/identity.js'
export { identify } from './lib/identify.js'
export { yamux } from './lib/muxer.js'
export { HandshakeFailure } from './lib/session.js'
export { MAX_EVENT_DATA } from './lib/batch.js'
export { Unsendable } from './lib/outbox.js'

const MAX_ROOMS = 32
/** The most links of a node, and one more while one of them moves. */
const MAX_LINKS = 5

/**
 * @param options  { networkKey, trust, deny, maxLinks, overlay, sync }: a key of 32 bytes; lists of PeerIds as text; how
 *                 many links there may be; whether redirects are obeyed, and whether rooms are compared with neighbours
 */
export function diatribe (options = {}) {
  return components => new Diatribe(components, options)
}

export class Diatribe extends EventTarget {
  #components
  #options
  #gate
  #links
  #sync
  #overlay
  #author
  #networkId
  #instanceId = random(16)
  /** Rooms by name: `{ log, heads, outbox }`. */
  #rooms = new Map()

  constructor (components, { maxLinks = MAX_LINKS, overlay = true, sync = true, ...options }) {
    super()
    this.#components = components
    this.#options = options
    this.#networkId = networkId(options.networkKey)
    const tell = (type, detail) => this.#tell(type, detail)
    const { trust = [], deny = [] } = options
    const isWelcome = id => !deny.includes(id) && (trust.length === 0 || trust.includes(id))
    this.#gate = new Gate(components.registrar)
    this.gossip = gossipOf(components, this.#gate.registrar)
    this.gossip.addEventListener('subscription-change', ({ detail }) => this.#onSubscriptions(detail))
    this.#links = new Links(components, this.#gate, {
      isWelcome,
      hasRoom: (connection, links) => this.#overlay?.admits(connection, links) ?? links < maxLinks,
      hasStream: id => this.gossip.streamsOutbound.has(id),
      onUp: link => this.#onUp(link),
      onMoved: ({ peerId, connection }) => moveStream(this.gossip, peerId, connection),
      onDown: link => this.#onDown(link),
      onReferred: (connection, contacts) => this.#overlay?.onReferred(connection, contacts),
      tell
    })
    if (sync) {
      const inRoom = room => this.gossip.getSubscribers(topicOf(room)).map(id => id.toString())
      this.#sync = new Sync({
        links: this.#links,
        networkId: this.#networkId,
        rooms: this.#rooms,
        inRoom,
        tell,
        onBatch: batch => this.#tellBatch(batch, true)
      })
    }
    if (overlay) this.#overlay = new Overlay({ components, links: this.#links, maxLinks, isWelcome, tell })
  }

  get links () {
    return this.#links.size
  }

  isLinked (peerId) {
    return this.#links.get(peerId) !== undefined
  }

  async start () {
    const { registrar, privateKey } = this.#components
    if (privateKey.type !== 'Ed25519') throw new Error('diatribe needs an Ed25519 key')
    const identity = new Identity(privateKey.raw.subarray(0, 32))
    this.#author = { identity, networkId: this.#networkId, instanceId: this.#instanceId }
    this.#links.start(await Local.create({ identity, networkKey: this.#options.networkKey, instanceId: this.#instanceId }))
    const streams = { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }
    await registrar.handle(PROTOCOL, (stream, connection) => this.#links.accept(stream, connection), streams)
    await this.#sync?.start(this.#gate.registrar)
    await this.#overlay?.start(this.#gate.registrar)
    await this.gossip.start()
  }

  /** While there are connections still. */
  async beforeStop () {
    await this.#overlay?.leave()
  }

  async stop () {
    await this.#overlay?.stop(this.#gate.registrar)
    await this.#sync?.stop(this.#gate.registrar)
    this.#links.stop()
    await this.#components.registrar.unhandle(PROTOCOL)
    await this.gossip.stop()
  }

  /** Dials, and resolves when the link is proved. Throws the dial's error, or a HandshakeFailure. */
  connect (multiaddr, options) {
    return this.#links.connect(multiaddr, options)
  }

  /** Joins a room. */
  join (room) {
    const fault = roomFault(room)
    if (fault !== undefined) throw new Error(fault)
    if (this.#rooms.has(room)) return
    if (this.#rooms.size >= MAX_ROOMS) throw new Error(`a node is in at most ${MAX_ROOMS} rooms`)
    const log = new Log()
    const heads = new Heads(() => this.#author.identity.peerId)
    this.#rooms.set(room, { log, heads, outbox: this.#outboxOf(room, log, heads) })
    const topic = topicOf(room)
    this.gossip.topicValidators.set(topic, (from, message) => this.#onMessage(room, from, message))
    this.gossip.subscribe(topic)
    for (const id of this.gossip.getSubscribers(topic)) this.#sync?.onJoined(id.toString(), room)
  }

  leave (room) {
    const own = this.#rooms.get(room)
    if (own === undefined) return
    own.outbox.closed = true
    this.#rooms.delete(room)
    this.gossip.unsubscribe(topicOf(room))
    this.gossip.topicValidators.delete(topicOf(room))
  }

  /**
   * Sends an event to everyone in a room. Resolves, when it has left, to the batch's id, the event's number and how
   * many links took it. When nobody is in the room it throws, or waits if so asked.
   */
  async broadcast (room, { name = '', data, wait = false }) {
    const own = this.#rooms.get(room)
    if (own === undefined) throw new Unsendable(`this node is not in the room ${room}`)
    return own.outbox.push({ name, data, wait })
  }

  #outboxOf (room, log, heads) {
    return new Outbox({
      room,
      author: () => this.#author,
      heads,
      gossip: this.gossip,
      awaitsSubscriptions: () => this.#links.awaitsSubscriptions,
      onSealed: (batch, envelope) => {
        log.add(batch, envelope)
        return () => log.remove(batch)
      }
    })
  }

  // --- links

  #onUp (link) {
    this.#overlay?.onUp(link)
    for (const room of this.#rooms.keys()) {
      if (this.gossip.getSubscribers(topicOf(room)).some(id => id.equals(link.peerId))) this.#sync?.onJoined(link.id, room)
    }
    // Its subscriptions may have arrived before this event of the handshake.
    if ([...this.gossip.topics.values()].some(ids => ids.has(link.id))) this.#links.subscribed(link.id)
  }

  #onDown (link) {
    this.#overlay?.onDown(link)
    this.#sync?.onDown(link.id)
  }

  #onSubscriptions ({ peerId, subscriptions }) {
    const id = peerId.toString()
    this.#links.subscribed(id)
    for (const { topic, subscribe } of subscriptions) {
      const room = roomOf(topic)
      if (subscribe && this.#rooms.has(room)) this.#sync?.onJoined(id, room)
    }
  }

  // --- messages

  #onMessage (room, from, message) {
    let batch
    try {
      batch = open(message.data, room, this.#networkId, Date.now())
    } catch (error) {
      if (!error.offence) return 'ignore'
      // Nodes validate before they forward: the forwarding peer broke the rule.
      this.#links.accuse(from.toString(), 'INVALID_BATCH', error.message)
      return 'reject'
    }
    const own = this.#rooms.get(room)
    own?.heads.add(batch)
    const what = own?.log.add(batch, message.data)
    if (what === 'new' || what === 'late') this.#tellBatch(batch, what === 'late')
    return 'accept'
  }

  #tellBatch (batch, backfill) {
    const author = peerIdFromMultihash(Digest.decode(batch.author)).toString()
    batch.events.forEach(({ name, data }, i) => this.#tell('message', {
      id: toHex(batch.id),
      room: batch.room,
      author,
      seq: batch.firstSeq + i,
      name,
      data,
      sent_at: batch.sentAtMs,
      backfill
    }))
  }

  #tell (type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}
