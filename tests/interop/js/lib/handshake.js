// One round of the handshake, as pure steps: bytes in, bytes out. `session.js` carries them over a connection.
//
// Client: hello → onChallenge → onPass. Server: onHello → onAnswer. The rule it keeps: the checks run in the order
// of the contract, and bytes are hashed as received.

import { Chacha20Poly1305 } from '@hpke/chacha20poly1305'
import { CipherSuite, HkdfSha256 } from '@hpke/core'
import { DhkemX25519HkdfSha256 } from '@hpke/dhkem-x25519'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { ascii, concat, random, same } from './bytes.js'
import { peerIdBytes, publicKeyOf, verify } from './identity.js'
import { Malformed, decode, decodeOneOf, encode, encodeOneOf, fields } from './protobuf.js'

export const PROTOCOL = '/diatribe/handshake/1.0.0'
/** The largest frame, in bytes. */
export const MAX_FRAME = 1024
const MAX_REFERRALS = 768

const VERSION = 2
const D = 'diatribe-handshake-v2'
const NAME = ascii(D)
const ZEROS = new Uint8Array(32)
/** Bytes of a tag. A Hello has those of two network keys, the newer one's first, so that a network can change its key. */
const TAG = 16

export const Code = { AUTH: 1, VERSION: 2, NETWORK: 3, DUPLICATE_IDENTITY: 4, BUSY: 5, POLICY: 6 }

/** The name of a code from the wire; one that is not known counts as AUTH. */
export function codeName (number) {
  return Object.entries(Code).find(([, n]) => n === number)?.[0] ?? 'AUTH'
}

/** A failed check: the code, which is sent to the peer, and the reason, which is not. */
export class Refused extends Error {
  constructor (code, reason) {
    super(reason)
    this.code = code
  }
}

const auth = reason => new Refused('AUTH', reason)

// --- frames

const CORE = {
  version: [1, 'uint32'],
  round: [2, 'uint32'],
  public_key: [4, 'bytes'],
  peer_id: [5, 'bytes'],
  enc_key: [6, 'bytes'],
  nonce: [7, 'bytes'],
  instance_id: [8, 'bytes'],
  features: [9, 'uint64'],
  prev: [10, 'bytes'],
  tags: [11, 'bytes'],
  key: [12, 'uint32'],
  clock_ms: [13, 'uint64']
}

const FRAMES = {
  hello: [1, { core: [1, 'bytes'] }],
  challenge: [2, { core: [1, 'bytes'], enc: [2, 'bytes'], ciphertext: [3, 'bytes'], signature: [4, 'bytes'] }],
  answer: [3, { enc: [1, 'bytes'], ciphertext: [2, 'bytes'], signature: [3, 'bytes'], confirm: [4, 'bytes'] }],
  pass: [4, { confirm: [1, 'bytes'] }],
  reject: [5, { code: [1, 'uint32'], referrals: [2, 'bytes'], proof: [3, 'bytes'] }]
}

const LENGTHS = {
  public_key: 36,
  peer_id: 38,
  enc_key: 32,
  nonce: 32,
  instance_id: 16,
  prev: 32,
  enc: 32,
  ciphertext: 80,
  signature: 64,
  confirm: 32
}

function checkLengths (message) {
  for (const [name, length] of Object.entries(LENGTHS)) {
    if (message[name] !== undefined && message[name].length !== length) throw auth(`${name} has not ${length} bytes`)
  }
}

/** Which frame a body is, and its fields: `{ kind, … }`. */
export function decodeFrame (body) {
  try {
    return decodeOneOf(body, FRAMES)
  } catch (error) {
    throw error instanceof Malformed ? auth(error.message) : error
  }
}

export function encodeFrame (kind, message) {
  return encodeOneOf(kind, message, FRAMES)
}

