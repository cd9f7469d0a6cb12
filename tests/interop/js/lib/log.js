// What was said in a room: envelopes byte for byte, in memory, each under its batch id.
//
// The rule it keeps: a batch is told to the application once, whichever way it comes and however often. `add` says
// whether it is new. Bounded by count and by bytes: what is oldest goes first, and nothing that old is asked for again.

import { toHex } from './bytes.js'
import { order } from './negentropy.js'

/** The most batches that are kept of a room. */
export const MAX_BATCHES = 16_384
/** The most bytes of envelopes that are kept of a room; far above one envelope. */
export const MAX_BYTES = 32 * 1024 * 1024
/** Ids that are remembered as told; more than are kept, so that what was removed is not told again. */
export const MAX_TOLD = 4 * MAX_BATCHES

export class Log {
  /** Nothing older than this is kept, in Unix milliseconds. */
  sinceMs = 0
  bytes = 0
  #limits
  #envelopes = new Map()
  /** `{ timestamp, id }`, as data checking compares them, in their order. */
  #items = []
  #told = new Set()

  constructor (limits = {}) {
    this.#limits = { batches: MAX_BATCHES, bytes: MAX_BYTES, told: MAX_TOLD, ...limits }
  }

  get size () {
    return this.#items.length
  }

  /** Takes a batch that was found in order; whether the application is to be told of it. */
  add ({ id, sentAtMs }, envelope) {
    const key = toHex(id)
    if (this.#told.has(key)) return false
    this.#told.add(key)
    if (this.#told.size > this.#limits.told) this.#told.delete(this.#told.values().next().value)
    if (sentAtMs < this.sinceMs) return true
    // A copy: what gossip hands over is a view into a larger buffer.
    this.#envelopes.set(key, envelope.slice())
    this.bytes += envelope.length
    const item = { timestamp: BigInt(sentAtMs), id }
    this.#items.splice(this.#place(item), 0, item)
    while (this.#items.length > this.#limits.batches || this.bytes > this.#limits.bytes) this.#removeOldest()
    return true
  }

  /** Takes back a batch that came to nobody. */
  remove ({ id, sentAtMs }) {
    const key = toHex(id)
    this.#told.delete(key)
    if (!this.#envelopes.has(key)) return
    this.#forget(this.#place({ timestamp: BigInt(sentAtMs), id }))
  }

  /** Whether an id was told, here or in a part that was removed. */
  knows (key) {
    return this.#told.has(key)
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
    const [{ id }] = this.#items.splice(index, 1)
    const key = toHex(id)
    this.bytes -= this.#envelopes.get(key).length
    this.#envelopes.delete(key)
  }
}
