// Rooms and batches: valid room names, and the signed envelopes of a room.
//
// The rules it keeps: a signature counts in one network only, and an id names the signed bytes, in one room: bytes that are not
// exactly an envelope never have the id of one.

import { sha256 } from '@noble/hashes/sha2.js'
import { ascii, concat, same } from './bytes.js'
import { peerIdBytes, publicKeyOf, verify } from './identity.js'
import { Malformed, bytesField, decode, messageField, numberField, varint } from './protobuf.js'

export const MAX_EVENT_DATA = 1024 * 1024
export const MAX_EVENT_NAME = 256
export const MAX_EVENTS = 1024
/** Batches that one may follow, and how long an id is. */
export const MAX_PREV = 4
export const ID_SIZE = 32
/** The largest data of a gossipsub message. */
export const MAX_MESSAGE = MAX_EVENT_DATA + 1024
/** A sender closes a batch of several events at this size. */
export const MAX_BATCH = 64 * 1024
/** Bytes that an event counts besides its name and data: a small one costs its receivers more than its bytes. */
export const EVENT_OVERHEAD = 64

const MAX_AHEAD_MS = 5n * 60n * 1000n
const MAX_SEQ = 2n ** 53n - 1n
const SIGNED = ascii('diatribe-batch-v2')
const ID = ascii('diatribe-batch-id-v2')
const BAD_ID = ascii('diatribe-bad-v2')
const TOPIC = '/diatribe/1/'
const utf8 = new TextEncoder()

// eslint-disable-next-line no-control-regex
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f/\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?! )\p{White_Space}/u

/** Returns the fault of a room's name; undefined for a valid one. */
export function roomFault (name) {
  const length = utf8.encode(name).length
  if (length < 1 || length > 64) return 'a room has a name of 1 to 64 bytes'
  if (name !== name.normalize('NFC') || !name.isWellFormed()) return "a room's name is in NFC"
  if (FORBIDDEN.test(name)) return "a character is not allowed in a room's name"
  if (name.startsWith(' ') || name.endsWith(' ')) return "a room's name neither begins nor ends with a space"
}

export function topicOf (room) {
  return TOPIC + room
}

/** The room of a topic, if it is one. */
export function roomOf (topic) {
  if (!topic.startsWith(TOPIC)) return undefined
  const room = topic.slice(TOPIC.length)
  return roomFault(room) === undefined ? room : undefined
}

/** A message that is no batch; `offence` tells whether the forwarding peer could have known. */
export class BatchError extends Error {
  constructor (kind, offence = true) {
    super(`the batch is refused: ${kind}`)
    Object.assign(this, { kind, offence })
  }
}

const EVENT = { name: [1, 'string'], data: [2, 'bytes'] }
const BATCH = {
  author: [1, 'bytes'],
  instance_id: [2, 'bytes'],
  first_seq: [3, 'uint64'],
  sent_at_ms: [4, 'uint64'],
  room: [5, 'string'],
  events: [6, bytes => decode(bytes, EVENT)],
  prev: [7, bytes => bytes]
}

/** How much an event adds to a batch. */
export function sizeOf (event) {
  return utf8.encode(event.name).length + event.data.length + EVENT_OVERHEAD
}

/** Returns the bytes that an author signs: the batch of this hash, in the network of this id. */
function signed (networkId, bodyHash) {
  return concat(SIGNED, networkId, bodyHash)
}

function idOf (room, bodyHash, signature) {
  const name = utf8.encode(room)
  return sha256(concat(ID, Uint8Array.of(name.length >> 8, name.length), name, bodyHash, signature))
}

/** The id of a message: its batch's if it is exactly an envelope in a room, else one that no batch has. */
export function messageId (topic, data) {
  const room = roomOf(topic)
  const parts = room === undefined || data.length > MAX_MESSAGE ? undefined : split(data)
  if (parts === undefined) return sha256(concat(BAD_ID, utf8.encode(topic), data))
  return idOf(room, sha256(parts.body), parts.signature)
}