/** Reads the Core of a Hello or a Challenge: its version before anything else, so that a later version can be named. */
function decodeCore (bytes, kind) {
  try {
    let version = 0
    for (const { tag, wire, value } of fields(bytes)) {
      if (tag === 1 && wire === 0) version = Number(value & 0xffffffffn)
    }
    if (version !== VERSION) throw new Refused('VERSION', `the peer speaks version ${version} of the handshake`)
    const core = decode(bytes, CORE)
    checkLengths(core)
    const ofHello = core.tags.length === 2 * TAG && core.key === 0
    const ofChallenge = core.tags.length === 0 && (core.key === 1 || core.key === 2)
    if (!(kind === 'hello' ? ofHello : ofChallenge)) throw auth(`these are not the tags and the key of a ${kind}`)
    return core
  } catch (error) {
    throw error instanceof Malformed ? auth(error.message) : error
  }
}

// --- hashes, sealing and confirmation

function hash (...parts) {
  const prefixed = parts.flatMap(part => {
    const length = new Uint8Array(4)
    new DataView(length.buffer).setUint32(0, part.length)
    return [length, part]
  })
  return sha256(concat(...prefixed))
}

const byte = value => Uint8Array.of(value)

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Chacha20Poly1305()
})

const SEAL_TO_CLIENT = ascii(`${D}/s2c`)
const SEAL_TO_SERVER = ascii(`${D}/c2s`)

async function seal (to, info, boundTo, nonce, secret, ephemeral) {
  try {
    const recipientPublicKey = await suite.kem.deserializePublicKey(to)
    const context = await suite.createSenderContext({ recipientPublicKey, info, ekm: ephemeral })
    const ciphertext = new Uint8Array(await context.seal(concat(nonce, secret), boundTo))
    return { enc: new Uint8Array(context.enc), ciphertext }
  } catch {
    // RFC 9180 §7.1.4: the shared secret would be zero.
    throw auth("the peer's sealing key is of small order")
  }
}

async function open (keyPair, info, boundTo, { enc, ciphertext }, nonce) {
  let text
  try {
    const context = await suite.createRecipientContext({ recipientKey: keyPair.privateKey, enc, info })
    text = new Uint8Array(await context.open(ciphertext, boundTo))
  } catch {
    throw auth('what the peer sealed does not open')
  }
  if (text.length !== 64 || !same(text.subarray(0, 32), nonce)) throw auth('the peer did not return the nonce')
  return text.subarray(32)
}

function keys (t5, server, client, networkKey) {
  const k = hkdf(sha256, concat(server, client, networkKey), t5, ascii(`${D}/confirm`), 64)
  return { confirm: k.subarray(0, 32), pass: k.subarray(32) }
}

/** The key of tags of a network: they show that one has its key without saying which network it is. */
function tagKey (networkKey) {
  return hkdf(sha256, networkKey, undefined, ascii('diatribe/handshake-tag/v1'), 32)
}

function tagOf (key, client, server, nonce) {
  return hmac(sha256, key, concat(client, server, nonce)).subarray(0, TAG)
}

// --- identity

/** The input of a node for every handshake. */
export class Local {
  /** @param newerNetworkKey  the key that the network changes to, if it does: peers with either are let in */
  static async create ({ identity, networkKey, newerNetworkKey, instanceId = random(16) }) {
    const local = new Local()
    const networks = [newerNetworkKey, networkKey ?? ZEROS].filter(key => key !== undefined)
    const sealing = await suite.kem.deriveKeyPair(identity.sealingIkm)
    Object.assign(local, { identity, instanceId, sealing, networks: networks.map(key => ({ key, tagKey: tagKey(key) })) })
    local.sealingKey = new Uint8Array(await suite.kem.serializePublicKey(sealing.publicKey))
    return local
  }
}

/** The input of one round from the system, its clock included; the vectors fix all of it. */
const systemEntropy = () => ({ nonce: random(32), secret: random(32), ephemeral: undefined, tag: random(TAG), clockMs: Date.now() })

