// Reconciliation against itself: random sets with fixed seeds, and strangers' frames.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sha256 } from '@noble/hashes/sha2.js'
import { ascii, concat, fromHex, toHex } from '../lib/bytes.js'
import { BadFrame, answer, begin, fingerprint, order, proceed } from '../lib/negentropy.js'

const REQUEST = 60 * 1024
const RESPONSE = 256 * 1024

/** Numbers from 0 to 1 that are the same in every run. */
function chance (seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const item = (name, timestamp) => ({ timestamp: BigInt(timestamp), id: sha256(ascii(`${name}`)) })
const sorted = items => items.toSorted(order)
const ids = items => items.map(({ id }) => toHex(id)).sort()

/** Runs a comparison to its end. */
function compareAll (mine, theirs, { request = REQUEST, response = RESPONSE } = {}) {
  const found = { have: new Set(), need: new Set(), rounds: 0, bytes: 0 }
  let frame = begin(mine)
  while (frame !== undefined) {
    assert(frame.length <= request, `a request of ${frame.length} bytes`)
    const back = answer(theirs, frame, response)
    assert(back.length <= response, `a response of ${back.length} bytes`)
    const step = proceed(mine, back, request)
    for (const what of ['have', 'need']) for (const id of step[what]) found[what].add(id)
    found.bytes += frame.length + back.length
    frame = step.frame
    assert(++found.rounds < 100, 'it does not end')
  }
  return { ...found, have: [...found.have].sort(), need: [...found.need].sort() }
}

/** Two sets with a part in common: the items of the one only and of the other only. */
function pair (seed, [common, left, right], times) {
  const random = chance(seed)
  const make = (tag, count) => Array.from({ length: count }, (_, i) => item(`${seed} ${tag} ${i}`, Math.floor(random() * times)))
  const [both, mine, theirs] = [make('both', common), make('mine', left), make('theirs', right)]
  return { mine: sorted([...both, ...mine]), theirs: sorted([...both, ...theirs]), have: ids(mine), need: ids(theirs) }
}

test('each of two random sets learns exactly the differing items', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = chance(seed)
    const size = () => Math.floor(random() ** 4 * 3_000)
    // Few times, so that bounds need their ids as well.
    const times = [1, 10, 1e6, 2 ** 53][seed % 4]
    const { mine, theirs, have, need } = pair(seed, [size(), size(), size()], times)
    const found = compareAll(mine, theirs)
    assert.deepEqual(found.have, have, `seed ${seed}`)
    assert.deepEqual(found.need, need, `seed ${seed}`)
  }
})

test('small frames take more rounds and find the same', () => {
  for (let seed = 100; seed < 112; seed++) {
    const { mine, theirs, have, need } = pair(seed, [2_000, 300, 700], 500)
    const found = compareAll(mine, theirs, { request: 4_096, response: 4_096 })
    assert.deepEqual(found.have, have, `seed ${seed}`)
    assert.deepEqual(found.need, need, `seed ${seed}`)
    assert(found.rounds > compareAll(mine, theirs).rounds)
  }
})

test('an empty side needs all items, in either direction', () => {
  const all = sorted(Array.from({ length: 20_000 }, (_, i) => item(i, i >> 3)))
  assert.deepEqual(compareAll([], all).need, ids(all))
  assert.deepEqual(compareAll(all, []).have, ids(all))
})

test('agreement costs one exchange of 21 bytes', () => {
  const all = sorted(Array.from({ length: 1_000 }, (_, i) => item(i, i)))
  const { rounds, bytes, have, need } = compareAll(all, all)
  assert.deepEqual([rounds, bytes, have, need], [1, 21, [], []])
  assert.equal(toHex(begin(all)), '61000001' + toHex(fingerprint(all)))
  assert.equal(toHex(answer(all, begin(all), RESPONSE)), '61')
})

test('one item among many that differs is found in a few short rounds', () => {
  const all = sorted(Array.from({ length: 10_000 }, (_, i) => item(i, i)))
  const { rounds, bytes, need } = compareAll(all.toSpliced(5_000, 1), all)
  assert.deepEqual(need, [toHex(all[5_000].id)])
  assert(rounds <= 5 && bytes < 5_000, `${rounds} rounds, ${bytes} bytes`)
})

test('a fingerprint is a hash of the sum of the ids as little-endian numbers, and of their count', () => {
  const id = fill => ({ timestamp: 0n, id: fromHex(fill) })
  const most = id('ff'.repeat(32))
  const one = id('01' + '00'.repeat(31))
  const short = bytes => toHex(sha256(bytes).subarray(0, 16))
  assert.equal(toHex(fingerprint([most, one])), short(concat(new Uint8Array(32), Uint8Array.of(2))))
  const many = Array.from({ length: 200 }, () => one)
  assert.equal(toHex(fingerprint(many)), short(concat(Uint8Array.of(200), new Uint8Array(31), Uint8Array.of(0x81, 0x48))))
})

test("a stranger's frame is refused by name or answered, never more than that", () => {
  const all = sorted(Array.from({ length: 500 }, (_, i) => item(i, i)))
  for (const [frame, why] of [
    ['', /cut short/],
    ['62', /version 2/],
    ['610000', /cut short/],
    ['61000003', /mode 3/],
    ['6100000100', /cut short/],
    ['61000002' + 'ffffffff7f', /cut short/],
    ['61' + '0021' + '00'.repeat(34), /more than 32/],
    ['61' + '050000' + '000000' + '010000', /order/],
    ['61' + '010201ff00' + '010101' + '00', /order/],
    ['61' + 'ff'.repeat(10) + '7f0000', /64 bits/],
    ['61' + '8280808080808080808000' + '0000', /64 bits/]
  ]) {
    assert.throws(() => answer(all, fromHex(frame), RESPONSE), error => error instanceof BadFrame && why.test(error.message), frame)
  }
  const random = chance(7)
  const good = answer(all.slice(250), begin(all), RESPONSE)
  for (let i = 0; i < 3_000; i++) {
    const bytes = good.slice(0, 1 + Math.floor(random() * good.length))
    for (let flips = 0; flips < 3; flips++) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    try {
      assert(answer(all, bytes, RESPONSE).length <= RESPONSE)
    } catch (error) {
      assert(error instanceof BadFrame, error.stack)
    }
  }
})
