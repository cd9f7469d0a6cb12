// The messages of the overlay, as bytes: `overlay.proto`. PeerIds and addresses are text on this side.
//
// The rule it keeps: surplus entries, and addresses that the link may not name, are skipped when reading and
// never sent.

import { base58btc } from 'multiformats/bases/base58'
import * as Digest from 'multiformats/hashes/digest'
import { readAddresses, writeAddresses } from './addresses.js'
import { concat } from './bytes.js'
import { Violation } from './exchange.js'
import { decode, decodeOneOf, encode, encodeOneOf } from './protobuf.js'

export const PROTOCOL = '/diatribe/overlay/1.0.0'
export const MAX_FRAME = 8_192
export const MAX_CONTACTS = 8
export const MAX_OFFERED = 4
const MAX_REFERRALS = 4
const MAX_PEERS = 8

export const Role = { DIAL: 0, EXPECT: 1 }
export const Answer = { REFUSED: 0, ACCEPTED: 1, SPLIT: 2, PENDING: 3 }
export const Refusal = { NONE: 0, BUSY: 1, UNSUITABLE: 2, TOO_MANY: 3, NOT_DIALABLE: 4 }

/** Codes of multihashes, and the maximum size of a key that a PeerId contains itself. */
const IDENTITY = 0
const SHA256 = 0x12
const MAX_KEY = 42

const raw = bytes => bytes
const CONTACT = { peer_id: [1, 'bytes'], addresses: [2, raw] }
/** A contact as received, once it is known to be readable. */
const contact = bytes => {
  decode(bytes, CONTACT)
  return bytes
}
const CONTACTS = { contacts: [1, contact] }

const REQUESTS = {
  shuffle: [1, { offered: [1, contact] }],
  join: [2, { nonce: [1, 'fixed64'], need: [2, 'uint32'], links: [3, raw], dialable: [4, 'bool'], addresses: [5, raw] }],
  redirect: [3, { nonce: [1, 'fixed64'], role: [2, 'uint32'], to: [3, contact] }],
  attach: [4, { nonce: [1, 'fixed64'] }],
  report: [5, { nonce: [1, 'fixed64'], linked: [2, 'bool'] }],
  cancel: [6, { nonce: [1, 'fixed64'], keep: [2, 'bool'], contacts: [3, contact] }],
  proposeHandover: [7, { pair: [1, 'bool'] }],
  leave: [8, CONTACTS],
  dropRedundantLink: [9, { links: [1, raw] }]
}

const RESPONSES = {
  contacts: [1, CONTACTS],
  joined: [2, { answer: [1, 'uint32'], contacts: [2, contact] }],
  redirected: [3, { refusal: [1, 'uint32'], addresses: [2, raw] }],
  done: [4, { ok: [1, 'bool'] }],
  handoverReply: [5, { agreed: [1, 'bool'], nonce: [2, 'fixed64'], links: [3, raw], dialable: [4, 'bool'], addresses: [5, raw] }]
}

/** Reads a message that `sender`, given by its PeerId, has sent over a link of that scope. */
export const decodeRequest = (bytes, scope, sender) => read(decodeOneOf(bytes, REQUESTS), scope, sender)
export const decodeResponse = (bytes, scope, sender) => read(decodeOneOf(bytes, RESPONSES), scope, sender)
export const encodeRequest = (kind, message, scope) => encodeOneOf(kind, write(message, scope), REQUESTS)
export const encodeResponse = (kind, message, scope) => encodeOneOf(kind, write(message, scope), RESPONSES)

/** Reads the referrals of a busy node: contacts that are not verified. */
export function decodeReferrals (bytes, scope) {
  return readContacts(decode(bytes, CONTACTS).contacts, MAX_REFERRALS, scope)
}

/** Converts a message to text, without addresses that a link of that scope may not name. */
function read (message, scope, sender) {
  const text = { ...message }
  if (message.addresses !== undefined) text.addresses = readAddresses(message.addresses, scope, bytesOf(sender))
  if (message.links !== undefined) text.links = message.links.slice(0, MAX_PEERS).map(peerIdOf).filter(id => id !== undefined)
  if (message.contacts !== undefined) text.contacts = readContacts(message.contacts, MAX_CONTACTS, scope)
  if (message.offered !== undefined) text.offered = readContacts(message.offered, MAX_OFFERED, scope)
  if (message.to !== undefined) {
    // A message that is there twice is one with the fields of both.
    text.to = readContact(concat(...message.to), scope)
    if (text.to === undefined) throw new Violation('a redirect names no peer')
    if (message.role !== Role.EXPECT) text.role = Role.DIAL
  }
  if (message.need > 2) text.need = 2
  if (message.answer > Answer.PENDING) text.answer = Answer.REFUSED
  if (message.refusal > Refusal.NOT_DIALABLE) text.refusal = Refusal.BUSY
  return text
}

function write (message, scope) {
  const bytes = { ...message }
  if (message.addresses !== undefined) bytes.addresses = writeAddresses(message.addresses, scope)
  if (message.links !== undefined) bytes.links = message.links.map(bytesOf).slice(0, MAX_PEERS)
  for (const name of ['contacts', 'offered']) {
    if (message[name] !== undefined) bytes[name] = message[name].map(contact => writeContact(contact, scope))
  }
  if (message.to !== undefined) bytes.to = [writeContact(message.to, scope)]
  return bytes
}

function readContacts (list, most, scope) {
  return list.slice(0, MAX_CONTACTS).map(bytes => readContact(bytes, scope)).filter(contact => contact !== undefined).slice(0, most)
}

function readContact (bytes, scope) {
  const { peer_id: peerId, addresses } = decode(bytes, CONTACT)
  const id = peerIdOf(peerId)
  return id === undefined ? undefined : { id, addresses: readAddresses(addresses, scope, peerId) }
}

function writeContact ({ id, addresses }, scope) {
  return encode({ peer_id: bytesOf(id), addresses: writeAddresses(addresses, scope) }, CONTACT)
}

/**
 * The text of a PeerId's bytes, if they are one: a multihash that holds a key, or the SHA-256 of one. Whether that key is any
 * is not looked at: nobody can prove one that is none.
 */
function peerIdOf (bytes) {
  try {
    const { code, size } = Digest.decode(bytes)
    const isPeerId = (code === IDENTITY && size <= MAX_KEY) || (code === SHA256 && size === 32)
    return isPeerId ? base58btc.baseEncode(bytes) : undefined
  } catch {
    return undefined
  }
}

function bytesOf (id) {
  return base58btc.baseDecode(id)
}