const OPEN_NETWORK = tagKey(ZEROS)

/** One round between us and the peer that noise authenticated. */
export class Round {
  /**
   * @param local      a Local
   * @param remote     the PeerId's 38 bytes, as noise authenticated it
   * @param number     1 or 2
   * @param prev       T_end of round 1, or nothing
   * @param first      the Core of the peer in round 1, or nothing
   */
  constructor ({ local, remote, number, prev = ZEROS, first, entropy = systemEntropy() }) {
    Object.assign(this, { local, remote, number, prev, first, entropy })
  }

  /** Our Core: with tags in a Hello, with the key that the server took in a Challenge. */
  #introduction (of) {
    const { identity, sealingKey, instanceId } = this.local
    return encode({
      version: VERSION,
      round: this.number,
      public_key: identity.publicKey,
      peer_id: identity.peerId,
      enc_key: sealingKey,
      nonce: this.entropy.nonce,
      instance_id: instanceId,
      features: 0,
      prev: this.prev,
      clock_ms: this.entropy.clockMs,
      ...of
    }, CORE)
  }

  #t0 (client, server) {
    return hash(NAME, byte(this.number), client, server, this.prev)
  }

  /** Takes the network of our own of which a Hello has a tag, and yields which of the tags it is. */
  #takeNetwork ({ tags, nonce }) {
    const { identity, networks } = this.local
    const [first, second] = [tags.subarray(0, TAG), tags.subarray(TAG)]
    const find = tagKey => {
      const own = tagOf(tagKey, this.remote, identity.peerId, nonce)
      return [same(first, own), same(second, own)].indexOf(true) + 1
    }
    const found = networks.map(({ key, tagKey }) => ({ key, which: find(tagKey) })).filter(({ which }) => which > 0)
    if (found.length > 0) {
      this.networkKey = found[0].key
      return found[0].which
    }
    const isOpen = find(OPEN_NETWORK) > 0
    throw new Refused('NETWORK', isOpen ? 'the network keys differ: the peer is on the open network' : 'the network keys differ')
  }

  #check (core) {
    const { local, first } = this
    if (core.round !== this.number) throw auth('the peer is in another round')
    if (!same(core.prev, this.prev)) throw auth('the peer goes on from another round 1')
    const key = publicKeyOf(core.public_key)
    if (key === undefined) throw auth("the peer's key is no Ed25519 key, not canonical, or of small order")
    if (!same(peerIdBytes(core.public_key), core.peer_id)) throw auth("the claimed id is not the key's")
    if (!same(core.peer_id, this.remote)) throw auth("the claimed id is not the connection's")
    if (same(core.peer_id, local.identity.peerId)) throw auth('the peer claims our id')
    if (same(core.nonce, this.entropy.nonce)) throw auth('the peer sent our nonce')
    if (same(core.instance_id, local.instanceId)) throw auth('the peer claims to be this very process')
    if (first !== undefined) {
      if (!same(core.public_key, first.public_key)) throw auth('the key is not that of round 1')
      if (!same(core.enc_key, first.enc_key)) throw auth('the sealing key is not that of round 1')
      if (!same(core.instance_id, first.instance_id)) throw auth('the process is not that of round 1')
    }
    return { ...core, key }
  }

  /** The client's first frame. */
  hello () {
    const { identity, networks } = this.local
    const own = networks.map(({ tagKey }) => tagOf(tagKey, identity.peerId, this.remote, this.entropy.nonce))
    const core = this.#introduction({ tags: concat(...[...own, this.entropy.tag].slice(0, 2)) })
    this.t1 = hash(this.#t0(identity.peerId, this.remote), byte(1), core)
    return encodeFrame('hello', { core })
  }

  /** The client takes a Challenge: the peer's Core, and the Answer. */
  async onChallenge (frame) {
    const core = decodeCore(frame.core, 'challenge')
    checkLengths({ ...frame, core: undefined })
    const network = this.local.networks[core.key - 1]
    if (network === undefined) throw auth('the peer took a tag of no network key')
    const peer = this.#check(core)
    const t2 = hash(this.t1, byte(2), frame.core)
    const t3 = hash(t2, frame.enc, frame.ciphertext)
    if (!verify(peer.key, concat(ascii(`${D}/server/`), t3), frame.signature)) throw auth('the signature does not hold')
    const kServer = await open(this.local.sealing, SEAL_TO_CLIENT, t2, frame, this.entropy.nonce)
    const t4 = hash(t3, frame.signature)

    const kClient = this.entropy.secret
    const sealed = await seal(peer.enc_key, SEAL_TO_SERVER, t4, peer.nonce, kClient, this.entropy.ephemeral)
    const t5 = hash(t4, byte(3), sealed.enc, sealed.ciphertext)
    const signature = this.local.identity.sign(concat(ascii(`${D}/client/`), t5))
    const k = keys(t5, kServer, kClient, network.key)
    const confirm = hmac(sha256, k.confirm, hash(t5, signature))
    this.end = hash(t5, byte(4), signature, confirm)
    this.expected = hmac(sha256, k.pass, this.end)
    this.steps = { t2, t3, t4, t5, k }
    return { peer, answer: encodeFrame('answer', { ...sealed, signature, confirm }) }
  }

  /** The client reads a Reject: the contacts that a busy server names instead, if their proof is valid. */
  referrals ({ code, referrals, proof }) {
    if (this.number !== 1 || code !== Code.BUSY || this.end === undefined) return undefined
    const isProved = same(proof, hmac(sha256, this.steps.k.pass, hash(this.end, byte(5), referrals)))
    return isProved && referrals.length <= MAX_REFERRALS ? referrals : undefined
  }

  /** The client takes a Pass: T_end. */
  onPass (frame) {
    checkLengths(frame)
    if (!same(frame.confirm, this.expected)) throw auth('the pass does not hold')
    return this.end
  }

  /** The server takes a Hello: the Challenge. */
  async onHello (frame) {
    const hello = decodeCore(frame.core, 'hello')
    const key = this.#takeNetwork(hello)
    const peer = this.#check(hello)
    const core = this.#introduction({ key })
    const t1 = hash(this.#t0(this.remote, this.local.identity.peerId), byte(1), frame.core)
    const t2 = hash(t1, byte(2), core)
    const { secret, ephemeral } = this.entropy
    const sealed = await seal(peer.enc_key, SEAL_TO_CLIENT, t2, peer.nonce, secret, ephemeral)
    const t3 = hash(t2, sealed.enc, sealed.ciphertext)
    const signature = this.local.identity.sign(concat(ascii(`${D}/server/`), t3))
    Object.assign(this, { peer, t4: hash(t3, signature) })
    return encodeFrame('challenge', { core, ...sealed, signature })
  }

  /** The server takes an Answer: the peer's Core, T_end, and the Pass. */
  async onAnswer (frame) {
    checkLengths(frame)
    const { peer, t4 } = this
    const t5 = hash(t4, byte(3), frame.enc, frame.ciphertext)
    if (!verify(peer.key, concat(ascii(`${D}/client/`), t5), frame.signature)) throw auth('the signature does not hold')
    const kClient = await open(this.local.sealing, SEAL_TO_SERVER, t4, frame, this.entropy.nonce)
    const k = keys(t5, this.entropy.secret, kClient, this.networkKey)
    if (!same(frame.confirm, hmac(sha256, k.confirm, hash(t5, frame.signature)))) throw auth('the confirmation does not hold')
    const end = hash(t5, byte(4), frame.signature, frame.confirm)
    return { peer, end, pass: encodeFrame('pass', { confirm: hmac(sha256, k.pass, end) }) }
  }
}

export function rejectFrame (code) {
  return encodeFrame('reject', { code: Code[code] })
}