/**
 * Signs events: the envelope's bytes and its id.
 *
 * @param networkId  32 bytes; zeros on the open network
 * @param prev       ids of the author's batches that this one follows, at most 4
 */
export function seal ({ identity, networkId, instanceId, firstSeq, sentAtMs, room, events, prev = [] }) {
  const body = concat(
    bytesField(1, identity.publicKey),
    bytesField(2, instanceId),
    numberField(3, firstSeq),
    numberField(4, sentAtMs),
    bytesField(5, utf8.encode(room)),
    ...events.map(({ name, data }) => messageField(6, concat(bytesField(1, utf8.encode(name)), bytesField(2, data)))),
    ...prev.map(id => messageField(7, id))
  )
  const hash = sha256(body)
  const signature = identity.sign(signed(networkId, hash))
  return { data: concat(messageField(1, body), messageField(2, signature)), id: idOf(room, hash, signature), body, signature }
}

/** Checks the data of a message in `room` of a network and reads it. Throws a BatchError. */
export function open (data, room, networkId, nowMs) {
  if (data.length > MAX_MESSAGE) throw new BatchError('TooLarge')
  const parts = split(data)
  if (parts === undefined) throw new BatchError('NotAnEnvelope')
  const { body, signature } = parts
  const batch = read(body)
  if (batch.prev.length > MAX_PREV) throw new BatchError('TooManyPrev')
  if (batch.prev.some(id => id.length !== ID_SIZE)) throw new BatchError('PrevLength')
  if (batch.events.length === 0) throw new BatchError('NoEvents')
  if (batch.events.length > MAX_EVENTS) throw new BatchError('TooManyEvents')
  for (const event of batch.events) {
    if (utf8.encode(event.name).length > MAX_EVENT_NAME) throw new BatchError('NameTooLong')
    if (event.data.length > MAX_EVENT_DATA) throw new BatchError('EventTooLarge')
  }
  const key = publicKeyOf(batch.author)
  if (key === undefined) throw new BatchError('Author')
  if (batch.instance_id.length !== 16) throw new BatchError('InstanceId')
  if (batch.room !== room) throw new BatchError('OtherRoom')
  const last = batch.first_seq + BigInt(batch.events.length) - 1n
  if (batch.first_seq < 1n || last > MAX_SEQ) throw new BatchError('Numbering')
  const hash = sha256(body)
  if (!verify(key, signed(networkId, hash), signature)) throw new BatchError('Signature')
  const id = idOf(room, hash, signature)
  if (batch.sent_at_ms > BigInt(nowMs) + MAX_AHEAD_MS) throw Object.assign(new BatchError('Ahead', false), { id })
  return {
    id,
    author: peerIdBytes(batch.author),
    instanceId: batch.instance_id,
    firstSeq: Number(batch.first_seq),
    sentAtMs: Number(batch.sent_at_ms),
    room,
    events: batch.events,
    // A repeated id counts once.
    prev: batch.prev.filter((id, i) => batch.prev.findIndex(other => same(other, id)) === i)
  }
}

/** The two parts of data that is exactly `0a len body 12 40 signature`; undefined of other data. */
function split (data) {
  for (let size = 1; size <= 4; size++) {
    const length = data.length - 67 - size
    if (length < 1) break
    const head = concat(Uint8Array.of(0x0a), varint(length))
    const end = 1 + size + length
    if (head.length === 1 + size && same(head, data.subarray(0, 1 + size)) && data[end] === 0x12 && data[end + 1] === 0x40) {
      return { body: data.subarray(1 + size, end), signature: data.subarray(end + 2) }
    }
  }
  return undefined
}

function read (body) {
  try {
    return decode(body, BATCH)
  } catch (error) {
    throw error instanceof Malformed ? new BatchError('NotABatch') : error
  }
}
