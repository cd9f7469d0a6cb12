// The published vectors of the messages between neighbours: overlay and data checking.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { LOOPBACK, PRIVATE, PUBLIC, readAddresses, scopeOf, scopeOfLink } from '../lib/addresses.js'
import { fromHex, toHex } from '../lib/bytes.js'
import { Log } from '../lib/log.js'
import { BadFrame, answer, begin, fingerprint, order, proceed, read, varint } from '../lib/negentropy.js'
import * as Overlay from '../lib/overlay-messages.js'
import * as Sync from '../lib/sync-messages.js'

const vectors = name => JSON.parse(readFileSync(new URL(`../../../../proto/vectors/${name}.json`, import.meta.url)))
const overlay = vectors('overlay')
const sync = vectors('sync')

/** The name of a message as the peer spells it: `RetryAfter` is `retryAfter`. */
const camel = kind => kind[0].toLowerCase() + kind.slice(1)

// --- overlay

const ENUMS = { role: Overlay.Role, answer: Overlay.Answer, refusal: Overlay.Refusal }
const contact = ({ peer_id: id, addresses }) => ({ id, addresses })

/** A published message as it is here: numbers for names, BigInts for nonces. */
function own ({ kind, fields }) {
  const message = { kind: camel(kind) }
  for (const [name, value] of Object.entries(fields)) {
    if (name === 'nonce') message.nonce = BigInt(`0x${value}`)
    else if (name in ENUMS) message[name] = ENUMS[name][value]
    else if (name === 'contacts' || name === 'offered') message[name] = value.map(contact)
    else if (name === 'to') message.to = contact(value)
    else message[name] = value
  }
  return message
}

/** Only the published fields: absent ones have their zero values. */
const part = (message, like) => Object.fromEntries(Object.keys(like).map(name => [name, message[name]]))

test('overlay: messages have the published bytes, and are read from them', () => {
  for (const which of ['Request', 'Response']) {
    for (const vector of overlay[`${which.toLowerCase()}s`]) {
      const expected = own(vector)
      const { kind, ...message } = expected
      assert.equal(toHex(Overlay[`encode${which}`](kind, message, LOOPBACK)), vector.body, vector.name)
      assert.deepEqual(part(Overlay[`decode${which}`](fromHex(vector.body), LOOPBACK, overlay.sender), expected), expected, vector.name)
    }
  }
})

test('overlay: unusual bytes are read as published', () => {
  for (const vector of overlay.read) {
    const decode = vector.message === 'request' ? Overlay.decodeRequest : Overlay.decodeResponse
    const expected = own(vector)
    assert.deepEqual(part(decode(fromHex(vector.body), LOOPBACK, overlay.sender), expected), expected, vector.name)
  }
})

test('overlay: offences are refused', () => {
  for (const { name, message, body } of overlay.refused) {
    const decode = message === 'request' ? Overlay.decodeRequest : Overlay.decodeResponse
    assert.throws(() => decode(fromHex(body), LOOPBACK, overlay.sender), `${name} (${message})`)
  }
})

test('overlay: addresses have the published scopes, and one spelling', () => {
  const scopes = { loopback: LOOPBACK, private: PRIVATE, public: PUBLIC }
  const sender = peerIdFromString(overlay.sender).toMultihash().bytes
  for (const { address, bytes, scope, read } of overlay.scopes) {
    const given = fromHex(bytes)
    assert.equal(scopeOf({ bytes: given }, sender), scopes[scope], address)
    assert.deepEqual(readAddresses([given], LOOPBACK, sender), read === null ? [] : [read], address)
  }
})

test('overlay: a link may name the published addresses', () => {
  for (const { link, address, allowed } of overlay.in_scope) {
    const found = readAddresses([multiaddr(address).bytes], scopeOfLink(multiaddr(link)))
    assert.equal(found.length === 1, allowed, `${address} over ${link}`)
  }
})

// --- data checking

const items = list => list.map(([ms, id]) => ({ timestamp: BigInt(ms), id: fromHex(id) })).sort(order)
const hex = list => list.map(bytes => toHex(Uint8Array.from(bytes)))

test('data checking: numbers and fingerprints have the published bytes', () => {
  for (const { value, bytes } of sync.numbers) assert.equal(toHex(varint(BigInt(value))), bytes)
  for (const { name, ids, fingerprint: expected } of sync.fingerprints) {
    assert.equal(toHex(fingerprint(ids.map(id => ({ timestamp: 0n, id: fromHex(id) })))), expected, name)
  }
})

test('data checking: frames are read as published, bad ones refused', () => {
  const modes = ['Skip', 'Fingerprint', 'IdList']
  for (const { name, frame, ranges } of sync.frames) {
    const found = [...read(fromHex(frame))].map(({ timestamp, id, mode, fingerprint, ids }) => ({
      ms: timestamp === 2n ** 64n - 1n ? null : Number(timestamp),
      prefix: toHex(id),
      kind: modes[mode],
      ...(ids && { ids: hex(ids) }),
      ...(fingerprint && { fingerprint: toHex(fingerprint) })
    }))
    assert.deepEqual(found, ranges, name)
  }
  for (const { name, frame } of sync.bad_frames) {
    assert.throws(() => answer([], fromHex(frame), Sync.MAX_ANSWERED), BadFrame, name)
    assert.throws(() => proceed([], fromHex(frame), Sync.MAX_ASKED), BadFrame, name)
  }
})

