// The `prev` of a batch.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Heads } from '../lib/heads.js'

const AUTHOR = new Uint8Array(38).fill(1)
const id = number => new Uint8Array(32).fill(number)
const batch = (number, prev = [], author = AUTHOR) => ({ id: id(number), author, sentAtMs: number, prev: prev.map(id) })
const heads = (...batches) => {
  const own = new Heads(() => AUTHOR)
  for (const one of batches) own.add(one)
  return own
}
const numbers = ids => ids.map(([number]) => number)

test('the first batch follows nothing, the next one that before it', () => {
  assert.deepEqual(numbers(heads().newest()), [])
  assert.deepEqual(numbers(heads(batch(1)).newest(id(1))), [1])
  assert.deepEqual(numbers(heads(batch(1), batch(2, [1])).newest(id(2))), [2])
})

test('the last batch of another process of the author is followed too, until another batch follows it', () => {
  const own = heads(batch(1), batch(9))
  assert.deepEqual(numbers(own.newest(id(1))), [1, 9])
  own.add(batch(2, [1, 9]))
  assert.deepEqual(numbers(own.newest(id(2))), [2])
})

test('the order in which batches become known is all the same', () => {
  assert.deepEqual(numbers(heads(batch(3, [2]), batch(2, [1]), batch(1)).newest()), [3])
})

test('of many heads the newest are followed, the batch before always', () => {
  assert.deepEqual(numbers(heads(...[1, 2, 3, 4, 5, 6].map(number => batch(number))).newest(id(1))), [1, 6, 5, 4])
})

test('batches of others are no heads', () => {
  assert.deepEqual(numbers(heads(batch(1, [], AUTHOR.map(() => 2))).newest()), [])
})
