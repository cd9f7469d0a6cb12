// One round of data checking (anti-entropy) of one room with one neighbour, from the opener's side: compare, reconcile, fetch.
//
// Entry: `run`. The rules it keeps: unsolicited data is refused, every envelope is checked as if it had arrived by
// gossip, and a comparison ends in a bounded time even with a hostile neighbour.

import { open } from './batch.js'
import { concat, fromHex, toHex } from './bytes.js'
import { Violation, ask } from './exchange.js'
import { BadFrame, begin, order, proceed } from './negentropy.js'
import { MAX_ASKED, MAX_RESPONSE, PROTOCOL, decodeResponse, encodeRequest } from './sync-messages.js'

/** How long a response may take, and how long all of it. */
const RESPONSE_MS = 10_000
const TOTAL_MS = 120_000
/** Maximum number of steps of a comparison, and the number of differing ids that allow one more; the largest log takes some 10. */
const MAX_STEPS = 256
const IDS_A_STEP = 256
/** Margin at the old end: the beginning that a neighbour names moves on with its clock. */
const RUNS_ON_MS = 120_000
/** How often a neighbour may say that its items begin later. */
const MAX_RESTARTS = 8
/** Maximum number of RetryAfter responses. */
const MAX_RETRIES = 20
/** Ids that it may name and then not have. */
const MAX_MISSING = 4_096
/** Ids that are fetched in one comparison; the next one brings the rest. */
const MAX_NEED = 65_536
/** Maximum number of ids in a Fetch: fewer than the contract allows, so that the first batches are of use soon. */
const FETCH_IDS = 256
const MAX_RETRY_AFTER_MS = 30_000
/** Envelopes that are checked before everything else gets its turn. */
const CHECK_AT_ONCE = 8

/** Items that are remembered of a neighbour, which it has removed. */
const MAX_REMOVED = 131_072

/** The neighbour is not in the room. */
export class NotSubscribed extends Error {}

export class Comparison {
  bytes = 0
  repaired = 0
  /** Ids in hex that only the neighbour, and that only this node has. */
  need = new Set()
  have = new Set()
  #counts = { steps: 0, restarts: 0, retries: 0, missing: 0 }
  #end = Date.now() + TOTAL_MS

  /**
   * @param connection  the link's
   * @param networkId   32 bytes
   * @param log         the room's Log
   * @param heads       the room's Heads
   * @param removed     items that the neighbour counts as held and has removed, by their ids in hex; further ones are added
   * @param sinceMs     the window's beginning, in the neighbour's last words
   * @param untilMs     the window's end, or 0
   * @param claimed     ids that another comparison is fetching; this one's are added
   * @param onBatch     (batch) => …: a batch that is new to the application
   */
  constructor ({ connection, room, networkId, log, heads, removed, sinceMs, untilMs, claimed, onBatch }) {
    Object.assign(this, { connection, room, networkId, log, heads, removed, untilMs, claimed, onBatch })
    this.sinceMs = Math.max(sinceMs, log.sinceMs)
  }

  /** Whether both held the same. */
  get agreed () {
    return this.need.size + this.have.size === 0
  }

  async run () {
    let items
    let frame
    const restart = () => {
      items = windowOf(this.log, this.removed, this.sinceMs, this.untilMs)
      frame = this.untilMs === 0 || this.sinceMs < this.untilMs ? begin(items) : undefined
    }
    restart()
    while (frame !== undefined && this.need.size < MAX_NEED) {
      const most = MAX_STEPS + Math.floor((this.need.size + this.have.size) / IDS_A_STEP)
      this.#count('steps', most, 'the comparison does not end')
      const ranges = await this.#ask('compare', { room: this.room, since_ms: this.sinceMs, until_ms: this.untilMs, frame })
      if (ranges.frame.length === 0) {
        this.#moveTo(ranges.since_ms)
        restart()
        continue
      }
      const step = this.#proceed(items, ranges.frame)
      for (const id of step.have.filter(id => !this.removed.has(id))) this.have.add(id)
      await this.#fetch(step.need.filter(id => !this.need.has(id)))
      frame = step.frame
    }
  }

  /** The neighbour's items begin later than the window does. */
  #moveTo (sinceMs) {
    if (sinceMs <= BigInt(this.sinceMs) || sinceMs > BigInt(Number.MAX_SAFE_INTEGER)) throw new Violation(`its items begin at ${sinceMs}, which is not after ${this.sinceMs}`)
    if (++this.#counts.restarts > MAX_RESTARTS) throw new Error('the neighbour goes on removing what is compared')
    this.sinceMs = Number(sinceMs) + RUNS_ON_MS
  }

  #count (what, most, reason) {
    if (++this.#counts[what] > most) throw new Violation(reason)
  }

