// Every fault can be planted: its place is there, once.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { FAULTS, plant } from '../faulty.js'

const read = file => readFileSync(join(import.meta.dirname, '..', file), 'utf8')

for (const [name, [breaks, changes]] of Object.entries(FAULTS)) {
  test(`${name} can be planted`, () => {
    assert.match(breaks, /^chapter \d+/)
    for (const file of new Set(changes.map(([file]) => file))) assert.notEqual(plant(name, file, read(file)), read(file))
  })
}

test('a fault with a missing place is not planted', () => {
  assert.throws(() => plant('no-deadline', 'lib/session.js', 'const OTHER = 1'), /cannot be planted/)
})
