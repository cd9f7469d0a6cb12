// The queue of outgoing events of a room: numbered, signed, one batch at a time.
//
// Entry: `push`. The rules it keeps: events leave in their order and are numbered without gaps; events that queue up
// while a batch is being sent form the next one; nothing is handed to gossipsub that it could give to nobody.

import { MAX_BATCH, MAX_EVENTS, MAX_EVENT_DATA, MAX_EVENT_NAME, seal, sizeOf, topicOf } from './batch.js'
import { toHex } from './bytes.js'

/** Interval at which a waiting sender checks whether anybody has joined the room. */
const POLL_MS = 5

/** An event that could not be sent; `reason` says why. */
export class Unsendable extends Error {}

export class Outbox {
  closed = false
  #room
  #author
  #gossip
  #awaitsSubscriptions
  #onSealed
  #heads
  /** The id of the batch before. */
  #last
  #nextSeq = 1
  #queue = []
  #busy = false

  /**
   * @param author      () => { identity, networkId, instanceId }
   * @param heads       Heads: the author's newest batches in the room
   * @param awaitsSubscriptions  () => whether a new link has not sent its subscriptions yet
   * @param onSealed    (batch, envelope) => …: a batch is about to leave; yields how to take that back
   */
  constructor ({ room, author, heads, gossip, awaitsSubscriptions, onSealed }) {
    this.#room = room
    this.#heads = heads
    this.#author = author
    this.#gossip = gossip
    this.#awaitsSubscriptions = awaitsSubscriptions
    this.#onSealed = onSealed
  }

  /** Resolves, when the event has left, to the batch's id, the event's number and how many links took it. */
  async push ({ name, data, wait }) {
    if (data.length > MAX_EVENT_DATA) throw new Unsendable(`the event has ${data.length} bytes of data, the limit is ${MAX_EVENT_DATA}: send it in parts`)
    if (new TextEncoder().encode(name).length > MAX_EVENT_NAME) throw new Unsendable(`an event's name has at most ${MAX_EVENT_NAME} bytes`)
    return new Promise((resolve, reject) => {
      this.#queue.push({ event: { name, data }, wait, resolve, reject })
      if (!this.#busy) this.#drain()
    })
  }

  async #drain () {
    this.#busy = true
    while (this.#queue.length > 0) {
      const taken = takeBatch(this.#queue)
      try {
        await this.#writable(taken.some(({ wait }) => wait))
        const { id, recipients } = await this.#publish(taken.map(({ event }) => event))
        const first = this.#nextSeq
        this.#nextSeq += taken.length
        taken.forEach(({ resolve }, i) => resolve({ id: toHex(id), seq: first + i, links: recipients.length }))
      } catch (error) {
        for (const { reject } of taken) reject(error)
      }
    }
    this.#busy = false
  }

  async #publish (events) {
    const { identity, networkId, instanceId } = this.#author()
    const said = { instanceId, firstSeq: this.#nextSeq, sentAtMs: Date.now(), events, prev: this.#heads.newest(this.#last) }
    const { data, id } = seal({ ...said, identity, networkId, room: this.#room })
    const batch = { ...said, id, author: identity.peerId }
    const undo = this.#onSealed(batch, data)
    try {
      const { recipients } = await this.#gossip.publish(topicOf(this.#room), data)
      this.#heads.add(batch)
      this.#last = id
      return { id, recipients }
    } catch (error) {
      undo()
      throw error
    }
  }

  /**
   * Waits until somebody in the room can be written to, and nobody's queue is full. gossipsub remembers the id of a
   * message also when it had nobody to give it to: it must not be asked before.
   */
  async #writable (wait) {
    for (;;) {
      if (this.closed) throw new Unsendable(`this node is not in the room ${this.#room}`)
      const peers = this.#gossip.getSubscribers(topicOf(this.#room)).map(id => id.toString())
      const streams = peers.map(id => this.#gossip.streamsOutbound.get(id)?.rawStream).filter(Boolean)
      const full = streams.filter(stream => stream.writableNeedsDrain)
      if (streams.length > 0 && full.length === 0) return
      const settling = peers.length > 0 || this.#awaitsSubscriptions()
      if (!settling && !wait) throw new Unsendable(`nobody is in the room ${this.#room}: no link took the event`)
      if (full.length > 0) await Promise.all(full.map(drained))
      else await new Promise(resolve => setTimeout(resolve, POLL_MS))
    }
  }
}

/** The next events that travel together: all that are there, up to the size of a batch; a larger one goes alone. */
function takeBatch (queue) {
  let size = 0
  let count = 0
  while (count < Math.min(queue.length, MAX_EVENTS)) {
    size += sizeOf(queue[count].event)
    if (count > 0 && size > MAX_BATCH) break
    count++
  }
  return queue.splice(0, count)
}

/** js-libp2p's `onDrain` resolves at once from the second time on, whether the stream has drained or not. */
function drained (stream) {
  return new Promise(resolve => {
    for (const type of ['drain', 'close']) stream.addEventListener(type, resolve, { once: true })
  })
}
