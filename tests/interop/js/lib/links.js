// Links: connections that have passed the handshake, and the choice between several with one peer.
//
// Entry: `connect`, and libp2p's `connection:open`. The rules it keeps: a connection becomes a link by the handshake
// alone; of two with one peer one stays, the same at both ends; a node has no more links than it has room for.

import { compare, random, toHex } from './bytes.js'
import { HandshakeFailure, Session, hangUp } from './session.js'

/** How long a new link may take to say in which rooms it is. */
const SUBSCRIPTION_GRACE_MS = 500
/** Maximum wait of a sender for the subscriptions of a new link, when nobody else is in the room: a far link, or a busy machine. */
const SUBSCRIPTION_TIMEOUT_MS = 3_000
/** Two connections that passed within this time were dialled at once from both ends. */
const SIMULTANEOUS_MS = 20_000
/**
 * Delay before a duplicate connection is closed, so that data in flight on it arrives. This node already sends on the
 * other one; a peer that still sends on both closes earlier.
 */
const DUPLICATE_CLOSE_DELAY_MS = 4_000
/** A link without a gossip stream for this long is renewed. */
const STREAM_LOST_MS = 30_000
const WATCH_MS = 1_000
/** How long a link may take to prove that it is alive when its peer's identity turns up in another process. */
const PROBE_MS = 3_000
const PING = '/ipfs/ping/1.0.0'

export class Links {
  #components
  #gate
  #options
  #local
  /** Handshakes by connection: `{ session, passed }`, the latter a promise of their end. */
  #sessions = new Map()
  /** Links by peer: `{ id, peerId, instanceId, since, connection, others, isReported, closing, isOffender }`. */
  #links = new Map()
  /** Connections that were admitted, with a slot held, and that are no links yet. */
  #admitted = new Set()
  #watch

  /**
   * @param options   { isWelcome(id), hasRoom(connection, links), hasStream(id), onUp(link), onMoved(link),
   *                  onDown(link), onReferred(connection, contacts), tell(type, detail) };
   *                  `onUp` and `onDown` are called at once, the application's events follow when the peer's rooms are known
   */
  constructor (components, gate, options) {
    this.#components = components
    this.#gate = gate
    this.#options = options
  }

  get size () {
    return this.#links.size
  }

  get (id) {
    return this.#links.get(id)
  }

  [Symbol.iterator] () {
    return this.#links.values()
  }

  start (local) {
    this.#local = local
    this.#components.events.addEventListener('connection:open', this.#onOpen)
    this.#components.events.addEventListener('connection:close', this.#onClose)
    this.#watch = setInterval(() => this.#onWatch(), WATCH_MS)
  }

  stop () {
    clearInterval(this.#watch)
    this.#components.events.removeEventListener('connection:open', this.#onOpen)
    this.#components.events.removeEventListener('connection:close', this.#onClose)
  }

  /** Dials, and resolves to the PeerId when the link is proved. Throws the dial's error, or a HandshakeFailure. */
  async connect (multiaddr, options) {
    const connection = await this.#components.connectionManager.openConnection(multiaddr, options)
    await this.#sessionOf(connection).passed
    return connection.remotePeer
  }

  /** A handshake stream that a peer opened. */
  accept (stream, connection) {
    return this.#sessionOf(connection).session.accept(stream)
  }

  /** Resolves when a connection has passed; streams behind the gate may arrive a little earlier. */
  async passed (connection) {
    if (!this.#sessions.has(connection)) throw new Error('the connection is closed')
    return this.#sessions.get(connection).passed
  }

  hangUp (link, reason) {
    link.closing = reason
    for (const connection of [link.connection, ...link.others]) hangUp(connection)
  }

  /** A peer broke a rule on a link: says so and ends the link. */
  accuse (id, code, reason) {
    const link = this.#links.get(id)
    if (link === undefined) return
    this.#options.tell('refused', { peer_id: id, address: link.connection.remoteAddr.toString(), stage: 'link', code, reason })
    link.isOffender = true
    this.hangUp(link, reason)
  }

  /** Returns whether a recent link has not sent its subscriptions yet. */
  get awaitsSubscriptions () {
    return [...this.#links.values()].some(link => !link.hasSubscriptions && Date.now() - link.since < SUBSCRIPTION_TIMEOUT_MS)
  }

  /** A peer has sent its subscriptions. */
  subscribed (id) {
    const link = this.#links.get(id)
    if (link !== undefined) link.hasSubscriptions = true
    this.#reportUp(id)
  }

  /** Reports a link once the peer has sent its subscriptions, or after a timeout. */
  #reportUp (id) {
    const link = this.#links.get(id)
    if (link === undefined || link.isReported) return
    link.isReported = true
    this.#options.tell('link_up', {
      peer_id: id,
      address: link.connection.remoteAddr.toString(),
      direction: link.connection.direction === 'outbound' ? 'dialer' : 'listener',
      links: this.#links.size
    })
  }

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
    entry.passed.catch(error => this.#onFailed(connection, error)).finally(() => this.#admitted.delete(connection))
    this.#sessions.set(connection, entry)
    return entry
  }

