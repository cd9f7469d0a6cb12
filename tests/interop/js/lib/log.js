// What was said in a room: envelopes byte for byte, in memory, each under its batch id.
//
// The rules it keeps: an event is told to the application once, whichever way it comes and however often. Of two batches
// of one author with the same numbers both are kept, or two neighbours would fetch them from each other for ever, and
// the first one is told. Bounded by count and by bytes: room is made by the author who has most, its oldest batch first,
// so that nobody can remove what others have said; a batch that made room still counts as held in comparisons.

import { EVENT_OVERHEAD } from './batch.js'
import { toHex } from './bytes.js'
import { order } from './negentropy.js'

/** The most batches that are kept of a room. */
export const MAX_BATCHES = 16_384
/** The most bytes of envelopes that are kept of a room, with what their events count besides; far above one envelope. */
export const MAX_BYTES = 16 * 1024 * 1024
/** Ids that are remembered; more than are kept, so that what was removed is not told again. */
export const MAX_KNOWN = 4 * MAX_BATCHES
/** The most items of a room, those of batches that made room included. */
export const MAX_ITEMS = 4 * MAX_BATCHES
/** What is younger counts whatever comes: a flood that is dated ahead must not move the beginning there. */
export const MIN_KEPT_MS = 10 * 60_000

export class Log {
  /** Nothing older than this is kept, in Unix milliseconds. */
  sinceMs = 0
  bytes = 0
  #limits
  #envelopes = new Map()
  /** When those were sent that made room, in Unix milliseconds, by their ids. */
  #removed = new Map()
  /** What each author has of the bytes. */
  #shares = new Map()
  /** `{ timestamp, id, author, cost }`, as data checking compares them, in their order. */
  #items = []
  #known = new Set()
  /** Numbers that were told, by author and instance: `[first, last]` in their order, one for each batch that is kept. */
  #numbers = new Map()

  constructor (limits = {}) {
    this.#limits = { batches: MAX_BATCHES, bytes: MAX_BYTES, known: MAX_KNOWN, items: MAX_ITEMS, ...limits }
  }

  /** How many batches are kept. */
  get size () {
    return this.#envelopes.size
  }

  /**
   * Takes a batch that was found in order. `new`: the application is to be told; `late`: as well, and something later of
   * the same author's process was told before; `kept`: it is not, its numbers were told before; `known`: it was here. One that is older than what is kept is told all the same: a clock may be late.
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
    // A copy: what gossip hands over is a view into a larger buffer.
    this.#envelopes.set(key, envelope.slice())
    this.#count(item, item.cost)
    this.#items.splice(this.#place(item), 0, item)
    while (this.size > this.#limits.batches || this.bytes > this.#limits.bytes) this.#makeRoom()
    while (this.#items.length > this.#limits.items) this.#moveBeginning(now)
    return what
  }

  /** Takes back a batch that came to nobody. */
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
    // Most of what comes is the newest.
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

  /** Gives up the oldest batch of the author who has most. */
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

  /** Forgets the oldest items; of what is young, only those that made room. */
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
    const told = this.#numbers.get(batch.writer)
    told.splice(told.findIndex(([first]) => first === batch.first), 1)
    if (told.length === 0) this.#numbers.delete(batch.writer)
  }

  /** Notes a batch's numbers, unless one of them was told. */
  #number (batch) {
    const { writer, first, last } = numbersOf(batch)
    const told = this.#numbers.get(writer) ?? []
    let [from, to] = [0, told.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if (told[middle][1] < first) from = middle + 1
      else to = middle
    }
    if (from < told.length && told[from][0] <= last) return 'kept'
    told.splice(from, 0, [first, last])
    this.#numbers.set(writer, told)
    return from === told.length - 1 ? 'new' : 'late'
  }
}

function numbersOf ({ author, instanceId, firstSeq, events }) {
  return { writer: `${toHex(author)} ${toHex(instanceId)}`, first: firstSeq, last: firstSeq + events.length - 1 }
}
