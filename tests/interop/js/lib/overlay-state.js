// The rules of the overlay, without a network: inputs are events and the time, outputs are effects.
//
// Entry: `up`, `down`, `request`, `answered`, `dialFailed`, `tick`; each returns effects. This node joins, follows
// redirects, expects the peers that a redirect names, and gives the least answer to everything else: it is never the
// coordinator of a handover.
//
// The rules it keeps: one handover at a time; no link above the maximum, and one more only for the current handover; a
// hint is followed only from a link, and only to an address that the link may name; dials of addresses named by others are
// rate limited; a redirect never costs a link: the coordinator closes the old one when both ends have reported the new one.
//
// Effects: { do: 'ask', to, kind, message } · { do: 'dial', to, addresses } · { do: 'close', id, reason } ·
// { do: 'expectClose', id, reason } (the peer will close) · { do: 'hint', from, to, address, outcome } (to be reported).

import { inDialOrder } from './addresses.js'
import { Book } from './book.js'
import { Bucket } from './bucket.js'
import { DialBudget } from './budget.js'
import { Answer, MAX_CONTACTS, MAX_OFFERED, Refusal, Role } from './overlay-messages.js'

/** How long a handover may take from this node's point of view. */
export const HANDOVER_MS = 12_000
/** After a handover without an end message, hints of its coordinator are refused for this time. */
const DISTRUST_MS = 60_000
/** Addresses of one peer that are dialled at once. */
const MAX_DIALS = 2
/** Maximum number of links that others have picked; the rest is of this node's own choice. */
const MAX_PICKED = 2
const OFFER_MS = 2_500
/** Rate limit for reports of refused hints of one link: burst, and rate a second. */
const TOLD = 16
const TOLD_PER_S = 0.2
/** How often the node looks whether it has enough links; varied by half. */
const UPKEEP_MS = 5_000

export class OverlayState {
  /** `{ id, scope, dialled, confirmed, joined, picked, nonce, plain, closing, since, offeredAt, refusals }` by peer. */
  links = new Map()
  /** The handover under way: `{ as: 'C' | 'F', nonce, from, role, to, address, attached, until }`. */
  lock
  book = new Book()
  #me
  #most
  #isWelcome
  #addresses
  #random
  #nonce
  #budget
  /** Peers that are being dialled: for a hint, with its nonce, or of this node's own choice. */
  #dialling = new Map()
  #distrusted = new Map()
  #upkeepAt = 0

  /**
   * @param isWelcome  id => whether this node's own lists let it link with the peer
   * @param addresses  () => where this node can be dialled, as text
   * @param random     () => a number from 0 to 1
   * @param nonce      () => 8 random bytes, as a BigInt
   */
  constructor ({ me, maxLinks, isWelcome = () => true, addresses, random, nonce, now }) {
    this.#me = me
    this.#isWelcome = isWelcome
    this.#most = maxLinks
    this.#addresses = addresses
    this.#random = random
    this.#nonce = nonce
    this.#budget = new DialBudget(now)
  }

