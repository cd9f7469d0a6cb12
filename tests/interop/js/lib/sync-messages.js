// The messages of data checking, as bytes: `sync.proto`.

import { concat } from './bytes.js'
import { Violation } from './exchange.js'
import { decodeOneOf, encodeOneOf } from './protobuf.js'

export const PROTOCOL = '/diatribe/sync/1.0.0'
export const MAX_REQUEST = 65_536
export const MAX_RESPONSE = 1_179_648
/** The largest negentropy frame in a request, and in a response. */
export const MAX_ASKED = 60 * 1024
export const MAX_ANSWERED = 256 * 1024
/** Ids in one Fetch. */
export const MAX_IDS = 1_024
const ID_SIZE = 32
const MAX_ROOM = 255
/** Maximum size of a Batches besides its envelopes: ids, each with a time at most, and the keys and lengths. */
const BATCHES_SLACK = MAX_IDS * (ID_SIZE + 10) + 64

const REQUESTS = {
  compare: [1, { room: [1, 'string'], since_ms: [2, 'uint64'], until_ms: [3, 'uint64'], frame: [4, 'bytes'] }],
  fetch: [2, { room: [1, 'string'], ids: [2, 'bytes'] }],
  lagging: [3, { room: [1, 'string'], count: [2, 'uint64'] }]
}

const RESPONSES = {
  ranges: [1, { frame: [1, 'bytes'], since_ms: [2, 'uint64'] }],
  batches: [2, { envelopes: [1, bytes => bytes], missing: [2, 'bytes'], removed: [3, 'bytes'], removed_at_ms: [4, 'uint64s'] }],
  ack: [3, {}],
  retryAfter: [4, { after_ms: [1, 'uint32'] }],
  notSubscribed: [5, {}]
}

/** Which response belongs to a request. */
const ANSWERS = { compare: 'ranges', fetch: 'batches', lagging: 'ack' }

export function encodeRequest (kind, message) {
  return encodeOneOf(kind, message, REQUESTS)
}

export function decodeRequest (bytes) {
  const request = decodeOneOf(bytes, REQUESTS)
  if (new TextEncoder().encode(request.room).length > MAX_ROOM) throw new Violation(`a room's name has more than ${MAX_ROOM} bytes`)
  if (request.kind === 'compare' && request.until_ms !== 0n && request.since_ms >= request.until_ms) throw new Violation('the window ends before it begins')
  if (request.kind === 'compare' && request.frame.length > MAX_ASKED) throw new Violation(`a comparison has a frame of ${request.frame.length} bytes, the limit is ${MAX_ASKED}`)
  if (request.kind === 'fetch') request.ids = splitIds(request.ids)
  return request
}

export function encodeResponse (kind, message) {
  return encodeOneOf(kind, message, RESPONSES)
}

/** Reads the response to a request: the kind that belongs to it, or retryAfter, or notSubscribed. */
export function decodeResponse (bytes, asked) {
  const response = decodeOneOf(bytes, RESPONSES)
  if (![ANSWERS[asked], 'retryAfter', 'notSubscribed'].includes(response.kind)) throw new Violation(`${response.kind} is no answer to ${asked}`)
  if (response.kind === 'ranges' && response.frame.length > MAX_ANSWERED) throw new Violation(`an answer has a frame of ${response.frame.length} bytes, the limit is ${MAX_ANSWERED}`)
  if (response.kind === 'batches') {
    response.missing = splitIds(response.missing, 0)
    response.removed = splitIds(response.removed, 0)
    if (![0, response.removed.length].includes(response.removed_at_ms.length)) throw new Violation('of the batches that made room not each has a time')
  }
  return response
}

/** The Batches that answer the first of some ids: as many as fit. `find(id)` yields an envelope, or a time, or nothing. */
export function fill (ids, find) {
  const [envelopes, missing, removed, times] = [[], [], [], []]
  let size = BATCHES_SLACK
  for (const id of ids) {
    const found = find(id)
    size += found?.length ?? 0
    if (size > MAX_RESPONSE) break
    if (found === undefined) missing.push(id)
    else if (typeof found === 'number') {
      removed.push(id)
      times.push(found)
    } else envelopes.push(found)
  }
  return { envelopes, missing: concat(...missing), removed: concat(...removed), removed_at_ms: times }
}

function splitIds (bytes, least = 1) {
  const count = bytes.length / ID_SIZE
  if (!Number.isInteger(count) || count < least || count > MAX_IDS) throw new Violation(`${bytes.length} bytes are not ${least} to ${MAX_IDS} ids of ${ID_SIZE} bytes`)
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * ID_SIZE, (i + 1) * ID_SIZE))
}
