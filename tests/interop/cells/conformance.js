// The conformance kit of the program against every language, as dialer and as listener; and against each fault that is
// planted in the JavaScript peer, which it must find.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { LANGUAGES, lacks } from '../languages.js'
import { Self, withPeers } from '../peers.js'
import { FAULTS } from '../js/faulty.js'
import { LISTEN } from '../support.js'

export const title = 'Conformance'

const FAULTY = join(import.meta.dirname, '../js/faulty.js')
/** Number of addresses that a peer under test dials: on the first the kit observes the effects of the others. */
const LANES = 4
const WITHIN_MS = 240_000
/** Minimum number of cases in a full run, and maximum number of failed ones that are listed. */
const CASES = 90
const BRIEF = 20

/** Which cases must not pass, for each fault: at least these. */
const FINDS = {
  'no-nonce-check': ['wrong-nonce'],
  'no-signature-check': ['signed-by-another-key'],
  'cofactored-verify': ['cofactored-signature', 'batch-with-cofactored-signature'],
  's-not-reduced': ['signature-s-not-reduced'],
  'accepts-replay': ['replay'],
  'one-nonce-per-process': ['fresh-values'],
  'same-nonce-in-both-rounds': ['fresh-values'],
  'constant-k-server': ['fresh-values'],
  'constant-second-tag': ['fresh-values'],
  'gossip-before-pass': ['gossip-before-pass'],
  'ignores-version': ['version-3'],
  'no-network-check': ['wrong-network'],
  'no-noise-id-check': ['wrong-id'],
  'no-confirm-check': ['wrong-confirm'],
  'nonce-without-its-end': ['nonce-with-another-last-byte', 'nonce-with-another-last-byte-challenge'],
  'tag-without-its-end': ['tag-with-another-last-byte'],
  'confirm-without-its-beginning': ['confirm-with-another-first-byte'],
  'pass-without-its-beginning': ['pass-with-another-first-byte'],
  'large-frames': ['largest-events-in-a-row'],
  'identify-with-addresses': ['identify-without-addresses'],
  'accepts-malleable-envelope': ['envelope-with-longer-varint'],
  'accepts-longer-varints': ['longer-key', 'longer-value', 'longer-length'],
  'accepts-groups': ['unknown-group', 'unknown-group-in-an-event'],
  'accepts-texts-that-are-not-utf8': ['name-of-an-event-that-is-not-utf-8', 'name-of-the-last-event-that-is-not-utf-8'],
  'checks-first-event-only': ['name-of-the-last-event-too-long'],
  'moves-batches-of-several': ['wrong-room-of-several-events'],
  'id-without-room': ['wrong-topic-first'],
  'id-without-signature': ['other-signature-first'],
  'speaks-floodsub': ['gossip-protocols'],
  'passes-on-key': ['gossipsub-key', 'gossipsub-key-that-is-empty'],
  'follows-too-many': ['follows-five', 'follows-one-that-is-named-five-times'],
  'no-deadline': ['half-open'],
  'punishes-future-date': ['future-date'],
  'forwards-invalid': ['wrong-signature'],
  'keeps-offenders': ['no-envelope'],
  'wrong-code': ['wrong-round']
}

export function cells () {
  const whole = { within: WITHIN_MS / 1000 }
  return [
    ...Object.keys(LANGUAGES).flatMap(language => [
      { pair: `rust → ${language}`, what: 'nothing is found wrong with it', absent: lacks(language, ['listens']), ...whole, run: () => dials(language) },
      { pair: `${language} → rust`, what: 'nothing is found wrong with it', ...whole, run: () => isDialled(language) }
    ]),
    ...Object.keys(FAULTS).map(fault => (
      { pair: 'rust → faulty js', what: `${fault} is found`, needs: ['js'], ...whole, run: () => finds(fault) }
    ))
  ]
}

/** The kit's own lines, once it has ended. */
async function ended (kit) {
  await kit.until('conformance', { within: WITHIN_MS })
  const code = await kit.ended
  kit.checkLines()
  const [summary] = kit.of('conformance')
  assert.equal(code, summary.ok ? 0 : 1)
  return { summary, wrong: kit.of('case').filter(c => !['passed', 'absent'].includes(c.outcome)) }
}

function program (spawn, ...options) {
  return spawn('conformance', process.env.DIATRIBE_BIN, ['conformance', '--json', '--data-dir', new Self().folder, ...options])
}

/** Returns the common failure when all cases fail in the same way at the beginning. */
const brief = wrong => wrong.slice(0, BRIEF).map(({ name, came }) => `${name}: ${came}`).join('\n') +
  (wrong.length > BRIEF ? `\nand ${wrong.length - BRIEF} more` : '')

async function dials (language) {
  await withPeers(async ({ start, spawn }) => {
    const peer = start(language, { listen: LISTEN.ip4 })
    const address = await peer.address()
    const { summary, wrong } = await ended(program(spawn, address))
    assert(summary.passed + wrong.length > CASES)
    if (wrong.length === 0) return
    // A fault fails every time; a busy machine, or a race at the end of a connection, does not.
    const again = await ended(program(spawn, address, ...wrong.flatMap(({ name }) => ['--case', name])))
    assert.equal(brief(again.wrong), '', `at first: ${brief(wrong)}`)
    assert(again.summary.ok && again.summary.passed === wrong.length, `at first: ${brief(wrong)}`)
  })
}

async function isDialled (language) {
  await withPeers(async ({ start, spawn }) => {
    const kit = program(spawn, ...Array(LANES).fill(['--listen', LISTEN.ip4]).flat())
    const lanes = await kit.until('listening', { count: LANES })
    start(language, { dial: lanes.map(({ address }) => address) })
    const { summary, wrong } = await ended(kit)
    assert.equal(brief(wrong), '')
    assert(summary.ok && summary.passed > CASES)
  })
}

/** Only the cases that must find it, and one that must not mind. */
async function finds (fault) {
  await withPeers(async ({ spawn }) => {
    const peer = spawn(`faulty (${fault})`, process.execPath, [FAULTY, '--fault', fault, '--json', '--room', 'lobby', '--listen', LISTEN.ip4])
    const names = [...FINDS[fault], 'ping']
    const { wrong } = await ended(program(spawn, ...names.flatMap(name => ['--case', name]), await peer.address()))
    assert.deepEqual(wrong.map(({ name, outcome }) => [name, outcome]).sort(), FINDS[fault].map(name => [name, 'failed']).sort())
  })
}
