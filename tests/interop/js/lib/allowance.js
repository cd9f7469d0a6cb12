// How much data checking one neighbour may ask for. Time comes in as an argument.
//
// The rule it keeps: whoever waits when told to gets everything in the end; whoever does not has broken a rule.

import { Bucket } from './bucket.js'

/** Comparisons: so many at once, so many a second, and one more for each fetch that was answered with something. */
const COMPARES = 64
const COMPARES_PER_S = 2
/** Bytes of envelopes: at once, a second, and what a fetch counts at least. */
const FETCHED = 1024 ** 3
const FETCHED_PER_S = 4 * 1024 ** 2
const FETCH_LEAST = 4_096
/** How often in a row a neighbour may ask although it was told to wait. */
export const MAX_IMPATIENT = 64

export class Allowance {
  #compares
  #fetched
  #impatient = 0

  constructor (now) {
    this.#compares = new Bucket(COMPARES, COMPARES_PER_S, now)
    this.#fetched = new Bucket(FETCHED, FETCHED_PER_S, now)
  }

  /** What is due to a request: `granted`, `retryAfter`, or `offence`. */
  ask (now, kind) {
    const granted = kind === 'fetch' ? this.#fetched.take(now, FETCH_LEAST) : this.#compares.take(now)
    this.#impatient = granted ? 0 : this.#impatient + 1
    if (granted) return 'granted'
    return this.#impatient > MAX_IMPATIENT ? 'offence' : 'retryAfter'
  }

  /** A fetch was answered with so many bytes of envelopes. */
  served (bytes) {
    if (bytes > 0) this.#compares.give(1)
    this.#fetched.give(-Math.max(0, bytes - FETCH_LEAST))
  }
}