test('data checking: an opener learns the published ids', () => {
  for (const { name, items: held, frame, next, lacking, ahead } of sync.learn) {
    const step = proceed(items(held), fromHex(frame), Sync.MAX_ASKED)
    assert.deepEqual(step.need.sort(), lacking.toSorted(), name)
    assert.equal(step.have.length, ahead, name)
    assert.equal(step.frame === undefined, next === null, name)
  }
})

test('data checking: comparisons go as published, frame by frame', () => {
  for (const { name, since_ms: sinceMs, until_ms: untilMs, opener, answerer, frames, lacking, ahead } of sync.comparisons) {
    const [mine, theirs] = [opener, answerer].map(list => windowOf(list, sinceMs, untilMs))
    const found = { need: [], have: [] }
    let frame = begin(mine)
    for (const { from, frame: expected } of frames) {
      assert.equal(toHex(frame), expected, `${name}: ${from}`)
      if (from === 'opener') {
        frame = answer(theirs, fromHex(expected), Sync.MAX_ANSWERED)
        continue
      }
      const step = proceed(mine, fromHex(expected), Sync.MAX_ASKED)
      for (const what of ['need', 'have']) found[what].push(...step[what])
      frame = step.frame
    }
    assert.equal(frame, undefined, name)
    assert.deepEqual(found.need.sort(), lacking.toSorted(), name)
    assert.equal(found.have.length, ahead, name)
  }
})

/** The items that take part, by the log itself. */
function windowOf (list, sinceMs, untilMs) {
  const log = new Log()
  list.forEach(([ms, id], i) => log.add({ id: fromHex(id), sentAtMs: ms, author: Uint8Array.of(1), instanceId: Uint8Array.of(i >> 8, i), firstSeq: 1, events: [0] }, new Uint8Array(1)))
  return log.window(sinceMs, untilMs)
}

test('data checking: messages have the published bytes, and are read from them', () => {
  for (const { name, kind, fields: { ids, ...fields }, body } of sync.requests) {
    const message = { ...fields, ...(ids && { ids: fromHex(ids.join('')) }), ...(fields.frame && { frame: fromHex(fields.frame) }) }
    assert.equal(toHex(Sync.encodeRequest(camel(kind), message)), body, name)
    const found = Sync.decodeRequest(fromHex(body))
    assert.equal(found.kind, camel(kind))
    assert.equal(found.room, fields.room)
    if (ids !== undefined) assert.deepEqual(hex(found.ids), ids)
    for (const number of ['since_ms', 'until_ms', 'count']) {
      if (number in fields) assert.equal(found[number], BigInt(fields[number]), name)
    }
  }
  const asked = { Ranges: 'compare', Batches: 'fetch', Ack: 'lagging', RetryAfter: 'fetch', NotSubscribed: 'fetch' }
  for (const { name, kind, fields, body } of sync.responses) {
    const { kind: found, ...message } = Sync.decodeResponse(fromHex(body), asked[kind])
    assert.equal(found, camel(kind), name)
    if (kind === 'Ranges') assert.deepEqual([toHex(message.frame), message.since_ms], [fields.frame, BigInt(fields.since_ms)], name)
    if (kind === 'Batches') assert.deepEqual([hex(message.envelopes), hex(message.missing)], [fields.envelopes, fields.missing], name)
    if (kind === 'RetryAfter') assert.equal(message.after_ms, fields.after_ms)
  }
})

test('data checking: removed batches are named by id and time', () => {
  for (const { name, fields, body } of sync.removed ?? []) {
    const { envelopes, missing, removed, removed_at_ms: times } = Sync.decodeResponse(fromHex(body), 'fetch')
    assert.deepEqual([hex(envelopes), hex(missing)], [fields.envelopes, fields.missing], name)
    assert.deepEqual(removed.map((id, i) => [Number(times[i]), toHex(id)]), fields.removed, name)
    const written = { envelopes, missing: fromHex(fields.missing.join('')), removed: fromHex(fields.removed.map(([, id]) => id).join('')), removed_at_ms: times }
    assert.equal(toHex(Sync.encodeResponse('batches', written)), body, name)
  }
  for (const { name, body } of sync.refused_removed ?? []) assert.throws(() => Sync.decodeResponse(fromHex(body), 'fetch'), name)
})

test('data checking: offences are refused', () => {
  for (const { name, message, body } of sync.refused) {
    const decode = bytes => message === 'request' ? Sync.decodeRequest(bytes) : Sync.decodeResponse(bytes, 'fetch')
    assert.throws(() => decode(fromHex(body)), `${name} (${message})`)
  }
})
