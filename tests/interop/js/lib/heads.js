// The newest batches of the author in a room, of any of its processes: those that its next batch names in `prev`.
//
// The rule it keeps: a batch that a known batch follows is no head, in either order of arrival.

import { MAX_PREV } from './batch.js'
import { compare, toHex } from './bytes.js'

/** Heads that are remembered: more than a few processes of one author that never heard of each other. */
const MAX_HEADS = 64
/** Ids that are remembered as followed, in case their batches arrive later. */
const MAX_FOLLOWED = 4_096

export class Heads {
  #author
  /** Those with no known successor: `{ id, sentAtMs }` by id in hex. */
  #heads = new Map()
  #followed = new Set()

  /** @param author  () => the bytes of the author's PeerId */
  constructor (author) {
    this.#author = author
  }

  /** A batch has become known. Those of other authors count for nothing. */
  add ({ id, author, sentAtMs, prev }) {
    if (compare(author, this.#author()) !== 0) return
    for (const before of prev.map(toHex)) {
      this.#heads.delete(before)
      this.#followed.add(before)
      trim(this.#followed, MAX_FOLLOWED)
    }
    if (this.#followed.has(toHex(id))) return
    this.#heads.set(toHex(id), { id, sentAtMs })
    trim(this.#heads, MAX_HEADS)
  }

  /** Returns `prev` of the next batch of a process: the batch that the process made before it, and the newest of the others. */
  newest (last) {
    const others = [...this.#heads.values()].filter(({ id }) => last === undefined || compare(id, last) !== 0)
    others.sort((one, other) => other.sentAtMs - one.sentAtMs)
    return [...(last === undefined ? [] : [last]), ...others.map(({ id }) => id)].slice(0, MAX_PREV)
  }
}

function trim (collection, most) {
  if (collection.size > most) collection.delete(collection.keys().next().value)
}