  #proceed (items, frame) {
    try {
      return proceed(items, frame, MAX_ASKED)
    } catch (error) {
      throw error instanceof BadFrame ? new Violation(error.message) : error
    }
  }

  async #fetch (ids) {
    for (const id of ids) this.need.add(id)
    // Gossip may have brought some meanwhile, and another neighbour may be about to.
    const own = ids.filter(id => !this.log.knows(id) && !this.claimed.has(id) && !this.removed.has(id))
    for (const id of own) this.claimed.add(id)
    try {
      let left = own
      while (left.length > 0) left = await this.#fetchSome(left)
    } finally {
      for (const id of own) this.claimed.delete(id)
    }
  }

  /** Asks for the first of the ids, and yields those that were not answered. */
  async #fetchSome (ids) {
    const asked = new Set(ids.slice(0, FETCH_IDS))
    const { envelopes, missing, removed, removed_at_ms: times } = await this.#ask('fetch', { room: this.room, ids: concat(...[...asked].map(fromHex)) })
    if (envelopes.length + missing.length + removed.length === 0) throw new Violation('a fetch was answered with nothing')
    const answered = key => {
      if (!asked.delete(key)) throw new Violation('a batch came that was not asked for')
    }
    for (const id of missing) {
      answered(toHex(id))
      this.#count('missing', MAX_MISSING, 'the peer does not have what it says it has')
    }
    for (const [i, id] of removed.entries()) {
      answered(toHex(id))
      this.need.delete(toHex(id))
      // A neighbour may remove any number of batches, and is not blamed for it.
      if (this.removed.size < MAX_REMOVED) this.removed.set(toHex(id), { timestamp: times[i], id })
    }
    const checked = []
    try {
      for (const [i, envelope] of envelopes.entries()) {
        if (i % CHECK_AT_ONCE === 0) await new Promise(resolve => setTimeout(resolve))
        const batch = this.#check(envelope, answered)
        if (batch !== undefined) checked.push({ batch, envelope })
      }
    } finally {
      // Items of one millisecond are in the order of their ids; those of one author are delivered in its own order.
      for (const { batch, envelope } of checked.sort((one, other) => inOrder(one.batch, other.batch))) this.#take(batch, envelope)
    }
    return ids.filter((id, i) => i >= FETCH_IDS || asked.has(id))
  }

  #check (envelope, answered) {
    let batch
    try {
      batch = open(envelope, this.room, this.networkId, Date.now())
    } catch (error) {
      if (error.offence !== false) throw error
      // A clock that is ahead is no offence: the batch is left for later.
      answered(toHex(error.id))
      return
    }
    answered(toHex(batch.id))
    return batch
  }

  #take (batch, envelope) {
    this.heads.add(batch)
    const what = this.log.add(batch, envelope)
    if (what !== 'known') this.repaired++
    if (what === 'new' || what === 'late') this.onBatch(batch)
  }

  /** Runs one exchange; waits and retries on RetryAfter. */
  async #ask (kind, message) {
    for (;;) {
      if (Date.now() > this.#end) throw new Error('the comparison took too long')
      const request = encodeRequest(kind, message)
      const bytes = await ask(this.connection, PROTOCOL, request, { limit: MAX_RESPONSE, timeoutMs: RESPONSE_MS })
      this.bytes += request.length + bytes.length
      const response = decodeResponse(bytes, kind)
      if (response.kind === 'notSubscribed') throw new NotSubscribed('the neighbour is not in the room')
      if (response.kind !== 'retryAfter') return response
      if (++this.#counts.retries > MAX_RETRIES) throw new Error('the neighbour puts it off again and again')
      await new Promise(resolve => setTimeout(resolve, Math.min(response.after_ms, MAX_RETRY_AFTER_MS)))
    }
  }
}

/**
 * Returns the items that take part in a comparison with a neighbour: those held here, and those that the neighbour has
 * removed, which are not fetched from it.
 */
export function windowOf (log, removed, sinceMs, untilMs) {
  const items = log.window(sinceMs, untilMs)
  const [from, to] = [BigInt(sinceMs), BigInt(untilMs)]
  const isInside = ms => ms !== undefined && ms >= from && (to === 0n || ms < to)
  const more = [...removed].filter(([key, { timestamp }]) => isInside(timestamp) && !log.knows(key)).map(([, item]) => item)
  return more.length === 0 ? items : [...items, ...more].sort(order)
}

/** By time, then by author and its process, then by number. */
function inOrder (one, other) {
  const writer = ({ author, instanceId }) => `${toHex(author)} ${toHex(instanceId)}`
  return one.sentAtMs - other.sentAtMs || writer(one).localeCompare(writer(other)) || one.firstSeq - other.firstSeq
}

/** Tells a neighbour that it lacks something. */
export async function notifyLagging (connection, room, count) {
  const request = encodeRequest('lagging', { room, count })
  const response = await ask(connection, PROTOCOL, request, { limit: MAX_RESPONSE, timeoutMs: RESPONSE_MS })
  return decodeResponse(response, 'lagging')
}