  /** Whether a peer in its handshake is let in; `links` counts others, places that are held for some included. */
  admits (id, weDialled, links) {
    if (this.links.has(id)) return true
    const { lock } = this
    if (lock?.to === id && (lock.role === Role.DIAL) === weDialled) return links < this.#most + (lock.as === 'F' ? 1 : 0)
    if (weDialled && this.#dialling.get(id)?.hint) return false
    const held = lock?.as === 'C' && !this.links.has(lock.to) ? 1 : 0
    return links < this.#most - held
  }

  // --- links

  /** A connection became a link; `address` is where this node has dialled it, `host` that of its connection. */
  up (now, { id, scope, host, dialled, address }) {
    const link = { id, scope, host, dialled, confirmed: !dialled, joined: false, picked: false, plain: false, closing: false, since: now, offeredAt: -Infinity, refusals: new Bucket(TOLD, TOLD_PER_S, now) }
    this.links.set(id, link)
    const own = this.#dialling.get(id)
    this.#dialling.delete(id)
    this.book.addVerified(id, { proven: address === undefined ? [] : [address], host })
    const { lock } = this
    if (lock?.to === id && !lock.attached && (lock.role === Role.DIAL) === dialled) {
      Object.assign(link, { confirmed: false, nonce: lock.nonce, picked: true })
      return dialled ? [ask(id, 'attach', { nonce: lock.nonce })] : []
    }
    if (dialled && own?.hint) return [this.#close(id, 'aborted: the handover is over')]
    return dialled ? this.#join(now, link) : []
  }

  /** The dialer of a link asks to be kept, and for a second link if it could do with one. */
  #join (now, link) {
    const picked = [...this.links.values()].filter(({ picked }) => picked).length
    const wantsTwo = this.lock === undefined && this.links.size < this.#most && picked < MAX_PICKED
    const nonce = this.#nonce()
    link.joined = true
    if (wantsTwo) this.lock = { as: 'C', nonce, from: link.id, attached: false, until: now + HANDOVER_MS }
    const need = wantsTwo ? 2 : this.links.size <= MAX_PICKED ? 1 : 0
    return [ask(link.id, 'join', { nonce, need, links: [...this.links.keys()], ...this.#whereabouts() })]
  }

  #whereabouts () {
    const addresses = this.#addresses()
    return { dialable: addresses.length > 0, addresses }
  }

  /** @param isOffender  whether the peer broke a rule: it is not dialled again */
  down (now, id, isOffender = false) {
    const link = this.links.get(id)
    this.links.delete(id)
    if (isOffender) this.book.forget(id)
    const { lock } = this
    if (link === undefined || lock === undefined) return []
    if (lock.from === id) return this.#end(now, lock.attached ? undefined : 'cancelled')
    if (lock.to === id) return this.#lostTo(now, lock.attached ? undefined : 'unreachable')
    return []
  }

  /** The link of the handover is not there, or not any more. */
  #lostTo (now, outcome) {
    const { lock } = this
    const out = lock.role === Role.DIAL && !lock.attached ? [ask(lock.from, 'report', { nonce: lock.nonce, linked: false })] : []
    if (lock.as === 'F') return [...out, ...this.#end(now, outcome)]
    // C waits for the next F.
    if (outcome !== undefined) out.push(...ended(lock, outcome))
    Object.assign(lock, { to: undefined, role: undefined, address: undefined, attached: false })
    return out
  }

  /** Ends the handover. A new link that was not agreed to is closed. */
  #end (now, outcome, { distrust = false } = {}) {
    const { lock } = this
    this.lock = undefined
    if (distrust) this.#distrusted.set(lock.from, now + DISTRUST_MS)
    const out = outcome !== undefined ? ended(lock, outcome) : []
    if (lock.as === 'F' && lock.attached && this.links.has(lock.from)) out.push({ do: 'expectClose', id: lock.from, reason: undefined })
    const link = this.links.get(lock.to)
    if (link === undefined) return out
    if (!lock.attached) return [...out, this.#close(link.id, 'aborted: the handover came to nothing')]
    link.confirmed = true
    return [...out, ...this.#trim()]
  }

  /** Closes surplus links: provisional ones first, the newest first. */
  #trim () {
    if (this.lock !== undefined) return []
    const open = [...this.links.values()].filter(({ closing }) => !closing)
    open.sort((a, b) => a.confirmed - b.confirmed || b.since - a.since)
    return open.slice(0, Math.max(0, open.length - this.#most)).map(({ id }) => this.#close(id, 'surplus: there are too many links'))
  }

  #close (id, reason) {
    this.links.get(id).closing = true
    return { do: 'close', id, reason }
  }

  // --- requests

  /** A request of a link: `{ response: { kind, … }, effects }`. */
  request (now, from, request) {
    const link = this.links.get(from)
    if (link === undefined) return done(false)
    switch (request.kind) {
      case 'shuffle': return this.#onShuffle(now, link, request)
      case 'join': return this.#onJoin(now, link, request)
      case 'redirect': return this.#onRedirect(now, link, request)
      case 'attach': return this.#onAttach(now, link, request)
      case 'report': return this.#onReport(now, link, request)
      case 'cancel': return this.#onCancel(now, link, request)
      case 'leave': return this.#onLeave(link, request)
      case 'proposeHandover': return { response: { kind: 'handoverReply', agreed: false, nonce: 0n, links: [], dialable: false, addresses: [] }, effects: [] }
      case 'dropRedundantLink': return done(false)
    }
  }

  #contactsFor (link) {
    return this.book.contacts(MAX_CONTACTS, [link.id, this.#me])
  }

  /** A busy node has named others to dial instead. */
  referred (contacts) {
    this.#learn(contacts)
    this.#upkeepAt = 0
  }

  #learn (contacts) {
    for (const { id, addresses } of contacts) {
      if (id !== this.#me) this.book.hear(id, addresses)
    }
  }

  #onShuffle (now, link, { offered }) {
    const contacts = this.#contactsFor(link)
    if (now - link.offeredAt >= OFFER_MS) {
      link.offeredAt = now
      this.#learn(offered)
    }
    return { response: { kind: 'contacts', contacts }, effects: [] }
  }

  #onJoin (now, link, { addresses }) {
    const isFirst = !link.joined && !link.dialled
    link.joined = true
    const answer = this.links.size <= this.#most ? Answer.ACCEPTED : Answer.REFUSED
    if (answer === Answer.ACCEPTED) link.confirmed = true
    const contacts = isFirst ? this.#contactsFor(link) : []
    this.book.addVerified(link.id, { addresses, host: link.host })
    // An expected peer that joins instead is a newcomer like any other; the handover has failed.
    const { lock } = this
    const effects = []
    if (lock?.to === link.id && lock.role === Role.EXPECT && !lock.attached) {
      effects.push(ask(lock.from, 'report', { nonce: lock.nonce, linked: false }))
      if (lock.as === 'F') this.lock = undefined
      else Object.assign(lock, { to: undefined, role: undefined, address: undefined })
    }
    return { response: { kind: 'joined', answer, contacts }, effects }
  }

  #onRedirect (now, { id: from, scope, refusals }, { nonce, role, to }) {
    const refuse = (refusal, outcome) => ({
      response: { kind: 'redirected', refusal, addresses: [] },
      effects: refusals.take(now) ? [hint({ from, to: to.id, address: to.addresses[0] }, outcome)] : []
    })
    const agree = effects => ({ response: { kind: 'redirected', refusal: Refusal.NONE, addresses: this.#addresses() }, effects })
    const { lock } = this
    const known = this.links.get(to.id)
    if (to.id === this.#me) return refuse(Refusal.UNSUITABLE, 'ourselves')
    if (known?.nonce === nonce && known.confirmed) return agree([])
    if (lock?.as === 'C' && lock.from === from && lock.nonce === nonce && lock.to === to.id && lock.attached) return agree([])
    const asTaker = lock?.as === 'C' && lock.from === from && lock.nonce === nonce && !lock.attached
    if (lock !== undefined && !asTaker) return refuse(Refusal.BUSY, 'busy')
    if (!asTaker && this.#distrusted.get(from) > now) return refuse(Refusal.BUSY, 'busy')
    if (!asTaker && this.links.size > this.#most) return refuse(Refusal.BUSY, 'busy')
    const address = to.addresses[0]
    if (asTaker && role === Role.EXPECT && known !== undefined && !known.dialled && !known.joined) {
      Object.assign(lock, { to: to.id, role, address })
      return agree([])
    }
    if (known !== undefined) return refuse(Refusal.UNSUITABLE, 'already_linked')
    if (role === Role.EXPECT && this.#addresses().length === 0) return refuse(Refusal.NOT_DIALABLE, 'not_dialable')
    if (role === Role.DIAL && to.addresses.length === 0) return refuse(Refusal.UNSUITABLE, 'scope')
    const addresses = role === Role.DIAL ? this.#mayDial(now, to.id, inDialOrder(to.addresses, scope)) : []
    if (role === Role.DIAL && addresses.length === 0) return refuse(Refusal.TOO_MANY, 'too_many')
    const effects = []
    if (asTaker) {
      if (this.links.has(lock.to)) effects.push(this.#close(lock.to, 'aborted: another peer was named'))
      Object.assign(lock, { role, to: to.id, address, until: now + HANDOVER_MS })
    } else {
      this.lock = { as: 'F', nonce, from, role, to: to.id, address, attached: false, until: now + HANDOVER_MS }
    }
    if (role === Role.DIAL) {
      this.#dialling.set(to.id, { hint: true })
      effects.push({ do: 'dial', to: to.id, addresses })
    }
    return agree(effects)
  }

  /** Those of a peer's addresses that may be dialled now: where others say that it is, as far as the budget goes. */
  #mayDial (now, id, addresses) {
    const some = addresses.slice(0, MAX_DIALS)
    const isProven = address => this.book.isProven(id, address)
    return [...some.filter(isProven), ...this.#budget.grant(now, some.filter(address => !isProven(address)))]
  }

  #onAttach (now, link, { nonce }) {
    const { lock } = this
    if (lock === undefined || lock.nonce !== nonce || lock.attached || lock.role === Role.DIAL) return done(false)
    // F may be faster than E's Redirect.
    const early = lock.as === 'C' && lock.to === undefined && link.id !== lock.from
    if (!early && lock.to !== link.id) return done(false)
    Object.assign(lock, { to: link.id, role: Role.EXPECT })
    return done(true, this.#attached(now, link))
  }

  /** The new link is agreed to by both its ends. */
  #attached (now, link) {
    const { lock } = this
    lock.attached = true
    Object.assign(link, { nonce: lock.nonce, picked: true })
    const out = [ask(lock.from, 'report', { nonce: lock.nonce, linked: true }), ...ended(lock, 'linked')]
    if (lock.as === 'F') return [...out, { do: 'expectClose', id: lock.from, reason: `handover: the link moved to ${lock.to}` }]
    link.confirmed = true
    const entry = this.links.get(lock.from)
    if (entry !== undefined) entry.confirmed = true
    this.lock = undefined
    return out
  }

  #onReport (now, link, { linked }) {
    // E has made room for this node.
    if (linked && this.lock?.as === 'C' && this.lock.from === link.id) this.lock = undefined
    if (linked) link.confirmed = true
    return done(true)
  }

  #onCancel (now, link, { nonce, keep, contacts }) {
    const effects = []
    const { lock } = this
    this.#learn(contacts)
    if (lock?.from === link.id && (lock.as === 'C' || lock.nonce === nonce)) effects.push(...this.#end(now, lock.attached ? undefined : 'cancelled'))
    if (keep) link.confirmed = true
    else if (link.dialled && link.joined) {
      this.#upkeepAt = now
      this.book.dialled(now, link.id)
      effects.push(this.#close(link.id, 'refused: the peer cannot keep the link'))
    }
    return done(true, effects)
  }

  #onLeave (link, { contacts }) {
    this.#learn(contacts)
    return done(true, [{ do: 'expectClose', id: link.id, reason: 'leaving: the peer stops' }])
  }

  // --- answers to requests of this node

  /** @param response  the peer's, undefined without one, or 'plain' when it does not speak the overlay */
  answered (now, from, { kind, message }, response) {
    const link = this.links.get(from)
    if (link === undefined) return []
    if (response === 'plain') link.plain = true
    switch (kind) {
      case 'join': return this.#onJoined(now, link, message, response)
      case 'attach': return this.#onAttachAnswered(now, link, message, response)
      case 'shuffle':
        this.#learn(response?.contacts ?? [])
        return []
      default: return []
    }
  }

  #onJoined (now, link, { nonce }, response) {
    const answer = response === 'plain' ? Answer.ACCEPTED : response?.answer ?? Answer.REFUSED
    this.#learn(response?.contacts ?? [])
    const isOurs = this.lock?.as === 'C' && this.lock.from === link.id && this.lock.nonce === nonce
    if (answer === Answer.SPLIT || answer === Answer.PENDING) return []
    if (isOurs) this.lock = undefined
    if (answer === Answer.ACCEPTED) {
      link.confirmed = true
      this.book.kept(link.id)
      return []
    }
    this.#upkeepAt = now
    this.book.dialled(now, link.id)
    return [this.#close(link.id, 'refused: the peer has no room')]
  }

  #onAttachAnswered (now, link, { nonce }, response) {
    const { lock } = this
    if (lock?.to !== link.id || lock.nonce !== nonce) return [this.#close(link.id, 'aborted: the handover is over')]
    if (response?.ok) return this.#attached(now, link)
    return [...this.#lostTo(now, 'rejected'), ...(this.links.has(link.id) && lock.as === 'C' ? [this.#close(link.id, 'aborted: the peer did not expect this node')] : [])]
  }

  /** A dial failed; `outcome` is unreachable, wrong_peer, rejected or already_linked. */
  dialFailed (now, id, outcome) {
    this.#dialling.delete(id)
    if (this.lock?.to !== id || this.lock.role !== Role.DIAL || this.lock.attached) return []
    return this.#lostTo(now, outcome)
  }

  // --- upkeep

  /** Runs expired timers. To be called several times a second. */
  tick (now) {
    const out = []
    if (this.lock !== undefined && now >= this.lock.until) out.push(...this.#end(now, this.lock.attached ? undefined : 'cancelled', { distrust: this.lock.to !== undefined }))
    for (const [id, until] of this.#distrusted) {
      if (now >= until) this.#distrusted.delete(id)
    }
    out.push(...this.#trim())
    if (now < this.#upkeepAt) return out
    this.#upkeepAt = now + UPKEEP_MS * (0.5 + this.#random())
    return [...out, ...this.#upkeep(now)]
  }

  /** Dials a peer that this node knows of while it has too few links, and asks for more of them. */
  #upkeep (now) {
    if (this.lock !== undefined || this.#dialling.size > 0) return []
    const out = []
    const enough = this.links.size >= this.#most - 1
    const free = this.book.candidates(now, id => id !== this.#me && !this.links.has(id) && this.#isWelcome(id))
    while (!enough && free.length > 0 && out.length === 0) {
      const [{ id, addresses }] = free.splice(Math.floor(this.#random() * free.length), 1)
      const allowed = this.#mayDial(now, id, addresses)
      if (allowed.length === 0) continue
      this.#dialling.set(id, { hint: false })
      this.book.dialled(now, id)
      out.push({ do: 'dial', to: id, addresses: allowed })
    }
    const speakers = [...this.links.values()].filter(({ plain }) => !plain)
    if (speakers.length > 0 && (!enough || this.#random() < 0.5)) {
      const { id } = this.#pick(speakers)
      const own = { id: this.#me, addresses: this.#addresses() }
      const offered = [own, ...this.book.contacts(2, [id, this.#me])].filter(({ addresses }) => addresses.length > 0)
      out.push(ask(id, 'shuffle', { offered: offered.slice(0, MAX_OFFERED) }))
    }
    return out
  }

  #pick (list) {
    return list[Math.floor(this.#random() * list.length)]
  }

  /** Returns the messages to the neighbours at shutdown. */
  leave () {
    const contacts = [...this.links.keys()].map(id => this.book.contact(id)).filter(({ addresses }) => addresses.length > 0)
    return [...this.links.values()].filter(({ plain }) => !plain).map(({ id }) => ask(id, 'leave', { contacts: contacts.filter(contact => contact.id !== id) }))
  }
}

const ask = (to, kind, message) => ({ do: 'ask', to, kind, message })
const hint = ({ from, to, address }, outcome) => ({ do: 'hint', from, to, address: address ?? null, outcome })
/** Reports the outcome of a hint to dial. For the dialled side the link is the report. */
const ended = (lock, outcome) => lock.role === Role.DIAL ? [hint(lock, outcome)] : []
const done = (ok, effects = []) => ({ response: { kind: 'done', ok }, effects })
