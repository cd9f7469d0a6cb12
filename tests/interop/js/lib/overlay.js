// The overlay on real links: carries out the effects of `overlay-state.js` by streams, dials and timers.
//
// Entry: the gated protocol `/diatribe/overlay/1.0.0`, `onUp`, `onDown`, `admits`. The rule it keeps: no rule is made
// here; a dial that a hint asks for goes to the peer it names, which noise must prove, or to nobody.

import { multiaddr } from '@multiformats/multiaddr'
import { canonical, hostOf, scopeOfLink } from './addresses.js'
import { NotSpoken, answering, ask, isViolation } from './exchange.js'
import { NoFrame } from './frame.js'
import { MAX_FRAME, PROTOCOL, decodeReferrals, decodeRequest, decodeResponse, encodeRequest, encodeResponse } from './overlay-messages.js'
import { OverlayState } from './overlay-state.js'
import { Malformed } from './protobuf.js'

const RESPONSE_MS = 5_000
const DIAL_MS = 8_000
const TICK_MS = 250
/** How long the neighbours may take to hear that this node stops. */
const LEAVE_MS = 300
/** Delay before a link is closed, so that data already sent on it arrives. */
const CLOSE_MS = 250
const MAX_STREAMS = 8

export class Overlay {
  #components
  #links
  #tell
  #state
  #timer

  constructor ({ components, links, maxLinks, isWelcome, tell }) {
    this.#components = components
    this.#links = links
    this.#tell = tell
    this.#state = new OverlayState({
      me: components.peerId.toString(),
      maxLinks,
      isWelcome,
      addresses: () => this.#addresses(),
      random: Math.random,
      nonce: () => crypto.getRandomValues(new BigUint64Array(1))[0],
      now: Date.now()
    })
  }

  async start (registrar) {
    const handler = answering(
      (body, connection) => this.#answer(body, connection),
      (connection, error) => this.#accuse(connection.remotePeer.toString(), error),
      { limit: MAX_FRAME, timeoutMs: RESPONSE_MS }
    )
    await registrar.handle(PROTOCOL, handler, { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS })
    this.#timer = setInterval(() => this.#carryOut(this.#state.tick(Date.now())), TICK_MS)
  }

  /** Tells the neighbours that this node stops. */
  async leave () {
    clearInterval(this.#timer)
    const said = this.#state.leave().map(effect => this.#ask(effect))
    await Promise.race([Promise.all(said), new Promise(resolve => setTimeout(resolve, LEAVE_MS))])
  }

  stop (registrar) {
    clearInterval(this.#timer)
    return registrar.unhandle(PROTOCOL)
  }

  /** Whether a peer in its handshake is let in. */
  admits ({ remotePeer, direction }, links) {
    return this.#state.admits(remotePeer.toString(), direction === 'outbound', links)
  }

  onUp ({ id, connection }) {
    const { remoteAddr, direction } = connection
    const dialled = direction === 'outbound'
    const address = dialled ? canonical(remoteAddr) : undefined
    this.#carryOut(this.#state.up(Date.now(), { id, scope: scopeOfLink(remoteAddr), host: hostOf(remoteAddr), dialled, address }))
  }

  /** A busy node has named others instead, as bytes of Contacts. */
  onReferred ({ remoteAddr }, bytes) {
    let contacts
    try {
      contacts = decodeReferrals(bytes, scopeOfLink(remoteAddr))
    } catch (error) {
      if (error instanceof Malformed) return
      throw error
    }
    this.#state.referred(contacts)
  }

  onDown ({ id, isOffender }) {
    this.#carryOut(this.#state.down(Date.now(), id, isOffender))
  }

  /** Where others can dial this node. */
  #addresses () {
    return this.#components.addressManager.getAddresses().map(canonical).filter(address => address !== undefined)
  }

  async #answer (body, connection) {
    await this.#links.passed(connection)
    const id = connection.remotePeer.toString()
    const scope = scopeOfLink(connection.remoteAddr)
    const { response, effects } = this.#state.request(Date.now(), id, decodeRequest(body, scope, id))
    const { kind, ...message } = response
    // The response is sent first: its effects may be fast.
    setTimeout(() => this.#carryOut(effects))
    return encodeResponse(kind, message, scope)
  }

  #carryOut (effects) {
    for (const effect of effects) {
      switch (effect.do) {
        case 'ask': this.#ask(effect); break
        case 'dial': this.#dial(effect); break
        case 'close': this.#close(effect); break
        case 'expectClose': this.#expectClose(effect); break
        case 'hint': this.#tell('hint', { from: effect.from, to: effect.to, address: effect.address, outcome: effect.outcome }); break
      }
    }
  }

  async #ask (effect) {
    const connection = this.#links.get(effect.to)?.connection
    if (connection === undefined) return
    const scope = scopeOfLink(connection.remoteAddr)
    let response
    try {
      const request = encodeRequest(effect.kind, effect.message, scope)
      const answer = await ask(connection, PROTOCOL, request, { limit: MAX_FRAME, timeoutMs: RESPONSE_MS })
      response = decodeResponse(answer, scope, effect.to)
    } catch (error) {
      if (error instanceof NotSpoken) response = 'plain'
      // No frame counts as no response.
      else if (isViolation(error) && !(error instanceof NoFrame)) this.#accuse(effect.to, error)
    }
    this.#carryOut(this.#state.answered(Date.now(), effect.to, effect, response))
  }

  async #dial ({ to, addresses }) {
    try {
      await this.#links.connect(addresses.map(address => multiaddr(`${address}/p2p/${to}`)), { signal: AbortSignal.timeout(DIAL_MS) })
      // Meanwhile the peer may have dialled this node: then there is no link of this dial's own.
      if (this.#links.get(to)?.connection.direction !== 'outbound') this.#carryOut(this.#state.dialFailed(Date.now(), to, 'already_linked'))
    } catch (error) {
      this.#carryOut(this.#state.dialFailed(Date.now(), to, outcomeOf(error)))
    }
  }

  #close ({ id, reason }) {
    const link = this.#links.get(id)
    if (link === undefined) return
    link.closing = reason
    setTimeout(() => this.#links.hangUp(link, reason), CLOSE_MS)
  }

  #expectClose ({ id, reason }) {
    const link = this.#links.get(id)
    if (link !== undefined) link.closing = reason
  }

  #accuse (id, error) {
    this.#links.accuse(id, 'INVALID_OVERLAY', error.message)
  }
}

function outcomeOf (error) {
  if (error.stage !== undefined) return 'rejected'
  const all = [error, error.cause, ...(error.errors ?? [])].filter(Boolean)
  return all.some(({ name }) => name === 'UnexpectedPeerError') ? 'wrong_peer' : 'unreachable'
}
