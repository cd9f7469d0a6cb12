// The rate limit of all dials to addresses that other peers have named. Time is an argument.
//
// The rule it keeps: of the addresses from hints, contacts and peers themselves, few are dialled at once and few a minute,
// none of them twice, and of one host no more than two.

import { multiaddr } from '@multiformats/multiaddr'
import { LOOPBACK, hostOf, scopeOf } from './addresses.js'
import { Bucket } from './bucket.js'

/** Addresses: at once, and a second. */
export const DIALS = 8
export const DIALS_PER_S = 12 / 60
/** Between two dials of the same IP address and port. */
export const SAME_ADDRESS_MS = 60_000
/** Addresses of one host within that time; on this very machine there are as many as somebody starts. */
const MAX_OF_A_HOST = 2

export class DialBudget {
  #bucket
  /** `{ at, socket, host }`, the oldest first: no more than the bucket grants in the time. */
  #recent = []

  constructor (now) {
    this.#bucket = new Bucket(DIALS, DIALS_PER_S, now)
  }

  /** Charges the budget for some addresses, and returns those that may be dialled now. */
  grant (now, addresses) {
    this.#recent = this.#recent.filter(({ at }) => now - at < SAME_ADDRESS_MS)
    return addresses.filter(address => {
      const [socket, host] = [socketOf(address), hostOf(address)]
      const isSame = this.#recent.some(other => other.socket === socket)
      const isCrowded = scopeOf(multiaddr(address)) !== LOOPBACK && this.#recent.filter(other => other.host === host).length >= MAX_OF_A_HOST
      if (isSame || isCrowded || !this.#bucket.take(now)) return false
      this.#recent.push({ at: now, socket, host })
      return true
    })
  }
}

/** The IP address and the port of a canonical address. */
function socketOf (address) {
  return address.split('/').slice(1, 5).join('/')
}
