#!/usr/bin/env node
// The JavaScript peer with one fault planted in it, for the conformance kit to find.
//
//   node faulty.js --fault NAME [the options of peer.js]
//   node faulty.js --list
//
// A fault is one change of the peer's own text while it is loaded. The rule it keeps: a change with a place that is not
// there exactly once is an error, so that no fault is believed to be planted that is not.

import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = import.meta.dirname

const TAKES_LONGER_VARINTS = ['lib/protobuf.js', "if (byte === 0 && i > 0) throw new Malformed('a varint is longer than it need be')", '']

/** Each breaks one rule of the contract: `[the broken rule, file, text, text instead]`; one may have several parts. */
export const FAULTS = {
  'no-nonce-check': ['chapter 5, check 17: the sealed nonce is not compared', [
    ['lib/handshake.js', "if (text.length !== 64 || !same(text.subarray(0, 32), nonce)) throw auth('the peer did not return the nonce')", '']
  ]],
  'no-signature-check': ['chapter 5, check 15: signatures of the handshake are not verified', [
    ['lib/handshake.js', 'import { peerIdBytes, publicKeyOf, verify } from', 'const verify = () => true\nimport { peerIdBytes, publicKeyOf } from']
  ]],
  'cofactored-verify': ['chapter 3, rule 4: signatures are verified with the cofactor', [
    ['lib/identity.js', 'return Point.BASE.multiplyUnsafe(s).equals(right)', 'return Point.BASE.multiplyUnsafe(s).subtract(right).clearCofactor().is0()']
  ]],
  's-not-reduced': ['chapter 3, rule 1: S ≥ L is taken', [
    ['lib/identity.js', 'R === undefined || s >= ORDER) return false', 'R === undefined) return false'],
    ['lib/identity.js', 'Point.BASE.multiplyUnsafe(s).equals', 'Point.BASE.multiplyUnsafe(s % ORDER).equals']
  ]],
  'accepts-replay': ['chapter 5: all that is to be fresh is the same in every handshake', [
    ['lib/handshake.js', 'nonce: random(32), secret: random(32), ephemeral: undefined, tag: random(TAG), clockMs: Date.now()', 'nonce: new Uint8Array(32).fill(1), secret: new Uint8Array(32).fill(2), ephemeral: new Uint8Array(32).fill(3).buffer, tag: new Uint8Array(TAG), clockMs: 0']
  ]],
  'one-nonce-per-process': ['chapter 5, Messages and transcript: every round of the process has the same nonce', [
    ['lib/handshake.js', 'nonce: random(32)', 'nonce: globalThis.nonce ??= random(32)']
  ]],
  'same-nonce-in-both-rounds': ['chapter 5, Messages and transcript: the two rounds with a peer have the same nonce', [
    ['lib/handshake.js', 'entropy = systemEntropy()', 'entropy = { ...systemEntropy(), nonce: sha256(concat(local.instanceId, remote)) }']
  ]],
  'constant-k-server': ['chapter 5, Messages and transcript: the secret of a server is always the same', [
    ['lib/handshake.js', 'const { secret, ephemeral } = this.entropy', 'const { secret, ephemeral } = Object.assign(this.entropy, { secret: new Uint8Array(32).fill(1) })']
  ]],
  'constant-second-tag': ['chapter 5, Tags: what stands in place of a tag that one does not have is always the same', [
    ['lib/handshake.js', 'tag: random(TAG)', 'tag: new Uint8Array(TAG)']
  ]],
  'gossip-before-pass': ['chapter 6: the gate is open from the beginning', [
    ['lib/gate.js', 'if (this.#inbound.has(connection)) return', 'if (connection) return']
  ]],
  'ignores-version': ['chapter 5, check 5: any version is taken', [
    ['lib/handshake.js', "if (version !== VERSION) throw new Refused('VERSION', `the peer speaks version ${version} of the handshake`)", '']
  ]],
  'no-network-check': ['chapter 5, check 7: any tag counts as that of the network key', [
    ['lib/handshake.js', 'which: find(tagKey)', 'which: find(tagKey) || 1']
  ]],
  'no-noise-id-check': ["chapter 5, check 10: the claimed id need not be the connection's", [
    ['lib/handshake.js', "if (!same(core.peer_id, this.remote)) throw auth(\"the claimed id is not the connection's\")", '']
  ]],
  'no-confirm-check': ['chapter 5, check 19: the confirmation is not compared', [
    ['lib/handshake.js', "if (!same(frame.confirm, hmac(sha256, k.confirm, hash(t5, frame.signature)))) throw auth('the confirmation does not hold')", '']
  ]],
  'nonce-without-its-end': ['chapter 5, check 17: the last byte of the sealed nonce is not compared', [
    ['lib/handshake.js', '!same(text.subarray(0, 32), nonce)', '!same(text.subarray(0, 31), nonce.subarray(0, 31))']
  ]],
  'tag-without-its-end': ['chapter 5, check 7: the last byte of a tag is not compared', [
    ['lib/handshake.js', 'same(first, own)', 'same(first.subarray(0, 15), own.subarray(0, 15))']
  ]],
  'confirm-without-its-beginning': ['chapter 5, check 19: the first 8 bytes of the confirmation are not compared', [
    ['lib/handshake.js', 'if (!same(frame.confirm, hmac(sha256, k.confirm, hash(t5, frame.signature))))', 'if (!same(frame.confirm.subarray(8), hmac(sha256, k.confirm, hash(t5, frame.signature)).subarray(8)))']
  ]],
  'pass-without-its-beginning': ['chapter 5, check 23: the first 8 bytes of the Pass are not compared', [
    ['lib/handshake.js', 'if (!same(frame.confirm, this.expected))', 'if (!same(frame.confirm.subarray(8), this.expected.subarray(8)))']
  ]],
  'large-frames': ['chapter 2: a frame of yamux is as large as the window', [
    ['lib/muxer.js', 'MAX_FRAME_DATA = 64 * 1024', 'MAX_FRAME_DATA = 16 * 1024 * 1024']
  ]],
  'identify-with-addresses': ['chapter 7, Identify: a stranger is told where the node listens', [
    ['lib/identify.js', 'getAddresses: () => []', 'getAddresses: () => components.addressManager.getAddresses()']
  ]],
  'accepts-malleable-envelope': ['chapter 8, rule 2: any spelling of an envelope is taken', [
    ['lib/batch.js', '  return undefined\n}\n\nfunction read', "  try { return decode(data, { body: [1, 'bytes'], signature: [2, 'bytes'] }) } catch {}\n}\n\nfunction read"],
    TAKES_LONGER_VARINTS
  ]],
  'accepts-longer-varints': ['chapter 4, Encoding: a varint may be longer than it need be', [TAKES_LONGER_VARINTS]],
  'accepts-groups': ['chapter 4, Encoding: groups that are unknown are passed over', [
    ['lib/protobuf.js', "    default: throw new Malformed('a field is a group,", `    case 3:
      for (;;) {
        const key = readKey(bytes, at)
        if (key.wire === 4) return key.end
        at = skip(bytes, key.end, key.wire)
      }
    default: throw new Malformed('a field is a group,`]
  ]],
  'accepts-texts-that-are-not-utf8': ['chapter 4, Encoding: a text that is not UTF-8 is taken', [
    ['lib/protobuf.js', "try { return utf8.decode(value) } catch { throw new Malformed('a text is not UTF-8') }", 'return new TextDecoder().decode(value)']
  ]],
  'checks-first-event-only': ['chapter 8, rule 4: only the first event of a batch is checked', [
    ['lib/batch.js', 'for (const event of batch.events) {', 'for (const event of batch.events.slice(0, 1)) {']
  ]],
  'moves-batches-of-several': ['chapter 8, rule 6: a batch of several events may be of another room', [
    ['lib/batch.js', 'if (batch.room !== room)', 'if (batch.room !== room && batch.events.length === 1)']
  ]],
  'id-without-room': ['chapter 8, Ids: the id of a message does not depend on its room', [
    ['lib/batch.js', 'return idOf(room, sha256(parts.body), parts.signature)', "return idOf('', sha256(parts.body), parts.signature)"]
  ]],
  'id-without-signature': ['chapter 8, Ids: the id of a message does not depend on its signature', [
    ['lib/batch.js', 'return idOf(room, sha256(parts.body), parts.signature)', 'return idOf(room, sha256(parts.body), new Uint8Array(64))']
  ]],
  'speaks-floodsub': ['chapter 8, What must agree: another protocol of gossip is taken', [
    ['lib/gossip.js', "const PROTOCOLS = [", "const PROTOCOLS = ['/floodsub/1.0.0', "]
  ]],
  'passes-on-key': ['chapter 8, What must agree: a message with a key of gossipsub is handed on', [
    ['lib/gossip.js', 'rpc.messages = rpc.messages.filter(', 'for (const message of rpc.messages) delete message.key\n    rpc.messages = rpc.messages.filter(']
  ]],
  'follows-too-many': ['chapter 8, rule 4: a batch may follow any number of others', [
    ['lib/batch.js', "if (batch.prev.length > MAX_PREV) throw new BatchError('TooManyPrev')", '']
  ]],
  'no-deadline': ['chapter 5, Time: nobody is hurried', [
    ['lib/session.js', 'const FRAME_TIMEOUT_MS = 3_000', 'const FRAME_TIMEOUT_MS = 3_000_000'],
    ['lib/session.js', 'const TIMEOUT_MS = 10_000', 'const TIMEOUT_MS = 10_000_000']
  ]],
  'punishes-future-date': ['chapter 8, rule 9: a batch from the future counts as an offence', [
    ['lib/batch.js', "new BatchError('Ahead', false)", "new BatchError('Ahead')"]
  ]],
  'forwards-invalid': ['chapter 8, rule 8: the signature of a batch is not verified', [
    ['lib/batch.js', "if (!verify(key, signed(networkId, hash), signature)) throw new BatchError('Signature')", '']
  ]],
  'keeps-offenders': ['chapter 8: a link that brought what is no batch stays', [
    ['diatribe.js', "if (!error.offence) return 'ignore'", "return 'ignore'"]
  ]],
  'wrong-code': ['chapter 5: the codes of AUTH and POLICY are exchanged', [
    ['lib/handshake.js', 'export const Code = { AUTH: 1,', 'export const Code = { AUTH: 6,'],
    ['lib/handshake.js', 'BUSY: 5, POLICY: 6 }', 'BUSY: 5, POLICY: 1 }']
  ]]
}

