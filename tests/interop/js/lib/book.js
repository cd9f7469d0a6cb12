// The address book: peers that this node was linked with (verified), and peers that others have named (hearsay).
//
// The rules it keeps: hearsay has a bounded size and never replaces verified peers; only verified
// peers are named to others, at addresses that are known to be true.

import { hostOf } from './addresses.js'

/** Maximum number of verified peers, and of peers known from hearsay. */
const MAX_VERIFIED = 30
const MAX_HEARSAY = 30
/** Addresses of one peer at which it was dialled. */
const MAX_PROVEN = 4
/** Back-off between two dials, in milliseconds: doubles after each failure, up to the second value. */
const PAUSE_MS = 1_000
const MOST_PAUSE_MS = 60_000

export class Book {
  /** `{ addresses, proven, host, pauseMs, notBefore }` by id: the addresses it claims, those where it was dialled, its host. */
  #verified = new Map()
  #hearsay = new Map()

  /**
   * This node is linked with a peer.
   *
   * @param addresses  where it says that it can be dialled
   * @param proven     where this node has dialled it and passed the handshake
   * @param host       the host of its connection, see `hostOf`
   */
  addVerified (id, { addresses = [], proven = [], host }) {
    const before = this.#verified.get(id) ?? this.#hearsay.get(id)
    if (before === undefined && addresses.length + proven.length === 0) return
    const known = before ?? { addresses: [], proven: [], pauseMs: PAUSE_MS, notBefore: 0 }
    this.#hearsay.delete(id)
    this.#verified.delete(id)
    this.#verified.set(id, {
      ...known,
      addresses: addresses.length > 0 ? addresses : known.addresses,
      proven: [...new Set([...proven, ...known.proven])].slice(0, MAX_PROVEN),
      host: host ?? known.host
    })
    trim(this.#verified, MAX_VERIFIED)
  }

  /** Somebody named a peer. */
  hear (id, addresses) {
    if (addresses.length === 0 || this.#verified.has(id)) return
    const known = this.#hearsay.get(id)
    this.#hearsay.delete(id)
    this.#hearsay.set(id, { proven: [], pauseMs: PAUSE_MS, notBefore: 0, ...known, addresses })
    trim(this.#hearsay, MAX_HEARSAY)
  }

  forget (id) {
    this.#verified.delete(id)
    this.#hearsay.delete(id)
  }

  /** Whether this node has itself passed the handshake with a peer at an address. */
  isProven (id, address) {
    return this.#verified.get(id)?.proven.includes(address) ?? false
  }

  /** A peer was dialled, or has refused this node: it is left alone for a while, and longer every time. */
  dialled (now, id) {
    const known = this.#verified.get(id) ?? this.#hearsay.get(id)
    if (known === undefined) return
    known.notBefore = now + known.pauseMs
    known.pauseMs = Math.min(MOST_PAUSE_MS, known.pauseMs * 2)
  }

  /** A peer has kept the link. */
  kept (id) {
    const known = this.#verified.get(id)
    if (known !== undefined) known.pauseMs = PAUSE_MS
  }

  /** Returns the peers that may be dialled now and for which `isFree` holds: `{ id, addresses }`, those where it was dialled before first. */
  candidates (now, isFree) {
    return [...this.#verified, ...this.#hearsay]
      .filter(([id, { notBefore }]) => notBefore <= now && isFree(id))
      .map(([id, { addresses, proven }]) => ({ id, addresses: [...new Set([...proven, ...addresses])] }))
      .filter(({ addresses }) => addresses.length > 0)
  }

  /** Returns the addresses of a peer that may be named to others: those where it was dialled, and those it claims on its own host. */
  contact (id) {
    const { addresses = [], proven = [], host } = this.#verified.get(id) ?? {}
    const own = addresses.filter(address => host !== undefined && hostOf(address) === host)
    return { id, addresses: [...new Set([...proven, ...own])] }
  }

  /** Contacts for somebody else, the latest first. */
  contacts (most, except) {
    const all = [...this.#verified.keys()].reverse().filter(id => !except.includes(id)).map(id => this.contact(id))
    return all.filter(({ addresses }) => addresses.length > 0).slice(0, most)
  }
}

function trim (map, most) {
  if (map.size > most) map.delete(map.keys().next().value)
}
