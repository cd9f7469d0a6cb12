// Which items each of two holds and the other lacks: negentropy, protocol version 1.
// https://github.com/hoytech/negentropy/blob/master/docs/negentropy-protocol-v1.md
//
// Pure: sorted items and a frame in, a frame out. The opener calls `begin`, then `proceed` on each frame of the
// response until none is left to send; the responder calls `answer` and keeps nothing between frames. Written here because
// the kept packages read timestamps as doubles and bring a whole client of another network with them.
//
// The rules it keeps: timestamps have all their 64 bits, a frame of a stranger is checked to its last byte, and no
// frame is larger than its limit: one fingerprint covers all the rest that does not fit.

import { sha256 } from '@noble/hashes/sha2.js'
import { concat, same, toHex } from './bytes.js'

const VERSION = 0x61
const SKIP = 0
const FINGERPRINT = 1
const IDS = 2

const ID_SIZE = 32
const FINGERPRINT_SIZE = 16
/** A range of fewer items than twice this is named id by id; a larger one is cut into this number of fingerprints. */
const BUCKETS = 16
/** Room that is kept for a skip and the last fingerprint: two bounds of at most 43 bytes, two modes, 16 bytes. */
const REST = 128

const INFINITY = { timestamp: 2n ** 64n - 1n, id: new Uint8Array() }

/** Bytes that are no frame of negentropy. */
export class BadFrame extends Error {}

