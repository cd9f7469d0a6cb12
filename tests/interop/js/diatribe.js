// diatribe for js-libp2p 3: handshake, gate and rooms as one libp2p service.
//
//   const node = await createLibp2p({ …, services: { identify: identify(), ping: ping(), diatribe: diatribe() } })
//   node.services.diatribe.addEventListener('message', ({ detail }) => …)
//   await node.services.diatribe.join('lobby')
//   await node.services.diatribe.connect(multiaddr('/ip4/127.0.0.1/tcp/9000/ws'))
//   await node.services.diatribe.broadcast('lobby', { name: 'chat', data: bytes })
//
// Events: link_up, link_down, refused, message. It runs in browsers as in Node ≥ 22; the node needs websockets, noise,
// yamux, identify and ping, and an Ed25519 key.

import { gossipsub } from '@libp2p/gossipsub'
import { peerIdFromMultihash } from '@libp2p/peer-id'
import { sha256 } from '@noble/hashes/sha2.js'
import * as Digest from 'multiformats/hashes/digest'
import { MAX_BATCH, MAX_EVENTS, MAX_EVENT_DATA, MAX_EVENT_NAME, MAX_MESSAGE, open, roomFault, roomOf, seal, sizeOf, topicOf } from './lib/batch.js'
import { compare, random, toHex } from './lib/bytes.js'
import { Gate } from './lib/gate.js'
import { Local, PROTOCOL } from './lib/handshake.js'
import { Identity } from './lib/identity.js'
import { HandshakeFailure, MAX_STREAMS, Session, hangUp } from './lib/session.js'

export { Identity, parseNetworkKey } from './lib/identity.js'
export { HandshakeFailure } from './lib/session.js'
export { MAX_EVENT_DATA } from './lib/batch.js'

/** A gossipsub implementation may compare its limit with its whole read buffer: this much above the largest message. */
const BUFFER_SLACK = 128 * 1024
const MAX_ROOMS = 32
/** How long a new link may take to say in which rooms it is. */
const SETTLE_MS = 500
/** Two connections that passed within this time were dialled at once from both ends. */
const SIMULTANEOUS_MS = 20_000
/** A connection that lost against another is closed this much later, so that what travels on it arrives. */
const RETIRE_MS = 2_000
/** A link without a gossip stream for this long is renewed. */
const STREAM_LOST_MS = 30_000
const WATCH_MS = 1_000
/** How long a link may take to prove that it is alive when its peer's identity turns up in another process. */
const PROBE_MS = 3_000
/** How often a sender looks whether somebody has come into the room. */
const POLL_MS = 5
const PING = '/ipfs/ping/1.0.0'

/** @param options { networkKey, trust, deny }: a key of 32 bytes; lists of PeerIds as text */
export function diatribe (options = {}) {
  return components => new Diatribe(components, options)
}

/** An event that could not be sent; `reason` says why. */
export class Unsendable extends Error {}

export class Diatribe extends EventTarget {
  #components
  #options
  #gate
  #local
  #instanceId = random(16)
  /** Handshakes by connection, as promises of their end. */
  #sessions = new Map()
  /** Links by peer: `{ peerId, instanceId, since, direction, address, connection, others }`. */
  #links = new Map()
  #rooms = new Map()
  #watch

