// Peers that this node knows of, and where they can be dialled: those it was linked with, and those others have named.
//
// The rules it keeps: what a stranger names takes no more than a bounded place, and none from peers that were met; what
// is told to others is only who was met, and where that is known to be true.

import { hostOf } from './addresses.js'

/** Peers that were met, and peers only heard of. */
const MAX_MET = 30
const MAX_HEARD = 30
/** Addresses of one peer at which it was dialled. */
const MAX_PROVEN = 4
/** Between two dials, in milliseconds; it doubles up to the second while they come to nothing. */
const PAUSE_MS = 1_000
const MOST_PAUSE_MS = 60_000

export class Book {
  /** `{ addresses, proven, host, pauseMs, notBefore }` by id: where it says it is, where it was dialled, whence it came. */
  #met = new Map()
  #heard = new Map()

  /**
   * This node is linked with a peer.
   *
   * @param addresses  where it says that it can be dialled
   * @param proven     where this node has dialled it and passed the handshake
   * @param host       what its connection comes from, see `hostOf`
   */
  meet (id, { addresses = [], proven = [], host }) {
    const before = this.#met.get(id) ?? this.#heard.get(id)
    if (before === undefined && addresses.length + proven.length === 0) return
    const known = before ?? { addresses: [], proven: [], pauseMs: PAUSE_MS, notBefore: 0 }
    this.#heard.delete(id)
    this.#met.delete(id)
    this.#met.set(id, {
      ...known,
      addresses: addresses.length > 0 ? addresses : known.addresses,
      proven: [...new Set([...proven, ...known.proven])].slice(0, MAX_PROVEN),
      host: host ?? known.host
    })
    trim(this.#met, MAX_MET)
  }

  /** Somebody named a peer. */
  hear (id, addresses) {
    if (addresses.length === 0 || this.#met.has(id)) return
    const known = this.#heard.get(id)
    this.#heard.delete(id)
    this.#heard.set(id, { proven: [], pauseMs: PAUSE_MS, notBefore: 0, ...known, addresses })
    trim(this.#heard, MAX_HEARD)
  }

  forget (id) {
    this.#met.delete(id)
    this.#heard.delete(id)
  }

  /** Whether this node has itself passed the handshake with a peer at an address. */
  isProven (id, address) {
    return this.#met.get(id)?.proven.includes(address) ?? false
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

  /** Who may be dialled now, of whom `isFree` holds: `{ id, addresses }`, those where it was dialled before first. */
  candidates (now, isFree) {
    return [...this.#met, ...this.#heard]
      .filter(([id, { notBefore }]) => notBefore <= now && isFree(id))
      .map(([id, { addresses, proven }]) => ({ id, addresses: [...new Set([...proven, ...addresses])] }))
      .filter(({ addresses }) => addresses.length > 0)
  }

  /** What others may be told of a peer: where it was dialled, and what it says of the host that it comes from. */
  contact (id) {
    const { addresses = [], proven = [], host } = this.#met.get(id) ?? {}
    const own = addresses.filter(address => host !== undefined && hostOf(address) === host)
    return { id, addresses: [...new Set([...proven, ...own])] }
  }

  /** Contacts for somebody else, the latest first. */
  contacts (most, except) {
    const all = [...this.#met.keys()].reverse().filter(id => !except.includes(id)).map(id => this.contact(id))
    return all.filter(({ addresses }) => addresses.length > 0).slice(0, most)
  }
}

function trim (map, most) {
  if (map.size > most) map.delete(map.keys().next().value)
}
