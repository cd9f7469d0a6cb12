// What was said in a room: envelopes byte for byte, in memory, each under its batch id.
//
// The rule it keeps: an event is told to the application once, whichever way it comes and however often. Of two batches
// of one author with the same numbers both are kept, or two neighbours would fetch them from each other for ever, and
// the first one is told. Bounded by count and by bytes: what is oldest goes first, and nothing that old is kept again.

import { toHex } from './bytes.js'
import { order } from './negentropy.js'

/** The most batches that are kept of a room. */
export const MAX_BATCHES = 16_384
/** The most bytes of envelopes that are kept of a room; far above one envelope. */
export const MAX_BYTES = 16 * 1024 * 1024
/** Ids that are remembered; more than are kept, so that what was removed is not told again. */
export const MAX_KNOWN = 4 * MAX_BATCHES

export class Log {
  /** Nothing older than this is kept, in Unix milliseconds. */
  sinceMs = 0
  bytes = 0
  #limits
  #envelopes = new Map()
  /** `{ timestamp, id }`, as data checking compares them, in their order. */
  #items = []
  #known = new Set()
  /** Numbers that were told, by author and instance: `[first, last]` in their order, one for each batch that is kept. */
  #numbers = new Map()

  constructor (limits = {}) {
    this.#limits = { batches: MAX_BATCHES, bytes: MAX_BYTES, known: MAX_KNOWN, ...limits }
  }

  get size () {
    return this.#items.length
  }

  /**
   * Takes a batch that was found in order. `new`: the application is to be told; `late`: as well, and something later of
   * the same author's process was told before; `kept`: it is not, its numbers were told before; `known`: it was here. One that is older than what is kept is told all the same: a clock may be late.
   */
  add (batch, envelope) {
    const key = toHex(batch.id)
    if (this.#known.has(key)) return 'known'
    this.#known.add(key)
    if (this.#known.size > this.#limits.known) this.#known.delete(this.#known.values().next().value)
    if (batch.sentAtMs < this.sinceMs) return 'new'
    const what = this.#number(batch)
    const item = { timestamp: BigInt(batch.sentAtMs), id: batch.id, batch: what === 'kept' ? undefined : numbersOf(batch) }
    // A copy: what gossip hands over is a view into a larger buffer.
    this.#envelopes.set(key, envelope.slice())
    this.bytes += envelope.length
    this.#items.splice(this.#place(item), 0, item)
    while (this.#items.length > this.#limits.batches || this.bytes > this.#limits.bytes) this.#removeOldest()
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

  #removeOldest () {
    const { timestamp } = this.#items[0]
    this.sinceMs = Number(timestamp) + 1
    // All of that millisecond: a window begins with a whole one.
    while (this.#items.length > 0 && this.#items[0].timestamp === timestamp) this.#forget(0)
  }

  #forget (index) {
    const [{ id, batch }] = this.#items.splice(index, 1)
    const key = toHex(id)
    this.bytes -= this.#envelopes.get(key).length
    this.#envelopes.delete(key)
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
