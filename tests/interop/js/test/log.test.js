// The log: retention, dedup and bounds.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sha256 } from '@noble/hashes/sha2.js'
import { ascii, toHex } from '../lib/bytes.js'
import { EVENT_OVERHEAD } from '../lib/batch.js'
import { Log, MIN_KEPT_MS } from '../lib/log.js'

const AUTHOR = ascii('author')
const INSTANCE = ascii('instance')
/** The counted size of a batch of one event in an envelope of 10 bytes. */
const COST = 10 + EVENT_OVERHEAD

const batch = (name, sentAtMs, firstSeq, events = 1) => ({ id: sha256(ascii(name)), sentAtMs, author: AUTHOR, instanceId: INSTANCE, firstSeq, events: Array(events) })
const envelope = (size = 10) => new Uint8Array(size)
const idsOf = items => items.map(({ id }) => toHex(id))

test('a batch is new once', () => {
  const log = new Log()
  const one = batch('one', 5, 1)
  assert.equal(log.add(one, envelope()), 'new')
  assert.equal(log.add(one, envelope()), 'known')
  assert.equal(log.get(toHex(one.id)).length, 10)
  assert.equal(log.size, 1)
})

test('of two batches with the same numbers both are kept, and the first is delivered', () => {
  const log = new Log()
  assert.equal(log.add(batch('three to five', 5, 3, 3), envelope()), 'new')
  assert.equal(log.add(batch('also five', 5, 5), envelope()), 'kept')
  assert.equal(log.add(batch('two to three', 5, 2, 2), envelope()), 'kept')
  assert.equal(log.add(batch('two', 5, 2), envelope()), 'late')
  assert.equal(log.add(batch('six', 5, 6), envelope()), 'new')
  assert.equal(log.add({ ...batch('another process', 5, 3), instanceId: ascii('other') }, envelope()), 'new')
  assert.equal(log.size, 6)
})

test('a window has the items sent from its beginning up to its end, in order', () => {
  const log = new Log()
  const all = [30, 10, 20, 40].map((at, i) => batch(`${at}`, at, i + 1))
  for (const one of all) log.add(one, envelope())
  const ordered = all.toSorted((a, b) => a.sentAtMs - b.sentAtMs).map(({ id }) => toHex(id))
  assert.deepEqual(idsOf(log.window(0, 0)), ordered)
  assert.deepEqual(idsOf(log.window(20, 40n)), ordered.slice(1, 3))
  assert.deepEqual(idsOf(log.window(10, 11)), ordered.slice(0, 1))
  assert.deepEqual(log.window(50, 40), [])
})

test('the oldest batches of the author with most bytes are removed; removed ones count as held', () => {
  for (const limits of [{ batches: 5 }, { bytes: 5 * COST }]) {
    const log = new Log(limits)
    const other = Array.from({ length: 2 }, (_, i) => ({ ...batch(`other ${i}`, i, i + 1), author: ascii('other') }))
    const own = Array.from({ length: 6 }, (_, i) => batch(`own ${i}`, 300 - i, i + 1))
    for (const one of [...other, ...own]) log.add(one, envelope(), 0)
    assert.deepEqual([log.size, log.bytes], [5, 5 * COST])
    const isKept = ({ id }) => log.get(toHex(id)) !== undefined
    assert.deepEqual(other.map(isKept), [true, true])
    assert.deepEqual(own.map(isKept), [true, true, true, false, false, false])
    assert.equal(log.removedAt(toHex(own[5].id)), 295)
    assert.equal(log.removedAt(toHex(own[0].id)), undefined)
    assert.equal(log.window(0, 0).length, 8)
    assert.equal(log.add(own[5], envelope()), 'known')
    assert.equal(log.sinceMs, 0)
  }
})

test('batches dated ahead do not move the beginning near to now', () => {
  const now = 10 * MIN_KEPT_MS
  const log = new Log({ batches: 2, items: 4 })
  log.add({ ...batch('honest', now, 1), author: ascii('other') }, envelope(), now)
  for (let i = 0; i < 100; i++) log.add(batch(`ahead ${i}`, now + 290_000 + i, i + 1), envelope(), now)
  assert.equal(log.sinceMs, 0)
  assert(log.window(0, 0).length <= 4)
  assert.notEqual(log.get(toHex(batch('honest', now, 1).id)), undefined)
})

test('past the bound of items the oldest is removed, and nothing that old is kept again', () => {
  const log = new Log({ items: 3 })
  const all = Array.from({ length: 6 }, (_, i) => batch(`${i}`, 100 + Math.floor(i / 2), i + 1))
  for (const one of all) assert.equal(log.add(one, envelope()), 'new')
  assert.equal(log.size, 2, 'whole milliseconds go')
  assert.equal(log.bytes, 2 * COST)
  assert.equal(log.sinceMs, 102)
  assert.equal(log.get(toHex(all[0].id)), undefined)
  assert.equal(log.add(all[0], envelope()), 'known')
  assert.equal(log.add(batch('older', 101, 50), envelope()), 'new', 'told, and not kept')
  assert.equal(log.size, 2)
})

test('a batch that was sent to nobody is removed again', () => {
  const log = new Log()
  const one = batch('one', 5, 1)
  log.add(one, envelope())
  log.remove(one)
  assert.deepEqual([log.size, log.bytes], [0, 0])
  assert.equal(log.add(batch('again', 6, 1), envelope()), 'new')
})

test('memory that a stranger can use is bounded', () => {
  const log = new Log({ batches: 2, known: 4 })
  for (let i = 0; i < 100; i++) log.add(batch(`${i}`, i, i + 1), envelope())
  assert(log.size <= 2)
  assert.equal([...Array(100).keys()].filter(i => log.knows(toHex(batch(`${i}`, i, 1).id))).length, 4)
})
