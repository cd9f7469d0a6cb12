// yamux with frames that every peer accepts.
//
// js-libp2p writes a frame as large as the window is open, up to 16 MiB, and has no option for that; others close the
// connection at a frame of more than 1 MiB. The rule it keeps: a stream writes frames of bounded size, one after
// the other, and applies backpressure between them instead of at the end.

import { yamux as libraryYamux } from '@libp2p/yamux'

/** The most bytes that one frame carries. */
export const MAX_FRAME_DATA = 64 * 1024

/** As `yamux` of @libp2p/yamux. */
export function yamux (options) {
  return components => {
    const factory = libraryYamux(options)(components)
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = connection => splitting(create(connection))
    return factory
  }
}

/** Every stream of a muxer, whichever side opens it, is made by its `_newStream`. */
function splitting (muxer) {
  const create = muxer._newStream.bind(muxer)
  muxer._newStream = (...about) => {
    const stream = create(...about)
    const send = stream.sendData.bind(stream)
    stream.sendData = bytes => sendInParts(send, bytes)
    return stream
  }
  return muxer
}

function sendInParts (send, bytes) {
  let sentBytes = 0
  while (bytes.byteLength > 0) {
    const sent = send(bytes.sublist(0, Math.min(MAX_FRAME_DATA, bytes.byteLength)))
    bytes.consume(sent.sentBytes)
    sentBytes += sent.sentBytes
    if (!sent.canSendMore) return { sentBytes, canSendMore: false }
  }
  return { sentBytes, canSendMore: true }
}
