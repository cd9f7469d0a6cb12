// The handshake of one connection: `Round` carried over libp2p streams, with its deadlines.
//
// The rule it keeps: frames travel only on the connection they prove; an extra, repeated or out-of-order frame ends it;
// and the gate is open inbound before the frame is sent that lets the peer open streams.

import { toHex } from './bytes.js'
import { NoFrame, readFrame, writeFrame } from './frame.js'
import { MAX_FRAME, PROTOCOL, Refused, Round, codeName, decodeFrame, rejectFrame } from './handshake.js'

const FRAME_TIMEOUT_MS = 3_000
const TIMEOUT_MS = 10_000
const REJECT_FLUSH_MS = 500
/** The handshake needs one stream each way; another arrives only with a violation, which must still be read. */
export const MAX_STREAMS = 4

/**
 * Why a handshake did not pass. `code` is a code of the contract, TIMEOUT, VIOLATION, or nothing; `referrals` are the
 * contacts that a busy peer named instead, as bytes.
 */
export class HandshakeFailure extends Error {
  constructor (round, code, reason, referrals) {
    super(reason)
    Object.assign(this, { stage: `handshake_${round}`, code, reason, referrals })
  }
}

/** Closes a connection, also where the peer does not play along. js-libp2p's `abort` leaves a websocket open. */
export async function hangUp (connection) {
  try {
    await connection.close({ signal: AbortSignal.timeout(500) })
  } catch (error) {
    connection.muxer?.abort(error)
    await connection.maConn?.close({ signal: AbortSignal.timeout(500) }).catch(() => {})
  }
}

export class Session {
  #round = 1
  #over = new AbortController()
  /** The waiter for the peer's next request, and the one request that may arrive earlier. */
  #taker
  #held
  #mayHold = false
  #state = 'running'
  #onViolation

  /**
   * @param local     the Local of this node
   * @param judge     async ({ peer, instanceId }) => undefined, or the code with which the peer is refused
   * @param open      async () => …: opens the gate inbound
   */
  constructor ({ connection, local, judge, open, onViolation }) {
    Object.assign(this, { connection, local, judge, open })
    this.#onViolation = onViolation
    this.remote = connection.remotePeer.toMultihash().bytes
    connection.addEventListener('close', () => {
      this.#over.abort(this.#failure(undefined, 'the peer closed the connection before the handshake was over'))
    })
  }

  /** Runs it to the pass, and resolves to the peer's Core; or closes the connection and throws. */
  async run () {
    const whole = setTimeout(() => {
      this.#over.abort(this.#failure('TIMEOUT', 'the handshake did not pass within 10 s of the connection'))
    }, TIMEOUT_MS)
    try {
      const peer = this.connection.direction === 'outbound' ? await this.#dialer() : await this.#listener()
      this.#state = 'passed'
      return peer
    } catch (error) {
      this.#state = 'over'
      // Exchanges that were open when the connection ended failed because of that.
      const named = !(error instanceof HandshakeFailure) && this.#over.signal.aborted ? this.#over.signal.reason : error
      await hangUp(this.connection)
      throw named instanceof HandshakeFailure ? named : this.#translate(named)
    } finally {
      clearTimeout(whole)
    }
  }

  async #dialer () {
    this.#mayHold = true
    const { peer, end } = await this.#ask()
    this.#round = 2
    return (await this.#serve(end, peer, () => this.open())).peer
  }

  async #listener () {
    const { peer, end } = await this.#serve()
    this.#round = 2
    return (await this.#ask(end, peer, () => this.open())).peer
  }

