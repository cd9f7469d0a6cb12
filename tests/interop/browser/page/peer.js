// A diatribe peer in a page: the JavaScript peer, as far as a browser can be one.
//
//   const peer = await startPeer({ rooms, dial, networkKey, seed, trust, deny, maxLinks }, line => …)
//   peer.say('{"text": "hello"}')
//   await peer.stop()
//
// Lines follow `proto/output.schema.json`: input as objects, output as JSON. The rule it keeps: a page dials and is never
// dialled.

import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { diatribe, identify, yamux } from '../../js/diatribe.js'
import { fromHex } from '../../js/lib/bytes.js'
import { keepDialing } from '../../js/lib/dialing.js'

/** The events of diatribe.js; unknown ones are never fired. */
const TOLD_AS_IT_IS = ['link_up', 'link_down', 'redirected', 'hint', 'checked']

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @param options { rooms, dial, networkKey, seed, trust, deny, maxLinks }: keys in hex; lists of text */
export async function startPeer ({ rooms, dial = [], networkKey, seed, trust, deny, maxLinks }, onLine) {
  const tell = (type, fields) => onLine({ time: new Date().toISOString(), type, ...fields })
  const addresses = dial.map(address => [address, readAddress(address)])
  const node = await createLibp2p({
    privateKey: seed === undefined ? await generateKeyPair('Ed25519') : await generateKeyPairFromSeed('Ed25519', fromHex(seed)),
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // In a browser js-libp2p dials by itself neither loopback, nor private addresses, nor a websocket without TLS.
    connectionGater: { denyDialMultiaddr: () => false },
    connectionMonitor: { enabled: false },
    services: {
      identify: identify(),
      ping: ping(),
      diatribe: diatribe({ networkKey: networkKey && fromHex(networkKey), trust, deny, maxLinks })
    }
  })
  const service = node.services.diatribe
  for (const room of rooms) service.join(room)
  for (const type of TOLD_AS_IT_IS) service.addEventListener(type, ({ detail }) => tell(type, detail))
  service.addEventListener('refused', ({ detail }) => tell('refused', { ...detail, code: detail.code ?? null }))
  service.addEventListener('message', ({ detail }) => tell('message', {
    ...detail,
    data: detail.data.toBase64(),
    text: textOf(detail.data),
    sent_at: new Date(detail.sent_at).toISOString()
  }))
  tell('online', { peer_id: node.peerId.toString(), addresses: [], rooms })

  const keep = ([text, address]) => keepDialing(node, address, error => tell('refused', { address: text, code: null, ...failureOf(error) }))
  addresses.forEach(keep)
  return {
    id: node.peerId.toString(),
    say: answering(service, rooms[0], tell),
    dial: address => { keep([address, readAddress(address)]) },
    stop: () => node.stop()
  }
}

function readAddress (text) {
  try {
    return multiaddr(text)
  } catch (error) {
    throw new Error(`${text} is no address (${error.message}): it looks like /ip4/127.0.0.1/tcp/9000/ws`)
  }
}

/** The text of bytes that are UTF-8. */
function textOf (data) {
  try { return utf8.decode(data) } catch { return undefined }
}

// --- input

/** Answers lines of JSON in their order. */
function answering (service, firstRoom, tell) {
  let answered = Promise.resolve()
  return line => {
    const { room, sent } = send(service, line, firstRoom)
    const answer = sent.then(
      ({ id, seq, links }) => () => tell('sent', { id, seq, room, links }),
      error => () => tell('error', { reason: error.message, room })
    )
    answered = answered.then(async () => (await answer)())
  }
}

/** One line: `{ room, sent }`, where sent is the promise of `broadcast`. */
function send (service, line, firstRoom) {
  let room
  try {
    const event = JSON.parse(line)
    if (typeof event !== 'object' || event === null) throw new Error('a line is an object, such as {"text": "hello"}')
    const { name = 'chat', text, data, ...rest } = event
    if (typeof (rest.room ?? '') !== 'string' || typeof name !== 'string') throw new Error('room and name are texts')
    room = rest.room ?? firstRoom
    delete rest.room
    if (Object.keys(rest).length > 0) throw new Error(`a line has no ${Object.keys(rest)}`)
    if ((typeof text === 'string') === (typeof data === 'string')) throw new Error('a line has either text or data')
    const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : Uint8Array.fromBase64(data)
    return { room, sent: service.broadcast(room, { name, data: bytes }) }
  } catch (error) {
    return { room, sent: Promise.reject(error) }
  }
}

// --- dialling

/** Returns the stage at which a dial failed before the handshake, and the reason. */
function failureOf (error) {
  const all = [error, error?.cause, ...(error?.errors ?? [])].filter(Boolean)
  const is = (...names) => all.some(e => names.includes(e.name))
  if (is('UnexpectedPeerError', 'EncryptionFailedError', 'InvalidCryptoExchangeError')) return { stage: 'noise', reason: error.message }
  if (is('MuxerUnavailableError')) return { stage: 'yamux', reason: error.message }
  // A websocket that fails in a browser tells the page nothing: js-libp2p throws its event, which has no message.
  const reason = all.map(e => e.message).find(Boolean)
  return { stage: 'websocket', reason: reason ?? 'no websocket: nobody listens there, or it is no websocket, or the browser forbids it; a page is not told which' }
}
