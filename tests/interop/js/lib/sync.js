// Data checking (anti-entropy): compares the rooms with the neighbours, so that all end with the same batches.
//
// Entry: the gated protocol `/diatribe/sync/1.0.0`, `onUp`, and a timer. The rules it keeps: one comparison at a time
// with a neighbour; batches in flight by gossip are left out; a neighbour over its quota gets RetryAfter, and one that
// does not wait is disconnected.

import { Quota } from './quota.js'
import { BatchError } from './batch.js'
import { toHex } from './bytes.js'
import { Comparison, NotSubscribed, notifyLagging, windowOf } from './comparison.js'
import { NotSpoken, Violation, answering, isViolation } from './exchange.js'
import { BadFrame, answer } from './negentropy.js'
import { MAX_ANSWERED, MAX_REQUEST, PROTOCOL, decodeRequest, encodeResponse, fill } from './sync-messages.js'

/** Each room is compared with one neighbour in turn this often. */
const INTERVAL_MS = 10_000
/** After a comparison that failed. */
const RETRY_MS = 5_000
/** Batches younger than this may still be on their way by gossip. */
const UNDERWAY_MS = 2_000
const REQUEST_MS = 10_000
/** Minimum interval between two Lagging notices to one neighbour about one room. */
const LAGGING_INTERVAL_MS = 1_000

const RETRY_AFTER_MS = 500
const MAX_STREAMS = 8

export class Sync {
  #links
  #networkId
  #rooms
  #tell
  #onBatch
  /** Per neighbour: `{ quota, plain, rooms, due, running }`. */
  #neighbours = new Map()
  #claimed = new Set()
  #turn = 0
  #timers = new Set()

  /**
   * @param networkId 32 bytes
   * @param rooms     Map of the rooms this node is in: `{ log, heads }` by name
   * @param inRoom    room => ids of the linked peers that are in it
   * @param tell      (type, detail) => …
   * @param onBatch   batch => …: a batch that is new to the application
   */
  constructor ({ links, networkId, rooms, inRoom, tell, onBatch }) {
    this.#networkId = networkId
    this.inRoom = inRoom
    this.#links = links
    this.#rooms = rooms
    this.#tell = tell
    this.#onBatch = onBatch
  }

  async start (registrar) {
    const handler = answering(
      (body, connection) => this.#answer(body, connection),
      (connection, error) => this.#links.accuse(connection.remotePeer.toString(), 'INVALID_SYNC', error.message),
      { limit: MAX_REQUEST, timeoutMs: REQUEST_MS }
    )
    await registrar.handle(PROTOCOL, handler, { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS })
    this.#later(INTERVAL_MS, () => this.#onInterval())
  }

  async stop (registrar) {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#neighbours.clear()
    await registrar.unhandle(PROTOCOL)
  }

  onDown (id) {
    this.#neighbours.delete(id)
  }

  /** A neighbour joined a room, or was in it when its link started, or this node joined. */
  onJoined (id, room) {
    if (this.#links.get(id) === undefined) return
    this.#of(id).rooms.delete(room)
    this.#compareSoon(id, room, 0)
  }

  /** Each room with one neighbour in turn. */
  #onInterval () {
    this.#later(INTERVAL_MS, () => this.#onInterval())
    this.#turn++
    for (const room of this.#rooms.keys()) {
      const ids = this.#taking(room)
      if (ids.length > 0) this.#compareSoon(ids[this.#turn % ids.length], room)
    }
  }

  /** The neighbours in a room that take part. */
  #taking (room) {
    return this.inRoom(room).filter(id => this.#links.get(id) !== undefined && !this.#of(id).plain)
  }

