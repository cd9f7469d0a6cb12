// The edges of protocol buffers: the contract fixes which encodings a parser accepts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fromHex } from '../lib/bytes.js'
import { Malformed, decode, decodeOneOf } from '../lib/protobuf.js'

const SCHEMA = { number: [1, 'uint64'], text: [2, 'string'], list: [3, bytes => bytes] }
const read = hex => decode(fromHex(hex), SCHEMA)

test('malformed: ', async t => {
  const cases = {
    'a value that is no minimal varint': '088000',
    'a key that is none': '880001',
    'a length that is none': '12810041',
    'a varint of 11 bytes': '0880808080808080808080' + '01',
    'a number of 65 bits': '0880808080808080808002',
    'a key of 33 bits': '80808080' + '1000',
    'field 0': '0000',
    'a group': '2324',
    'the end of a group': '24',
    'wire type 6': '26',
    'wire type 7': '27',
    'a length past the end': '120241',
    'a fixed64 cut short': '2900000000000000',
    'a fixed32 cut short': '2d000000',
    'a known field of another wire type': '0a00',
    'a string that is not UTF-8': '1201ff'
  }
  for (const [what, hex] of Object.entries(cases)) await t.test(what, () => assert.throws(() => read(hex), Malformed))
})

test('taken: ', async t => {
  const cases = {
    'any order': ['1201410801', { number: 1n, text: 'A', list: [] }],
    'a scalar field twice': ['08010802', { number: 2n, text: '', list: [] }],
    'a zero that is there': ['08001200', { number: 0n, text: '', list: [] }],
    'unknown fields of the four wire types': ['a00601' + 'a1060000000000000000' + 'a20600' + 'a50600000000' + '0801', { number: 1n, text: '', list: [] }],
    'the largest number': ['08ffffffffffffffffff01', { number: 2n ** 64n - 1n, text: '', list: [] }],
    'the last field number': ['f8ffffff0f00', { number: 0n, text: '', list: [] }]
  }
  for (const [what, [hex, message]] of Object.entries(cases)) await t.test(what, () => assert.deepEqual(read(hex), message))
})

test('each part of a message that is there twice must be in order', () => {
  const kinds = { one: [1, SCHEMA], other: [2, SCHEMA] }
  assert.throws(() => decodeOneOf(fromHex('0a020880' + '0a0101'), kinds), Malformed)
  assert.throws(() => decodeOneOf(fromHex('0a0108' + '1200'), kinds), Malformed, 'also one that another replaces')
  assert.deepEqual(decodeOneOf(fromHex('0a020801' + '0a03120141'), kinds), { kind: 'one', number: 1n, text: 'A', list: [] })
})