/** The peer only runs as the called program, which it is here. */
const CALLED = ['peer.js', 'import.meta.main ?? ', 'true || ']

/** The text of a file of the peer's with a fault's changes in it. */
export function plant (name, file, text) {
  const changes = [CALLED, ...FAULTS[name][1]].filter(([where]) => where === file)
  for (const [, from, to] of changes) {
    if (text.split(from).length !== 2) throw new Error(`the fault ${name} cannot be planted: ${file} does not have exactly once ${JSON.stringify(from)}`)
    text = text.replace(from, () => to)
  }
  return text
}

/** The fault that is asked for, taken out of the arguments. */
function asked () {
  const at = process.argv.indexOf('--fault')
  const [, name] = at < 0 ? [] : process.argv.splice(at, 2)
  if (Object.hasOwn(FAULTS, name ?? '')) return name
  process.stderr.write(`error: --fault is one of ${Object.keys(FAULTS).join(', ')}\n`)
  process.exit(2)
}

async function main () {
  if (process.argv.includes('--list')) {
    for (const [name, [breaks]] of Object.entries(FAULTS)) process.stdout.write(`${name.padEnd(28)} ${breaks}\n`)
    return
  }
  const name = asked()
  const files = new Set([CALLED, ...FAULTS[name][1]].map(([file]) => file))
  for (const file of files) plant(name, file, readFileSync(join(here, file), 'utf8'))
  registerHooks({
    load (url, context, next) {
      const path = url.startsWith('file:') ? fileURLToPath(url) : ''
      const file = path.startsWith(here) ? path.slice(here.length + 1).replaceAll('\\', '/') : ''
      if (!files.has(file)) return next(url, context)
      return { format: 'module', source: plant(name, file, readFileSync(path, 'utf8')), shortCircuit: true }
    }
  })
  await import(pathToFileURL(join(here, 'peer.js')))
}

if (process.argv[1]?.endsWith('faulty.js')) await main()
