// Protocol buffers, as much of them as the contract needs: fields in, fields out.
//
// Written here and not taken from a library, because the contract defines exactly which encodings a parser accepts: varints are
// minimal, there are no groups, fields with another wire type are refused, unknown ones are skipped, of a scalar field
// that is there twice the last counts.

import { concat } from './bytes.js'

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5
/** The most bytes of a varint of 64 bits. */
const MAX_VARINT = 10

/** Bytes that are no protocol buffer, or not the one expected. */
export class Malformed extends Error {}

/** A minimal unsigned varint. */
export function varint (value) {
  let rest = BigInt(value)
  const out = []
  while (rest >= 0x80n) {
    out.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  out.push(Number(rest))
  return Uint8Array.from(out)
}

/** A field of bytes or text; nothing when it is empty, as proto3 has it. */
export function bytesField (tag, value) {
  return value.length === 0 ? new Uint8Array() : messageField(tag, value)
}

/** A message inside another: it is written although it is empty. */
export function messageField (tag, value) {
  return concat(varint(tag << 3 | BYTES), varint(value.length), value)
}

/** A number; nothing when it is 0. */
export function numberField (tag, value) {
  return BigInt(value) === 0n ? new Uint8Array() : concat(varint(tag << 3 | VARINT), varint(value))
}

/** A number of 8 bytes; nothing when it is 0. */
export function fixed64Field (tag, value) {
  if (value === 0n) return new Uint8Array()
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return concat(varint(tag << 3 | FIXED64), bytes)
}

/** Reads a varint at `at`: its value and where it ends. */
function readVarint (bytes, at) {
  let value = 0n
  for (let i = 0; i < MAX_VARINT; i++) {
    if (at + i >= bytes.length) throw new Malformed('a varint is cut short')
    const byte = bytes[at + i]
    value |= BigInt(byte & 0x7f) << BigInt(7 * i)
    if (byte >= 0x80) continue
    if (byte === 0 && i > 0) throw new Malformed('a varint is longer than it need be')
    if (value >= 1n << 64n) throw new Malformed('a varint has more than 64 bits')
    return { value, end: at + i + 1 }
  }
  throw new Malformed(`a varint has more than ${MAX_VARINT} bytes`)
}

function readKey (bytes, at) {
  const { value, end } = readVarint(bytes, at)
  const tag = Number(value >> 3n)
  if (tag === 0 || value > 0xffffffffn) throw new Malformed('a field has no such number')
  return { tag, wire: Number(value & 7n), end }
}

/** Where a field's value ends. */
function skip (bytes, at, wire) {
  switch (wire) {
    case VARINT: return readVarint(bytes, at).end
    case FIXED64: return at + 8
    case FIXED32: return at + 4
    case BYTES: {
      const { value, end } = readVarint(bytes, at)
      if (value > BigInt(bytes.length - end)) throw new Malformed('a field is cut short')
      return end + Number(value)
    }
    default: throw new Malformed('a field is a group, or of an unknown wire type')
  }
}

/** All fields of a message in their order: `{ tag, wire, value }`; value only for numbers (BigInt) and bytes. */
export function fields (bytes) {
  const found = []
  let at = 0
  while (at < bytes.length) {
    const { tag, wire, end: start } = readKey(bytes, at)
    at = skip(bytes, start, wire)
    if (at > bytes.length) throw new Malformed('a field is cut short')
    const field = { tag, wire }
    if (wire === VARINT) field.value = readVarint(bytes, start).value
    if (wire === FIXED64) field.value = new DataView(bytes.buffer, bytes.byteOffset + start, 8).getBigUint64(0, true)
    if (wire === BYTES) field.value = bytes.subarray(readVarint(bytes, start).end, at)
    found.push(field)
  }
  return found
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const KINDS = {
  bytes: { wire: BYTES, zero: () => new Uint8Array(), read: value => value },
  string: {
    wire: BYTES,
    zero: () => '',
    read: value => {
      try { return utf8.decode(value) } catch { throw new Malformed('a text is not UTF-8') }
    }
  },
  uint32: { wire: VARINT, zero: () => 0, read: value => Number(value & 0xffffffffn) },
  uint64: { wire: VARINT, zero: () => 0n, read: value => value },
  fixed64: { wire: FIXED64, zero: () => 0n, read: value => value },
  bool: { wire: VARINT, zero: () => false, read: value => value !== 0n },
  // A list of numbers may be encoded one by one, or packed as bytes.
  uint64s: { wire: BYTES, zero: () => [] }
}

function packed (bytes) {
  const numbers = []
  for (let at = 0; at < bytes.length;) {
    const { value, end } = readVarint(bytes, at)
    numbers.push(value)
    at = end
  }
  return numbers
}

/**
 * Reads a message. `schema` maps names to `[tag, kind]`, where kind is bytes, string, uint32, uint64, fixed64, bool
 * or, for lists, uint64s or a function that reads one of its bytes.
 */
export function decode (bytes, schema) {
  const byTag = new Map()
  const message = {}
  for (const [name, [tag, kind]] of Object.entries(schema)) {
    byTag.set(tag, [name, kind])
    message[name] = typeof kind === 'function' ? [] : KINDS[kind].zero()
  }
  for (const { tag, wire, value } of fields(bytes)) {
    const known = byTag.get(tag)
    if (known === undefined) continue
    const [name, kind] = known
    const wanted = typeof kind === 'function' ? BYTES : KINDS[kind].wire
    if (kind === 'uint64s' && wire === VARINT) {
      message[name].push(value)
      continue
    }
    if (wire !== wanted) throw new Malformed(`${name} has another wire type`)
    if (typeof kind === 'function') message[name].push(kind(value))
    else if (kind === 'uint64s') message[name].push(...packed(value))
    else message[name] = KINDS[kind].read(value)
  }
  return message
}

/** Writes a message by the schema by which it is read; of a list, the bytes of each. */
export function encode (message, schema) {
  return concat(...Object.entries(schema).flatMap(([name, [tag, kind]]) => {
    const value = message[name]
    if (value === undefined) return []
    if (typeof kind === 'function') return value.map(item => messageField(tag, item))
    if (kind === 'uint64s') return [bytesField(tag, concat(...value.map(varint)))]
    if (kind === 'bytes') return [bytesField(tag, value)]
    if (kind === 'string') return [bytesField(tag, new TextEncoder().encode(value))]
    return [kind === 'fixed64' ? fixed64Field(tag, value) : numberField(tag, value)]
  }))
}

/** Reads a message that holds exactly one of several: `{ kind, … }`. `kinds` maps names to `[tag, schema]`. */
export function decodeOneOf (bytes, kinds) {
  let found
  for (const { tag, wire, value } of fields(bytes)) {
    const kind = Object.keys(kinds).find(name => kinds[name][0] === tag)
    if (kind === undefined) continue
    if (wire !== BYTES) throw new Malformed(`${kind} has another wire type`)
    // Each part must be in order by itself: two that are not could be so together.
    decode(value, kinds[kind][1])
    // A message that is there twice is one message with the fields of both; another one replaces it.
    found = { kind, bytes: found?.kind === kind ? concat(found.bytes, value) : value }
  }
  if (found === undefined) throw new Malformed('the message is of no known kind')
  return { kind: found.kind, ...decode(found.bytes, kinds[found.kind][1]) }
}

export function encodeOneOf (kind, message, kinds) {
  const [tag, schema] = kinds[kind]
  return messageField(tag, encode(message, schema))
}
