// The quota of a neighbour for data checking (anti-entropy). Time is an argument.
//
// The rule it keeps: a neighbour that waits after RetryAfter gets everything in the end; one that does not wait commits an
// offence.

import { Bucket } from './bucket.js'

/** Comparisons: burst, rate a second, and one more for each fetch that was answered with an envelope. */
const COMPARES = 64
const COMPARES_PER_S = 2
/** Bytes of envelopes: burst, rate a second, and the minimum cost of a fetch. */
const FETCHED = 1024 ** 3
const FETCHED_PER_S = 4 * 1024 ** 2
const FETCH_LEAST = 4_096
/** Maximum number of requests in a row that ignore RetryAfter. */
export const MAX_IMPATIENT = 64

export class Quota {
  #compares
  #fetched
  #impatient = 0

  constructor (now) {
    this.#compares = new Bucket(COMPARES, COMPARES_PER_S, now)
    this.#fetched = new Bucket(FETCHED, FETCHED_PER_S, now)
  }

  /** Decides about a request: `granted`, `retryAfter`, or `offence`. */
  ask (now, kind) {
    const granted = kind === 'fetch' ? this.#fetched.take(now, FETCH_LEAST) : this.#compares.take(now)
    this.#impatient = granted ? 0 : this.#impatient + 1
    if (granted) return 'granted'
    return this.#impatient > MAX_IMPATIENT ? 'offence' : 'retryAfter'
  }

  /** Charges the envelopes of an answered fetch, in bytes. */
  served (bytes) {
    if (bytes > 0) this.#compares.give(1)
    this.#fetched.give(-Math.max(0, bytes - FETCH_LEAST))
  }
}
