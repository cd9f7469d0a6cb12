// One request and one response on a stream of a link: how the overlay and data checking speak.
//
// Entry: `ask` and `answering`. The rule they keep: one frame each way within its limit and its timeout; anything
// else is a violation, after which nothing more is read.

import { Ended, NoFrame, readFrame, writeFrame } from './frame.js'
import { Malformed } from './protobuf.js'

/** The peer does not speak the protocol at all. */
export class NotSpoken extends Error {}

/** A frame that breaks a rule of its protocol, beyond those of protocol buffers. */
export class Violation extends Error {}

/** Whether an error is the peer's breach of a rule, and not the way of the world. */
export function isViolation (error) {
  return (error instanceof NoFrame && !(error instanceof Ended)) || error instanceof Malformed || error instanceof Violation
}

/** Sends a request on a stream of its own and yields the response's bytes. */
export async function ask (connection, protocol, request, { limit, timeoutMs }) {
  const signal = AbortSignal.timeout(timeoutMs)
  let stream
  try {
    stream = await connection.newStream(protocol, { signal, maxOutboundStreams: Infinity })
    await writeFrame(stream, request, signal)
    return await readFrame(stream, limit, signal)
  } catch (error) {
    stream?.abort(error)
    throw error.name === 'UnsupportedProtocolError' ? new NotSpoken(`the peer does not speak ${protocol}`) : error
  }
}

/** A handler of inbound streams: `answer(body, connection)` yields the response, `onViolation(connection, error)` hears of breaches. */
export function answering (answer, onViolation, { limit, timeoutMs }) {
  return async (stream, connection) => {
    try {
      const body = await readFrame(stream, limit, AbortSignal.timeout(timeoutMs))
      await writeFrame(stream, await answer(body, connection), AbortSignal.timeout(timeoutMs))
    } catch (error) {
      stream.abort(error)
      if (isViolation(error)) onViolation(connection, error)
    }
  }
}