  /** One round as its client. */
  async #ask (prev, first, beforeAnswer) {
    const round = new Round({ local: this.local, remote: this.remote, number: this.#round, prev, first })
    const challenge = await this.#exchange(round.hello(), 'challenge')
    const { peer, answer } = await round.onChallenge(challenge)
    await beforeAnswer?.()
    const pass = await this.#exchange(answer, 'pass', frame => round.referrals(frame))
    return { peer, end: round.onPass(pass) }
  }

  /** One round as its server. */
  async #serve (prev, first, beforePass) {
    const round = new Round({ local: this.local, remote: this.remote, number: this.#round, prev, first })
    const hello = await this.#next('Hello')
    const challenge = await this.#orReject(hello, async () => round.onHello(this.#expect(hello.body, 'hello')))
    const answering = this.#next('Answer')
    answering.catch(() => {})
    await this.#respond(hello, challenge)
    const answer = await answering
    const { peer, end, pass } = await this.#orReject(answer, async () => {
      const accepted = await round.onAnswer(this.#expect(answer.body, 'answer'))
      const code = await this.judge?.({ peer: accepted.peer, instanceId: toHex(accepted.peer.instance_id) })
      if (code !== undefined) throw new Refused(code, `this node refuses the peer: ${code}`)
      return accepted
    })
    await beforePass?.()
    await this.#respond(answer, pass)
    return { peer, end }
  }

  /** Sends a request on a stream of its own and reads the response; `referralsOf` reads the referrals of a Reject. */
  async #exchange (body, kind, referralsOf) {
    const { signal, done } = this.#deadline(`the peer sent no ${kind} within 3 s`)
    try {
      const stream = await this.connection.newStream(PROTOCOL, { signal })
      await writeFrame(stream, body, signal)
      return this.#expect(await readFrame(stream, MAX_FRAME, signal), kind, referralsOf)
    } finally {
      done()
    }
  }

  async #respond ({ stream }, body) {
    const { signal, done } = this.#deadline('the peer did not take a response within 3 s')
    try {
      await writeFrame(stream, body, signal)
    } finally {
      done()
    }
  }

  /** Runs a server's step; when a check fails, sends the code to the peer. */
  async #orReject (request, step) {
    try {
      return await step()
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      const closed = new Promise(resolve => this.connection.addEventListener('close', resolve, { once: true }))
      this.#state = 'over'
      await this.#respond(request, rejectFrame(error.code)).catch(() => {})
      await Promise.race([closed, new Promise(resolve => setTimeout(resolve, REJECT_FLUSH_MS))])
      throw this.#failure(error.code, error.message)
    }
  }

  #expect (body, kind, referralsOf) {
    const frame = decodeFrame(body)
    if (frame.kind === 'reject' && (kind === 'challenge' || kind === 'pass')) {
      const code = codeName(frame.code)
      const hint = code === 'NETWORK' ? ': the network keys differ' : ''
      throw this.#failure(code, `the peer refused this node with ${code}${hint}`, referralsOf?.(frame))
    }
    if (frame.kind !== kind) throw this.#failure('VIOLATION', `the peer sent ${frame.kind} where ${kind} was due`)
    return frame
  }

  /** A stream that the peer opened. */
  async accept (stream) {
    try {
      const body = await readFrame(stream, MAX_FRAME, AbortSignal.timeout(FRAME_TIMEOUT_MS))
      this.#deliver({ stream, body })
    } catch (error) {
      stream.abort(error)
      // A stream that ends is the peer's affair; bytes that are no frame are a violation.
      if (error instanceof NoFrame) this.#violate(error.message)
    }
  }

  #deliver (request) {
    if (this.#taker !== undefined) {
      const taker = this.#taker
      this.#taker = undefined
      taker(request)
    } else if (this.#mayHold && this.#held === undefined && this.#state === 'running') {
      // Streams overtake each other: round 2's Hello may arrive before round 1's Pass.
      this.#held = request
    } else {
      this.#violate('the peer sent a frame where none was due')
    }
  }

  #violate (reason) {
    if (this.#state === 'passed') this.#onViolation?.(reason)
    else this.#over.abort(this.#failure('VIOLATION', reason))
  }

  /** The peer's next request. */
  async #next (name) {
    this.#mayHold = false
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) return held
    const { signal, done } = this.#deadline(`the peer sent no ${name} within 3 s`)
    try {
      return await new Promise((resolve, reject) => {
        this.#taker = resolve
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        if (signal.aborted) reject(signal.reason)
      })
    } finally {
      done()
      this.#taker = undefined
    }
  }

  /** A signal that fires when the next frame is overdue, or when all is over. */
  #deadline (reason) {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(this.#failure('TIMEOUT', reason)), FRAME_TIMEOUT_MS)
    return { signal: AbortSignal.any([late.signal, this.#over.signal]), done: () => clearTimeout(timer) }
  }

  #failure (code, reason, referrals) {
    return new HandshakeFailure(this.#round, code, reason, referrals)
  }

  #translate (error) {
    if (error instanceof Refused) return this.#failure(error.code, error.message)
    if (error.name === 'UnsupportedProtocolError') {
      return this.#failure(undefined, `the peer does not speak ${PROTOCOL}: it is another libp2p program, or another version of diatribe`)
    }
    return this.#failure(undefined, `a handshake stream failed: ${error.message}`)
  }
}
