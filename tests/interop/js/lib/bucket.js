// A token bucket (rate limiter). Time is an argument.

export class Bucket {
  #level
  #at

  /** @param size, perSecond  its capacity, and the tokens added a second */
  constructor (size, perSecond, now) {
    Object.assign(this, { size, perSecond })
    this.#level = size
    this.#at = now
  }

  /** Takes `count` tokens; false when there are fewer. */
  take (now, count = 1) {
    this.#fill(now)
    if (this.#level < count) return false
    this.#level -= count
    return true
  }

  /** Adds some, or takes some that nobody could foresee: the debt is filled up first. */
  give (count) {
    this.#level = Math.min(this.size, this.#level + count)
  }

  #fill (now) {
    this.#level = Math.min(this.size, this.#level + Math.max(0, now - this.#at) / 1000 * this.perSecond)
    this.#at = now
  }
}
