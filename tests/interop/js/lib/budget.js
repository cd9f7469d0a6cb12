// What others can make this node dial, all of them together. Time comes in as an argument.
//
// The rule it keeps: whatever hints, contacts and peers that speak of themselves say, few addresses are dialled at once
// and few a minute, none of them twice, and of one host no more than two.

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

  /** Takes from the budget what there is for some addresses, and yields those that may be dialled now. */
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
