// The log: what it keeps, what it says is new, and its bounds.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sha256 } from '@noble/hashes/sha2.js'
import { ascii, toHex } from '../lib/bytes.js'
import { Log } from '../lib/log.js'

const AUTHOR = ascii('author')
const INSTANCE = ascii('instance')

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

test('of two batches with the same numbers both are kept, and the first is told', () => {
  const log = new Log()
  assert.equal(log.add(batch('three to five', 5, 3, 3), envelope()), 'new')
  assert.equal(log.add(batch('also five', 5, 5), envelope()), 'kept')
  assert.equal(log.add(batch('two to three', 5, 2, 2), envelope()), 'kept')
  assert.equal(log.add(batch('two', 5, 2), envelope()), 'late')
  assert.equal(log.add(batch('six', 5, 6), envelope()), 'new')
  assert.equal(log.add({ ...batch('another process', 5, 3), instanceId: ascii('other') }, envelope()), 'new')
  assert.equal(log.size, 6)
})

test('a window has what was sent from its beginning up to its end, in order', () => {
  const log = new Log()
  const all = [30, 10, 20, 40].map((at, i) => batch(`${at}`, at, i + 1))
  for (const one of all) log.add(one, envelope())
  const ordered = all.toSorted((a, b) => a.sentAtMs - b.sentAtMs).map(({ id }) => toHex(id))
  assert.deepEqual(idsOf(log.window(0, 0)), ordered)
  assert.deepEqual(idsOf(log.window(20, 40n)), ordered.slice(1, 3))
  assert.deepEqual(idsOf(log.window(10, 11)), ordered.slice(0, 1))
  assert.deepEqual(log.window(50, 40), [])
})

test('past its bounds what is oldest goes, and nothing that old is kept again', () => {
  for (const limits of [{ batches: 3 }, { bytes: 30 }]) {
    const log = new Log(limits)
    const all = Array.from({ length: 6 }, (_, i) => batch(`${i}`, 100 + Math.floor(i / 2), i + 1))
    for (const one of all) assert.equal(log.add(one, envelope()), 'new')
    assert.equal(log.size, 2, 'whole milliseconds go')
    assert.equal(log.bytes, 20)
    assert.equal(log.sinceMs, 102)
    assert.equal(log.get(toHex(all[0].id)), undefined)
    assert.equal(log.add(all[0], envelope()), 'known')
    assert.equal(log.add(batch('older', 101, 50), envelope()), 'new', 'told, and not kept')
    assert.equal(log.size, 2)
  }
})

test('a batch that came to nobody is taken back', () => {
  const log = new Log()
  const one = batch('one', 5, 1)
  log.add(one, envelope())
  log.remove(one)
  assert.deepEqual([log.size, log.bytes], [0, 0])
  assert.equal(log.add(batch('again', 6, 1), envelope()), 'new')
})

test('what a stranger makes it remember is bounded', () => {
  const log = new Log({ batches: 2, known: 4 })
  for (let i = 0; i < 100; i++) log.add(batch(`${i}`, i, i + 1), envelope())
  assert(log.size <= 2)
  assert.equal([...Array(100).keys()].filter(i => log.knows(toHex(batch(`${i}`, i, 1).id))).length, 4)
})