/** The order of items, and of bounds among them: missing bytes of a bound's id are zeros. */
export function order (a, b) {
  if (a.timestamp !== b.timestamp) return a.timestamp < b.timestamp ? -1 : 1
  for (let i = 0; i < ID_SIZE; i++) {
    const difference = (a.id[i] ?? 0) - (b.id[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** The opener's first frame: one fingerprint for all. Items are `{ timestamp: BigInt, id: 32 bytes }` in their order. */
export function begin (items) {
  const out = new Writer(Infinity)
  out.fingerprint(INFINITY, items)
  return out.bytes()
}

/** The answerer's frame. */
export function answer (items, frame, limit) {
  return reconcile(items, frame, limit, (range, own, out) => out.ids(range, own))
}

/**
 * The opener reads the responder's frame. Returns the ids in hex that only the opener has, those that it needs, and its next
 * frame, or undefined at the end. An id may occur a second time when it did not fit in the other side's frame.
 */
export function proceed (items, frame, limit) {
  const have = []
  const need = []
  const next = reconcile(items, frame, limit, (range, own, out) => {
    const theirs = new Set(range.ids.map(toHex))
    const ours = new Set(own.map(({ id }) => toHex(id)))
    have.push(...[...ours].filter(id => !theirs.has(id)))
    need.push(...[...theirs].filter(id => !ours.has(id)))
    out.skip(range)
  })
  return { have, need, frame: next.length > 1 ? next : undefined }
}

/** Goes over the other side's ranges; `onIds(range, own, out)` is the part in which the two sides differ. */
function reconcile (items, frame, limit, onIds) {
  const out = new Writer(limit)
  let from = 0
  for (const range of read(frame)) {
    const to = lowerBound(items, range, from)
    const own = items.slice(from, to)
    if (range.mode === IDS) onIds(range, own, out)
    else if (range.mode === SKIP || same(range.fingerprint, fingerprint(own))) out.skip(range)
    else split(range, own, out)
    if (out.full) break
    from = to
  }
  out.rest(items)
  return out.bytes()
}

/** Says a range that differs in more detail. */
function split (range, own, out) {
  if (own.length < 2 * BUCKETS) return out.ids(range, own)
  const start = i => i * Math.floor(own.length / BUCKETS) + Math.min(i, own.length % BUCKETS)
  for (let i = 0; i < BUCKETS; i++) {
    const [from, to] = [start(i), start(i + 1)]
    out.fingerprint(i === BUCKETS - 1 ? range : between(own[to - 1], own[to]), own.slice(from, to))
  }
}

/** The shortest bound that parts two items. */
function between (before, after) {
  if (before.timestamp !== after.timestamp) return { timestamp: after.timestamp, id: new Uint8Array() }
  let shared = 0
  while (before.id[shared] === after.id[shared]) shared++
  return { timestamp: after.timestamp, id: after.id.subarray(0, shared + 1) }
}

/** The first item at or behind a bound. */
function lowerBound (items, bound, from = 0) {
  let to = items.length
  while (from < to) {
    const middle = (from + to) >> 1
    if (order(items[middle], bound) < 0) from = middle + 1
    else to = middle
  }
  return from
}

/** The 16-byte fingerprint of a set of items: a hash of the sum of their ids, mod 2²⁵⁶, and of their number. */
export function fingerprint (items) {
  const sum = new DataView(new ArrayBuffer(ID_SIZE))
  for (const { id } of items) {
    const addend = new DataView(id.buffer, id.byteOffset, ID_SIZE)
    let carry = 0
    for (let at = 0; at < ID_SIZE; at += 4) {
      const digit = sum.getUint32(at, true) + addend.getUint32(at, true) + carry
      sum.setUint32(at, digit >>> 0, true)
      carry = digit > 0xffffffff ? 1 : 0
    }
  }
  return sha256(concat(new Uint8Array(sum.buffer), varint(items.length))).subarray(0, FINGERPRINT_SIZE)
}

/** Base-128 digits, the most significant one first: not the varint of protocol buffers. */
export function varint (value) {
  let rest = BigInt(value)
  const digits = [Number(rest & 0x7fn)]
  while ((rest >>= 7n) > 0n) digits.unshift(Number(rest & 0x7fn) | 0x80)
  return Uint8Array.from(digits)
}

/** A frame that grows range by range up to its limit. */
class Writer {
  full = false
  #limit
  #parts = [Uint8Array.of(VERSION)]
  #size = 1
  /** Where the last range ended; times are written as differences to the one before. */
  #end = { timestamp: 0n, id: new Uint8Array() }
  #time = 0n
  /** The end of ranges that need no more words; a skip is written only when something follows. */
  #skipped

  constructor (limit) {
    this.#limit = limit
  }

  skip ({ timestamp, id }) {
    if (!this.full) this.#skipped = { timestamp, id }
  }

  fingerprint (end, items) {
    this.#range(end, varint(FINGERPRINT), fingerprint(items))
  }

  /** Names items; those that do not fit are left to the rest. */
  ids (end, items) {
    const fit = Math.max(0, Math.floor((this.#limit - this.#size - 3 * REST) / ID_SIZE))
    if (items.length <= fit) return this.#range(end, varint(IDS), varint(items.length), ...items.map(({ id }) => id))
    const some = items.slice(0, fit)
    if (some.length > 0) this.#range(between(items[fit - 1], items[fit]), varint(IDS), varint(some.length), ...some.map(({ id }) => id))
    this.full = true
  }

  /** Ends the frame: one fingerprint covers everything from the last range on. */
  rest (items) {
    if (!this.full) return
    this.#flushSkip()
    this.#write(INFINITY, varint(FINGERPRINT), fingerprint(items.slice(lowerBound(items, this.#end))))
  }

  bytes () {
    return concat(...this.#parts)
  }

  #range (end, ...payload) {
    if (this.full) return
    const size = payload.reduce((sum, part) => sum + part.length, 0)
    if (this.#size + size + 2 * REST > this.#limit) {
      this.full = true
      return
    }
    this.#flushSkip()
    this.#write(end, ...payload)
  }

  #flushSkip () {
    if (this.#skipped !== undefined) this.#write(this.#skipped, varint(SKIP))
    this.#skipped = undefined
  }

  #write (end, ...payload) {
    const { timestamp, id } = end
    const offset = timestamp === INFINITY.timestamp ? 0n : 1n + timestamp - this.#time
    if (offset > 0n) this.#time = timestamp
    for (const part of [varint(offset), varint(id.length), id, ...payload]) {
      this.#parts.push(part)
      this.#size += part.length
    }
    this.#end = end
  }
}

/** The ranges of a frame, one after the other: `{ timestamp, id, mode, fingerprint | ids }`. */
export function * read (frame) {
  let at = 0
  const take = length => {
    if (length > frame.length - at) throw new BadFrame('the frame is cut short')
    at += length
    return frame.subarray(at - length, at)
  }
  const number = () => {
    let value = 0n
    for (let digits = 0; digits < 10; digits++) {
      const [byte] = take(1)
      value = value << 7n | BigInt(byte & 0x7f)
      if (byte < 0x80) {
        if (value > INFINITY.timestamp) break
        return value
      }
    }
    throw new BadFrame('a number has more than 64 bits')
  }

  if (take(1)[0] !== VERSION) throw new BadFrame(`version ${frame[0] - 0x60} of negentropy is not spoken here`)
  let end = { timestamp: 0n, id: new Uint8Array() }
  while (at < frame.length) {
    if (end.timestamp === INFINITY.timestamp) throw new BadFrame('the ranges are not in their order: one follows the last')
    const offset = number()
    const timestamp = offset === 0n ? INFINITY.timestamp : end.timestamp + offset - 1n
    if (offset > 0n && timestamp >= INFINITY.timestamp) throw new BadFrame('a time has more than 64 bits')
    const length = number()
    if (length > BigInt(ID_SIZE)) throw new BadFrame('a bound has more than 32 bytes')
    const next = { timestamp, id: take(Number(length)) }
    if (order(next, end) < 0) throw new BadFrame('the ranges are not in their order')
    end = next
    const mode = Number(number())
    if (mode === SKIP) yield { ...end, mode }
    else if (mode === FINGERPRINT) yield { ...end, mode, fingerprint: take(FINGERPRINT_SIZE) }
    else if (mode === IDS) {
      const count = number()
      if (count > BigInt(frame.length)) throw new BadFrame('the frame is cut short')
      const all = take(Number(count) * ID_SIZE)
      yield { ...end, mode, ids: Array.from({ length: Number(count) }, (_, i) => all.subarray(i * ID_SIZE, (i + 1) * ID_SIZE)) }
    } else throw new BadFrame(`a range has the mode ${mode}`)
  }
}
