// One frame on a stream: a minimal unsigned varint n, 1 ≤ n ≤ limit, then n bytes, then nothing.

import { concat } from './bytes.js'
import { varint } from './protobuf.js'

/** Bytes that are no frame. */
export class NoFrame extends Error {}

/** A stream that ended before its frame did: nothing, or the peer is going away. */
export class Ended extends NoFrame {}

/** Writes the only frame of this direction, and half-closes. */
export async function writeFrame (stream, body, signal) {
  stream.send(concat(varint(body.length), body))
  await stream.close({ signal })
}

/**
 * Reads the only frame of this direction. A responder need not wait for the half-close, but bytes that have already arrived
 * after the frame are a violation.
 */
export async function readFrame (stream, limit, signal) {
  const chunks = stream[Symbol.asyncIterator]()
  const stop = () => stream.abort(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    let bytes = new Uint8Array()
    for (;;) {
      const head = length(bytes, limit)
      if (head !== undefined) {
        const end = head.size + head.length
        if (bytes.length > end) throw new NoFrame('bytes follow the frame')
        if (bytes.length === end) return bytes.subarray(head.size)
      }
      const { value, done } = await chunks.next()
      signal.throwIfAborted()
      if (done) throw new Ended('the stream ended before the frame did')
      bytes = concat(bytes, value.subarray())
    }
  } finally {
    signal.removeEventListener('abort', stop)
    await chunks.return?.()
  }
}

/** The frame's length and the size of its varint; undefined when more bytes are needed. */
function length (bytes, limit) {
  let value = 0
  for (let i = 0; i < bytes.length; i++) {
    value += (bytes[i] & 0x7f) * 2 ** (7 * i)
    if (bytes[i] < 0x80) {
      if (value === 0 && i === 0) throw new NoFrame('the frame is empty')
      if (bytes[i] === 0) throw new NoFrame("the frame's length is not a minimal varint")
      if (value > limit) throw new NoFrame(`the frame's length of ${value} bytes is over the limit of ${limit}`)
      return { length: value, size: i + 1 }
    }
    if (2 ** (7 * (i + 1)) > limit) throw new NoFrame(`the frame is over the limit of ${limit} bytes`)
  }
  return undefined
}
