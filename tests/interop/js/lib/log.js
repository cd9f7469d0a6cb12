// The log of a room in memory: envelopes byte for byte, by batch id.
//
// The rules it keeps: an event is delivered to the application once (dedup), on any path and any number of arrivals. Of two batches
// of one author with the same numbers both are kept, or two neighbours would fetch them from each other for ever, and
// the first one is delivered. Retention is bounded by count and by bytes: the oldest batch of the author with most bytes is
// removed first, so that nobody can remove the batches of others; a removed batch still counts as held in comparisons.

import { EVENT_OVERHEAD } from './batch.js'
import { toHex } from './bytes.js'
import { order } from './negentropy.js'

/** The most batches that are kept of a room. */
export const MAX_BATCHES = 16_384
/** Maximum size of the kept envelopes of a room in bytes, including the extra cost of their events; far above one envelope. */
export const MAX_BYTES = 16 * 1024 * 1024
/** Maximum number of remembered ids; more than kept batches, so that a removed batch is not delivered again. */
export const MAX_KNOWN = 4 * MAX_BATCHES
/** The most items of a room, those of batches that made room included. */
export const MAX_ITEMS = 4 * MAX_BATCHES
/** Maximum time of the beginning before now: a flood of batches dated ahead must not move it further. */
export const MIN_KEPT_MS = 10 * 60_000

export class Log {
  /** Nothing older than this is kept, in Unix milliseconds. */
  sinceMs = 0
  bytes = 0
  #limits
  #envelopes = new Map()
  /** When those were sent that made room, in Unix milliseconds, by their ids. */
  #removed = new Map()
  /** Bytes of each author. */
  #shares = new Map()
  /** `{ timestamp, id, author, cost }`, as data checking compares them, in their order. */
  #items = []
  #known = new Set()
  /** Delivered numbers, by author and instance: `[first, last]` in their order, one for each batch that is kept. */
  #numbers = new Map()

  constructor (limits = {}) {
    this.#limits = { batches: MAX_BATCHES, bytes: MAX_BYTES, known: MAX_KNOWN, items: MAX_ITEMS, ...limits }
  }

  /** How many batches are kept. */
  get size () {
    return this.#envelopes.size
  }

  /**
   * Adds a valid batch. Returns `new`: to be delivered; `late`: to be delivered, after later events of the same process of
   * the author; `kept`: stored, but its numbers were delivered before; `known`: it was here. One that is older than the
   * beginning is still delivered: a clock may be slow.
   */
  add (batch, envelope, now = Date.now()) {
    const key = toHex(batch.id)
    if (this.#known.has(key)) return 'known'
    this.#known.add(key)
    if (this.#known.size > this.#limits.known) this.#known.delete(this.#known.values().next().value)
    if (batch.sentAtMs < this.sinceMs) return 'new'
    const what = this.#number(batch)
    const item = {
      timestamp: BigInt(batch.sentAtMs),
      id: batch.id,
      author: toHex(batch.author),
      cost: envelope.length + EVENT_OVERHEAD * batch.events.length,
      batch: what === 'kept' ? undefined : numbersOf(batch)
    }
    // A copy: gossip passes a view into a larger buffer.
    this.#envelopes.set(key, envelope.slice())
    this.#count(item, item.cost)
    this.#items.splice(this.#place(item), 0, item)
    while (this.size > this.#limits.batches || this.bytes > this.#limits.bytes) this.#makeRoom()
    while (this.#items.length > this.#limits.items) this.#moveBeginning(now)
    return what
  }

  /** Removes a batch that was sent to nobody. */
  remove ({ id, sentAtMs }) {
    const key = toHex(id)
    this.#known.delete(key)
    if (this.#envelopes.has(key)) this.#forget(this.#place({ timestamp: BigInt(sentAtMs), id }))
  }

  /** Whether an id was here, or in a part that was removed. */
  knows (key) {
    return this.#known.has(key)
  }

  /** The envelope of an id in hex. */
  get (key) {
    return this.#envelopes.get(key)
  }

  /** When a batch was sent that made room, by its id in hex; undefined when it did not. */
  removedAt (key) {
    return this.#removed.get(key)
  }

  /** The items of a window, since ≤ sent at < until; without an end when until is 0. */
  window (sinceMs, untilMs) {
    const at = ms => this.#place({ timestamp: BigInt(ms), id: new Uint8Array() })
    return this.#items.slice(at(sinceMs), BigInt(untilMs) === 0n ? undefined : at(untilMs))
  }

  #place (item) {
    let [from, to] = [0, this.#items.length]
    // Most arriving batches are the newest.
    if (to > 0 && order(this.#items[to - 1], item) < 0) return to
    while (from < to) {
      const middle = (from + to) >> 1
      if (order(this.#items[middle], item) < 0) from = middle + 1
      else to = middle
    }
    return from
  }

  #count ({ author }, bytes) {
    this.bytes += bytes
    const share = (this.#shares.get(author) ?? 0) + bytes
    if (share > 0) this.#shares.set(author, share)
    else this.#shares.delete(author)
  }

  /** Removes the oldest batch of the author with most bytes. */
  #makeRoom () {
    const [author] = [...this.#shares].reduce((most, share) => share[1] > most[1] ? share : most)
    const item = this.#items.find(item => item.author === author && this.#envelopes.has(toHex(item.id)))
    this.#drop(item)
    this.#removed.set(toHex(item.id), Number(item.timestamp))
  }

  /** Takes the envelope of an item away. */
  #drop (item) {
    if (this.#envelopes.delete(toHex(item.id))) this.#count(item, -item.cost)
  }

  /** Forgets the oldest items; of the young ones, only removed batches. */
  #moveBeginning (now) {
    const { timestamp } = this.#items[0]
    if (Number(timestamp) > now - MIN_KEPT_MS) {
      this.#forget(this.#items.findIndex(({ id }) => this.#removed.has(toHex(id))))
      return
    }
    this.sinceMs = Number(timestamp) + 1
    // All of that millisecond: a window begins with a whole one.
    while (this.#items.length > 0 && this.#items[0].timestamp === timestamp) this.#forget(0)
  }

  #forget (index) {
    const [item] = this.#items.splice(index, 1)
    const { id, batch } = item
    this.#drop(item)
    this.#removed.delete(toHex(id))
    if (batch === undefined) return
    const delivered = this.#numbers.get(batch.writer)
    delivered.splice(delivered.findIndex(([first]) => first === batch.first), 1)
    if (delivered.length === 0) this.#numbers.delete(batch.writer)
  }

  /** Notes a batch's numbers, unless one of them was delivered. */
  #number (batch) {
    const { writer, first, last } = numbersOf(batch)
    const delivered = this.#numbers.get(writer) ?? []
    let [from, to] = [0, delivered.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if (delivered[middle][1] < first) from = middle + 1
      else to = middle
    }
    if (from < delivered.length && delivered[from][0] <= last) return 'kept'
    delivered.splice(from, 0, [first, last])
    this.#numbers.set(writer, delivered)
    return from === delivered.length - 1 ? 'new' : 'late'
  }
}

function numbersOf ({ author, instanceId, firstSeq, events }) {
  return { writer: `${toHex(author)} ${toHex(instanceId)}`, first: firstSeq, last: firstSeq + events.length - 1 }
}
