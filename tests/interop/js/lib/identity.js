// The identity of a node: Ed25519 keys, the PeerIds and sealing keys that follow from them, networks.
//
// The rule it keeps: signatures are verified strictly, because Ed25519 libraries differ in the edge cases. S < L; the
// key and R are canonical and not of small order; the equation holds without the cofactor.

import { ed25519 } from '@noble/curves/ed25519.js'
import { bytesToNumberLE } from '@noble/curves/utils.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { ascii, concat, same } from './bytes.js'

const { Point } = ed25519
const ORDER = Point.Fn.ORDER

/** The prefix of the 32 bytes of an Ed25519 key in libp2p's PublicKey message. */
const PUBLIC_KEY_HEAD = Uint8Array.of(0x08, 0x01, 0x12, 0x20)

/** A point that is canonical and not of small order, or undefined. */
function point (bytes) {
  try {
    const found = Point.fromBytes(bytes, false)
    return found.isSmallOrder() ? undefined : found
  } catch {
    return undefined
  }
}

/** The 32 bytes of a libp2p PublicKey message, if it is a key that the contract takes; else undefined. */
export function publicKeyOf (protobuf) {
  if (protobuf.length !== 36 || !same(protobuf.subarray(0, 4), PUBLIC_KEY_HEAD)) return undefined
  const key = protobuf.slice(4)
  return point(key) === undefined ? undefined : key
}

/** libp2p's PublicKey message of a key of 32 bytes. */
export function publicKeyProtobuf (key) {
  return concat(PUBLIC_KEY_HEAD, key)
}

/** The bytes of the PeerId of a PublicKey message: an identity multihash. */
export function peerIdBytes (protobuf) {
  return concat(Uint8Array.of(0x00, 0x24), protobuf)
}

export function verify (key, message, signature) {
  if (signature.length !== 64) return false
  const r = signature.subarray(0, 32)
  const s = bytesToNumberLE(signature.subarray(32))
  const a = point(key)
  const R = point(r)
  if (a === undefined || R === undefined || s >= ORDER) return false
  const k = bytesToNumberLE(sha512(concat(r, key, message))) % ORDER
  const right = R.add(k === 0n ? Point.ZERO : a.multiplyUnsafe(k))
  return Point.BASE.multiplyUnsafe(s).equals(right)
}

/** A node's own keys, from the 32 bytes of its Ed25519 seed. */
export class Identity {
  #seed

  constructor (seed) {
    this.#seed = Uint8Array.from(seed)
    this.key = ed25519.getPublicKey(this.#seed)
    this.publicKey = publicKeyProtobuf(this.key)
    this.peerId = peerIdBytes(this.publicKey)
  }

  sign (message) {
    return ed25519.sign(message, this.#seed)
  }

  /** The input of HPKE's DeriveKeyPair: the sealing key is a key of its own, not the Ed25519 key converted. */
  get sealingIkm () {
    return hkdf(sha256, this.#seed, ascii('diatribe'), ascii('x25519-encryption-v1'), 32)
  }
}

/** The id of the network that has this key of 32 bytes, or of the open network. */
export function networkId (networkKey) {
  if (networkKey === undefined) return new Uint8Array(32)
  return sha256(concat(ascii('diatribe/network/v1'), networkKey))
}

/** Reads a network key file: 32 bytes, 64 hex digits and a newline, or libp2p's swarm.key. */
export function parseNetworkKey (file) {
  if (file.length === 32) return Uint8Array.from(file)
  const text = new TextDecoder().decode(file)
  const swarm = /^\/key\/swarm\/psk\/1\.0\.0\/\r?\n\/base16\/\r?\n([0-9a-fA-F]{64})\s*$/.exec(text)
  const digits = swarm?.[1] ?? /^([0-9a-fA-F]{64})\r?\n?$/.exec(text)?.[1]
  if (digits === undefined) throw new Error('a network key is 32 bytes, or 64 hex digits and a newline')
  return Uint8Array.from(digits.match(/../g), pair => parseInt(pair, 16))
}