  constructor (components, options) {
    super()
    this.#components = components
    this.#options = options
    this.#gate = new Gate(components.registrar)
    this.gossip = gossipsub(gossipsubOptions())({ ...componentsOf(components), registrar: this.#gate.registrar })
    dropSigned(this.gossip)
    this.gossip.allowedTopics = { has: topic => roomOf(topic) !== undefined }
    this.gossip.addEventListener('subscription-change', ({ detail }) => this.#onSubscriptions(detail))
  }

  get links () {
    return this.#links.size
  }

  async start () {
    const { events, registrar, privateKey } = this.#components
    if (privateKey.type !== 'Ed25519') throw new Error('diatribe needs an Ed25519 key')
    const identity = new Identity(privateKey.raw.subarray(0, 32))
    this.#local = await Local.create({ identity, networkKey: this.#options.networkKey, instanceId: this.#instanceId })
    events.addEventListener('connection:open', this.#onOpen)
    events.addEventListener('connection:close', this.#onClose)
    const streams = { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }
    await registrar.handle(PROTOCOL, (stream, connection) => this.#sessionOf(connection).session.accept(stream), streams)
    await this.gossip.start()
    this.#watch = setInterval(() => this.#onWatch(), WATCH_MS)
  }

  async stop () {
    clearInterval(this.#watch)
    const { events, registrar } = this.#components
    events.removeEventListener('connection:open', this.#onOpen)
    events.removeEventListener('connection:close', this.#onClose)
    await registrar.unhandle(PROTOCOL)
    await this.gossip.stop()
  }

  /** Dials, and resolves when the link is proved. Throws what the dial threw, or a HandshakeFailure. */
  async connect (multiaddr, options) {
    const connection = await this.#components.connectionManager.openConnection(multiaddr, options)
    await this.#sessionOf(connection).passed
    return connection.remotePeer
  }

  /** Comes into a room. */
  join (room) {
    const fault = roomFault(room)
    if (fault !== undefined) throw new Error(fault)
    if (this.#rooms.has(room)) return
    if (this.#rooms.size >= MAX_ROOMS) throw new Error(`a node is in at most ${MAX_ROOMS} rooms`)
    this.#rooms.set(room, { nextSeq: 1, queue: [], busy: false })
    const topic = topicOf(room)
    this.gossip.topicValidators.set(topic, (from, message) => this.#onMessage(room, from, message))
    this.gossip.subscribe(topic)
  }

  leave (room) {
    if (!this.#rooms.delete(room)) return
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
    if (data.length > MAX_EVENT_DATA) throw new Unsendable(`the event has ${data.length} bytes of data, the limit is ${MAX_EVENT_DATA}: send it in parts`)
    if (new TextEncoder().encode(name).length > MAX_EVENT_NAME) throw new Unsendable(`an event's name has at most ${MAX_EVENT_NAME} bytes`)
    return new Promise((resolve, reject) => {
      own.queue.push({ event: { name, data }, wait, resolve, reject })
      if (!own.busy) this.#drain(room, own)
    })
  }

  /** Sends what has queued, a batch at a time: what queues up meanwhile travels together in the next. */
  async #drain (room, own) {
    own.busy = true
    while (own.queue.length > 0) {
      const taken = takeBatch(own.queue)
      try {
        await this.#writable(room, taken.some(({ wait }) => wait))
        const sealed = seal({
          identity: this.#local.identity,
          instanceId: this.#instanceId,
          firstSeq: own.nextSeq,
          sentAtMs: Date.now(),
          room,
          events: taken.map(({ event }) => event)
        })
        const { recipients } = await this.gossip.publish(topicOf(room), sealed.data)
        const first = own.nextSeq
        own.nextSeq += taken.length
        taken.forEach(({ resolve }, i) => resolve({ id: toHex(sealed.id), seq: first + i, links: recipients.length }))
      } catch (error) {
        for (const { reject } of taken) reject(error)
      }
    }
    own.busy = false
  }

  /**
   * Waits until somebody in the room can be written to, and nobody's queue is full. gossipsub remembers the id of a
   * message also when it had nobody to give it to: it must not be asked before.
   */
  async #writable (room, wait) {
    for (;;) {
      if (!this.#rooms.has(room)) throw new Unsendable(`this node is not in the room ${room}`)
      const peers = this.gossip.getSubscribers(topicOf(room)).map(id => id.toString())
      const streams = peers.map(id => this.gossip.streamsOutbound.get(id)?.rawStream).filter(Boolean)
      const full = streams.filter(stream => stream.writableNeedsDrain)
      if (streams.length > 0 && full.length === 0) return
      // A link that has just come up has not said yet in which rooms it is.
      const settling = peers.length > 0 || [...this.#links.values()].some(link => !link.told)
      if (!settling && !wait) throw new Unsendable(`nobody is in the room ${room}: no link took the event`)
      if (full.length > 0) await Promise.all(full.map(drained))
      else await new Promise(resolve => setTimeout(resolve, POLL_MS))
    }
  }

  // --- connections

  #onOpen = ({ detail: connection }) => { this.#sessionOf(connection) }

  #sessionOf (connection) {
    const known = this.#sessions.get(connection)
    if (known !== undefined) return known
    const session = new Session({
      connection,
      local: this.#local,
      judge: ({ instanceId }) => this.#judge(connection, instanceId),
      open: async () => this.#gate.openInbound(connection),
      onViolation: () => hangUp(connection)
    })
    const entry = { session, passed: session.run().then(peer => this.#onPassed(connection, peer)) }
    entry.passed.catch(error => this.#onFailed(connection, error))
    this.#sessions.set(connection, entry)
    return entry
  }

  async #judge (connection, instanceId) {
    const id = connection.remotePeer.toString()
    const { trust = [], deny = [] } = this.#options
    if (deny.includes(id) || (trust.length > 0 && !trust.includes(id))) return 'POLICY'
    const link = this.#links.get(id)
    if (link !== undefined && link.instanceId !== instanceId) {
      if (await isAlive(link.connection)) return 'DUPLICATE_IDENTITY'
      hangUp(link.connection)
    }
  }

  #onFailed (connection, error) {
    this.#tell('refused', {
      peer_id: connection.remotePeer.toString(),
      address: connection.remoteAddr.toString(),
      stage: error.stage ?? 'link',
      code: error.code,
      reason: error.message
    })
  }

  #onPassed (connection, peer) {
    if (connection.status !== 'open') throw new HandshakeFailure(2, undefined, 'the peer closed the connection')
    this.#gate.openOutbound(connection)
    const peerId = connection.remotePeer
    const link = this.#links.get(peerId.toString())
    const entered = { connection, since: Date.now() }
    if (link !== undefined) {
      const loser = loserOf(this.#components.peerId, link, entered)
      if (loser === link) Object.assign(link, { others: [...link.others, link.connection], ...entered })
      else link.others.push(connection)
      const closing = link.connection === connection ? link.others.at(-1) : connection
      setTimeout(() => hangUp(closing), RETIRE_MS)
      return
    }
    this.#links.set(peerId.toString(), { ...entered, peerId, others: [], instanceId: toHex(peer.instance_id), told: false, streamSeen: Date.now() })
    setTimeout(() => this.#rise(peerId.toString()), SETTLE_MS)
  }

  /** Tells of a link once the peer has said in which rooms it is. */
  #rise (id) {
    const link = this.#links.get(id)
    if (link === undefined || link.told) return
    link.told = true
    this.#tell('link_up', {
      peer_id: id,
      address: link.connection.remoteAddr.toString(),
      direction: link.connection.direction === 'outbound' ? 'dialer' : 'listener',
      links: this.#links.size
    })
  }

  #onSubscriptions ({ peerId }) {
    this.#rise(peerId.toString())
  }

  #onClose = ({ detail: connection }) => {
    this.#sessions.delete(connection)
    this.#gate.closed(connection)
    const id = connection.remotePeer.toString()
    const link = this.#links.get(id)
    if (link === undefined) return
    link.others = link.others.filter(other => other !== connection)
    if (link.connection !== connection) return
    const [heir] = link.others.splice(0, 1)
    if (heir !== undefined) {
      link.connection = heir
      return
    }
    this.#rise(id)
    this.#links.delete(id)
    this.#tell('link_down', { peer_id: id, reason: link.closing ?? 'the peer closed the link, or it was lost', links: this.#links.size })
  }

  /** gossipsub gives up streams silently: have it open another, and in the end renew the link. */
  #onWatch () {
    for (const [id, link] of this.#links) {
      if (this.gossip.streamsOutbound.has(id)) {
        link.streamSeen = Date.now()
      } else if (Date.now() - link.streamSeen > STREAM_LOST_MS) {
        this.#hangUp(link, 'its gossip stream died; a new link is needed')
      } else {
        this.#gate.attach(link.peerId)
      }
    }
  }

  #hangUp (link, reason) {
    link.closing = reason
    for (const connection of [link.connection, ...link.others]) hangUp(connection)
  }

  // --- messages

  #onMessage (room, from, message) {
    let batch
    try {
      batch = open(message.data, room, Date.now())
    } catch (error) {
      if (!error.offence) return 'ignore'
      // Nodes check before they forward: whoever handed it on broke the rule.
      const link = this.#links.get(from.toString())
      if (link !== undefined) {
        this.#tell('refused', { peer_id: from.toString(), address: link.connection.remoteAddr.toString(), stage: 'link', code: 'INVALID_BATCH', reason: error.message })
        this.#hangUp(link, error.message)
      }
      return 'reject'
    }
    const author = peerIdFromMultihash(Digest.decode(batch.author)).toString()
    batch.events.forEach(({ name, data }, i) => this.#tell('message', {
      id: toHex(batch.id),
      room,
      author,
      seq: batch.firstSeq + i,
      name,
      data,
      sent_at: batch.sentAtMs,
      backfill: false
    }))
    return 'accept'
  }

  #tell (type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
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
    msgIdFn: message => sha256(message.data),
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

/** StrictNoSign is checked by js-libp2p but for `from`. */
function dropSigned (gossip) {
  const decode = gossip.decodeRpc.bind(gossip)
  gossip.decodeRpc = bytes => {
    const rpc = decode(bytes)
    rpc.messages = rpc.messages.filter(message => message.from == null)
    return rpc
  }
}

/** The next events that travel together: all that are there, up to the size of a batch; a larger one goes alone. */
function takeBatch (queue) {
  let size = 0
  let count = 0
  while (count < Math.min(queue.length, MAX_EVENTS)) {
    size += sizeOf(queue[count].event)
    if (count > 0 && size > MAX_BATCH) break
    count++
  }
  return queue.splice(0, count)
}

/** Of two connections that crossed, the one dialled by the smaller PeerId stays; else the newer one. */
function loserOf (own, old, entered) {
  const crossed = old.connection.direction !== entered.connection.direction && entered.since - old.since < SIMULTANEOUS_MS
  if (!crossed) return old
  const ownIsSmaller = compare(own.toMultihash().bytes, entered.connection.remotePeer.toMultihash().bytes) < 0
  return (entered.connection.direction === 'outbound') === ownIsSmaller ? old : entered
}

/** js-libp2p's `onDrain` resolves at once from the second time on, whether the stream has drained or not. */
function drained (stream) {
  return new Promise(resolve => {
    for (const type of ['drain', 'close']) stream.addEventListener(type, resolve, { once: true })
  })
}

async function isAlive (connection) {
  const signal = AbortSignal.timeout(PROBE_MS)
  try {
    const stream = await connection.newStream(PING, { signal })
    const answered = new Promise((resolve, reject) => {
      stream.addEventListener('message', resolve, { once: true })
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
    stream.send(random(32))
    await answered
    stream.abort(new Error('answered'))
    return true
  } catch {
    return false
  }
}