  #of (id) {
    let neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) {
      neighbour = {
        quota: new Quota(Date.now()),
        plain: false,
        /** The state of a neighbour in a room: `{ sinceMs, removed, agreed, notSubscribed, notifiedAt }`. */
        rooms: new Map(),
        /** Rooms to compare, and whether the window has an end. */
        due: new Map(),
        running: false
      }
      this.#neighbours.set(id, neighbour)
    }
    return neighbour
  }

  #later (ms, what) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      what()
    }, ms)
    this.#timers.add(timer)
  }

  // --- opening

  /** @param underwayMs  younger batches are left out; 0 takes all */
  #compareSoon (id, room, underwayMs = UNDERWAY_MS) {
    if (this.#links.get(id) === undefined || !this.#rooms.has(room)) return
    const neighbour = this.#of(id)
    if (neighbour.plain || this.#about(neighbour, room).notSubscribed) return
    neighbour.due.set(room, Math.min(underwayMs, neighbour.due.get(room) ?? underwayMs))
    if (!neighbour.running) this.#work(id, neighbour)
  }

  #about (neighbour, room) {
    let about = neighbour.rooms.get(room)
    if (about === undefined) neighbour.rooms.set(room, about = { sinceMs: 0, removed: new Map(), agreed: false, notSubscribed: false, notifiedAt: 0 })
    return about
  }

  async #work (id, neighbour) {
    neighbour.running = true
    while (neighbour.due.size > 0 && !neighbour.plain) {
      const [[room, underwayMs]] = neighbour.due
      neighbour.due.delete(room)
      await this.#compare(id, neighbour, room, underwayMs)
    }
    neighbour.running = false
  }

  async #compare (id, neighbour, room, underwayMs) {
    const connection = this.#links.get(id)?.connection
    const { log, heads } = this.#rooms.get(room) ?? {}
    if (connection === undefined || log === undefined) return
    const about = this.#about(neighbour, room)
    const comparison = new Comparison({
      connection,
      room,
      networkId: this.#networkId,
      log,
      heads,
      removed: about.removed,
      sinceMs: about.sinceMs,
      untilMs: underwayMs === 0 ? 0 : Date.now() - underwayMs,
      claimed: this.#claimed,
      onBatch: this.#onBatch
    })
    try {
      await comparison.run()
      Object.assign(about, { agreed: comparison.agreed, sinceMs: comparison.sinceMs })
      this.#tellChecked(id, room, comparison)
      if (comparison.have.size > 0) await this.#notifyLagging(id, room, comparison.have.size)
    } catch (error) {
      this.#onFailed(id, neighbour, room, error)
    }
    if (comparison.repaired > 0) await Promise.all(this.#taking(room).filter(other => other !== id).map(other => this.#notifyLagging(other, room, 0)))
  }

  async #notifyLagging (id, room, count) {
    const connection = this.#links.get(id)?.connection
    if (connection === undefined) return
    const neighbour = this.#of(id)
    const about = this.#about(neighbour, room)
    if (Date.now() - about.notifiedAt < LAGGING_INTERVAL_MS) return
    about.notifiedAt = Date.now()
    await notifyLagging(connection, room, count).catch(error => this.#onFailed(id, neighbour, room, error))
  }

  #onFailed (id, neighbour, room, error) {
    if (error instanceof NotSpoken) neighbour.plain = true
    else if (error instanceof NotSubscribed) this.#about(neighbour, room).notSubscribed = true
    else if (error instanceof BatchError || isViolation(error)) this.#links.accuse(id, 'INVALID_SYNC', error.message)
    else this.#later(RETRY_MS, () => this.#compareSoon(id, room))
  }

  #tellChecked (id, room, { repaired, bytes }) {
    const taking = this.#taking(room)
    this.#tell('checked', {
      room,
      peer_id: id,
      neighbours: taking.length,
      agreed: taking.filter(other => this.#about(this.#of(other), room).agreed).length,
      repaired,
      bytes
    })
  }

  // --- answering

  async #answer (body, connection) {
    await this.#links.passed(connection)
    const id = connection.remotePeer.toString()
    const request = decodeRequest(body)
    const log = this.#rooms.get(request.room)?.log
    if (log === undefined || this.#links.get(id) === undefined) return encodeResponse('notSubscribed', {})
    const due = this.#of(id).quota.ask(Date.now(), request.kind)
    if (due === 'offence') throw new Violation('the peer goes on asking although it was told to wait')
    if (due === 'retryAfter') return encodeResponse('retryAfter', { after_ms: RETRY_AFTER_MS })
    switch (request.kind) {
      case 'compare': return this.#onCompare(request, log, this.#about(this.#of(id), request.room).removed)
      case 'fetch': return this.#onFetch(id, request, log)
      case 'lagging':
        this.#compareSoon(id, request.room)
        return encodeResponse('ack', {})
    }
  }

  #onCompare ({ since_ms: sinceMs, until_ms: untilMs, frame }, log, removed) {
    if (sinceMs < BigInt(log.sinceMs)) return encodeResponse('ranges', { since_ms: log.sinceMs })
    try {
      return encodeResponse('ranges', { frame: answer(windowOf(log, removed, sinceMs, untilMs), frame, MAX_ANSWERED) })
    } catch (error) {
      throw error instanceof BadFrame ? new Violation(error.message) : error
    }
  }

  #onFetch (id, { ids }, log) {
    const batches = fill(ids, id => log.get(toHex(id)) ?? log.removedAt(toHex(id)))
    this.#of(id).quota.served(batches.envelopes.reduce((sum, envelope) => sum + envelope.length, 0))
    return encodeResponse('batches', batches)
  }
}
