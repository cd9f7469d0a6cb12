// Peers that this node knows of, and where they can be dialled: those it was linked with, and those others have named.
//
// The rule it keeps: what a stranger names takes no more than a bounded place, and none from peers that were met.

/** Peers that were met, and peers only heard of. */
const MAX_MET = 30
const MAX_HEARD = 30
/** Between two dials, in milliseconds; it doubles up to the second while they come to nothing. */
const PAUSE_MS = 1_000
const MOST_PAUSE_MS = 60_000

export class Book {
  #met = new Map()
  #heard = new Map()

  /** This node is, or was, linked with a peer. */
  meet (id, addresses) {
    if (addresses.length === 0) return
    const known = this.#met.get(id) ?? this.#heard.get(id)
    this.#heard.delete(id)
    this.#met.delete(id)
    this.#met.set(id, { pauseMs: PAUSE_MS, notBefore: 0, ...known, addresses })
    trim(this.#met, MAX_MET)
  }

  /** Somebody named a peer. */
  hear (id, addresses) {
    if (addresses.length === 0 || this.#met.has(id)) return
    const known = this.#heard.get(id)
    this.#heard.delete(id)
    this.#heard.set(id, { pauseMs: PAUSE_MS, notBefore: 0, ...known, addresses })
    trim(this.#heard, MAX_HEARD)
  }

  forget (id) {
    this.#met.delete(id)
    this.#heard.delete(id)
  }

  addressesOf (id) {
    return (this.#met.get(id) ?? this.#heard.get(id))?.addresses ?? []
  }

  /** A peer was dialled, or has refused this node: it is left alone for a while, and longer every time. */
  dialled (now, id) {
    const known = this.#met.get(id) ?? this.#heard.get(id)
    if (known === undefined) return
    known.notBefore = now + known.pauseMs
    known.pauseMs = Math.min(MOST_PAUSE_MS, known.pauseMs * 2)
  }

  /** A peer has kept the link. */
  kept (id) {
    const known = this.#met.get(id)
    if (known !== undefined) known.pauseMs = PAUSE_MS
  }

  /** Who may be dialled now, of whom `isFree` holds. */
  candidates (now, isFree) {
    return [...this.#met, ...this.#heard].filter(([id, { notBefore }]) => notBefore <= now && isFree(id)).map(([id, { addresses }]) => ({ id, addresses }))
  }

  /** Contacts for somebody else: half of them met, half heard of. */
  contacts (most, except) {
    const some = (of, count) => [...of].reverse().filter(([id]) => !except.includes(id)).slice(0, count).map(([id, { addresses }]) => ({ id, addresses }))
    return [...some(this.#met, most / 2), ...some(this.#heard, most / 2)]
  }
}

function trim (map, most) {
  if (map.size > most) map.delete(map.keys().next().value)
}