  async #judge (connection, instanceId) {
    const id = connection.remotePeer.toString()
    if (!this.#options.isWelcome(id)) return 'POLICY'
    const link = this.#links.get(id)
    if (link !== undefined && link.instanceId !== instanceId) {
      if (await isAlive(link.connection)) return 'DUPLICATE_IDENTITY'
      hangUp(link.connection)
    }
    const others = new Set([...this.#links.keys(), ...[...this.#admitted].map(({ remotePeer }) => remotePeer.toString())])
    others.delete(id)
    if (!this.#options.hasRoom(connection, others.size)) return 'BUSY'
    this.#admitted.add(connection)
  }

  #onFailed (connection, error) {
    if (error.referrals !== undefined) this.#options.onReferred?.(connection, error.referrals)
    this.#options.tell('refused', {
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
    const id = peerId.toString()
    const link = this.#links.get(id)
    const entered = { connection, since: Date.now() }
    if (link !== undefined) {
      const loser = loserOf(this.#components.peerId, link, entered)
      if (loser === link) Object.assign(link, { others: [...link.others, link.connection], ...entered })
      else link.others.push(connection)
      const closing = link.connection === connection ? link.others.at(-1) : connection
      setTimeout(() => hangUp(closing), DUPLICATE_CLOSE_DELAY_MS)
      if (loser === link) this.#options.onMoved(link)
      return
    }
    const risen = { ...entered, id, peerId, others: [], instanceId: toHex(peer.instance_id), isReported: false, hasSubscriptions: false, streamSeen: Date.now() }
    this.#links.set(id, risen)
    setTimeout(() => this.#reportUp(id), SUBSCRIPTION_GRACE_MS)
    this.#options.onUp(risen)
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
    this.#reportUp(id)
    this.#links.delete(id)
    this.#options.tell('link_down', { peer_id: id, reason: link.closing ?? 'the peer closed the link, or it was lost', links: this.#links.size })
    this.#options.onDown(link)
  }

  /** gossipsub gives up streams silently: have it open another, and in the end renew the link. */
  #onWatch () {
    for (const [id, link] of this.#links) {
      if (this.#options.hasStream(id)) {
        link.streamSeen = Date.now()
      } else if (Date.now() - link.streamSeen > STREAM_LOST_MS) {
        this.hangUp(link, 'its gossip stream died; a new link is needed')
      } else {
        this.#gate.attach(link.peerId)
      }
    }
  }
}

/** Of two connections that crossed, the one dialled by the smaller PeerId stays; else the newer one. */
function loserOf (own, old, entered) {
  const crossed = old.connection.direction !== entered.connection.direction && entered.since - old.since < SIMULTANEOUS_MS
  if (!crossed) return old
  const ownIsSmaller = compare(own.toMultihash().bytes, entered.connection.remotePeer.toMultihash().bytes) < 0
  return (entered.connection.direction === 'outbound') === ownIsSmaller ? old : entered
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
