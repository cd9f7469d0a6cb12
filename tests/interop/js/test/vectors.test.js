// The published vectors, each recomputed from its inputs.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { argon2id } from 'hash-wasm'
import { sha256 } from '@noble/hashes/sha2.js'
import { peerIdFromMultihash } from '@libp2p/peer-id'
import * as Digest from 'multiformats/hashes/digest'
import { messageId, open, roomFault, roomOf, seal, topicOf } from '../lib/batch.js'
import { ascii, concat, fromHex, random, toHex } from '../lib/bytes.js'
import { Code, Local, Round, codeName, decodeFrame, rejectFrame } from '../lib/handshake.js'
import { Identity, networkId, publicKeyOf, verify } from '../lib/identity.js'
import { messageField } from '../lib/protobuf.js'

const vectors = name => JSON.parse(readFileSync(new URL(`../../../../proto/vectors/${name}.json`, import.meta.url)))
const identity = vectors('identity')
const handshake = vectors('handshake')
const batch = vectors('batch')

const hex = bytes => toHex(Uint8Array.from(bytes))
const key = text => text === null ? undefined : fromHex(text)

async function checkIdentity (expected) {
  const own = new Identity(fromHex(expected.seed))
  const local = await Local.create({ identity: own })
  assert.equal(hex(own.key), expected.public_key)
  assert.equal(hex(own.publicKey), expected.public_key_protobuf)
  assert.equal(hex(own.peerId), expected.peer_id_bytes)
  assert.equal(peerIdFromMultihash(Digest.decode(own.peerId)).toString(), expected.peer_id)
  assert.equal(hex(local.sealingKey), expected.x25519_public_key)
}

test('a seed gives the published keys', async () => {
  for (const expected of identity.seeds) await checkIdentity(expected)
})

test('a passphrase gives the published identity', async () => {
  for (const expected of identity.passphrases) {
    const salt = sha256(concat(ascii('diatribe/identity/v1'), Uint8Array.of(0), new TextEncoder().encode(expected.salt.normalize('NFC'))))
    assert.equal(hex(salt), expected.argon2_salt)
    const password = expected.passphrase.normalize('NFC')
    const options = { password, salt, memorySize: 262144, iterations: 3, parallelism: 1, hashLength: 32, outputType: 'hex' }
    assert.equal(await argon2id(options), expected.seed)
    await checkIdentity(expected)
  }
})

test('a network key gives the published network id', () => {
  for (const { network_key, network_id } of identity.networks) assert.equal(hex(networkId(key(network_key))), network_id)
})

test('weak and malformed keys are refused', () => {
  for (const { public_key_protobuf, comment } of identity.refused_public_keys) {
    assert.equal(publicKeyOf(fromHex(public_key_protobuf)), undefined, comment)
  }
})

test('signatures are verified by the strict rules', () => {
  for (const { public_key, message, signature, valid, comment } of identity.signatures) {
    assert.equal(verify(fromHex(public_key), fromHex(message), fromHex(signature)), valid, comment)
  }
})

for (const expected of [...handshake.handshakes, handshake.two_keys]) {
  test(`handshake, ${expected.name}: both roles make the published bytes`, async () => {
    const sides = {}
    for (const role of ['dialer', 'listener']) {
      const { seed, instance_id } = expected[role]
      const own = new Identity(fromHex(seed))
      const newerNetworkKey = role === 'dialer' ? key(expected.newer_network_key) : undefined
      sides[role] = await Local.create({ identity: own, networkKey: key(expected.network_key), newerNetworkKey, instanceId: fromHex(instance_id) })
      assert.equal(hex(sides[role].sealingKey), expected[role].sealing_key)
    }
    for (const round of expected.rounds) await checkRound(round, sides)
  })
}

async function checkRound (expected, sides) {
  const at = (role, other, who) => new Round({
    local: sides[role],
    remote: sides[other].identity.peerId,
    number: expected.round,
    prev: fromHex(expected.prev),
    entropy: {
      nonce: fromHex(expected[`nonce_${who}`]),
      secret: fromHex(expected[`k_${who}`]),
      ephemeral: fromHex(expected[`hpke_ikm_${who}`]).buffer,
      tag: fromHex(expected.random_tag ?? ''),
      clockMs: expected[`clock_ms_${who}`]
    }
  })
  const client = at(expected.client, expected.server, 'client')
  const server = at(expected.server, expected.client, 'server')

  const hello = client.hello()
  assert.equal(hex(hello), expected.hello)
  assert.equal(hex(client.t1), expected.T1)
  assert(hex(hello).includes(expected.tags))
  const challenge = await server.onHello(decodeFrame(hello))
  assert.equal(hex(challenge), expected.challenge)
  const { answer } = await client.onChallenge(decodeFrame(challenge))
  assert.equal(hex(answer), expected.answer)
  const { t2, t3, t4, t5, k } = client.steps
  assert.deepEqual([t2, t3, t4, t5].map(hex), [expected.T2, expected.T3, expected.T4, expected.T5])
  assert.equal(hex(k.confirm) + hex(k.pass), expected.K)
  const { pass, end } = await server.onAnswer(decodeFrame(answer))
  assert.equal(hex(pass), expected.pass)
  assert.equal(hex(end), expected.T_end)
  assert.equal(hex(client.onPass(decodeFrame(pass))), expected.T_end)
  return client
}

test('referrals are taken with their proof, with the right code, and where they may be', async () => {
  const { frame, referrals, handshake: name } = handshake.referrals
  const expected = handshake.handshakes.find(one => one.name === name)
  const { seed, instance_id } = expected.dialer
  const local = await Local.create({ identity: new Identity(fromHex(seed)), networkKey: key(expected.network_key), instanceId: fromHex(instance_id) })
  const other = await Local.create({ identity: new Identity(fromHex(expected.listener.seed)), networkKey: key(expected.network_key), instanceId: fromHex(expected.listener.instance_id) })
  const client = await checkRound(expected.rounds[0], { dialer: local, listener: other })
  const reject = decodeFrame(fromHex(frame))
  assert.equal(hex(client.referrals(reject)), referrals)
  const proof = reject.proof.slice()
  proof[31] ^= 1
  const longer = concat(reject.referrals, new Uint8Array(768 - reject.referrals.length + 1))
  for (const change of [{ proof }, { proof: proof.subarray(0, 31) }, { proof: new Uint8Array() }, { code: Code.POLICY }, { referrals: longer }]) {
    assert.equal(client.referrals({ ...reject, ...change }), undefined)
  }
  const [, second] = expected.rounds
  assert.equal((await checkRound(second, { dialer: local, listener: other })).referrals(reject), undefined)
})

test('a peer with another network key is named, and the open network by its name', async () => {
  const create = networkKey => Local.create({ identity: new Identity(random(32)), networkKey })
  const [open, one, other] = [await create(), await create(random(32)), await create(random(32))]
  const meet = async (from, to) => {
    const client = new Round({ local: from, remote: to.identity.peerId, number: 1 })
    return new Round({ local: to, remote: from.identity.peerId, number: 1 }).onHello(decodeFrame(client.hello()))
  }
  await assert.rejects(meet(one, other), { code: 'NETWORK', message: 'the network keys differ' })
  await assert.rejects(meet(one, open), { code: 'NETWORK', message: 'the network keys differ' })
  await assert.rejects(meet(open, one), { code: 'NETWORK', message: /open network/ })
  await meet(one, await create(one.networks[0].key))
})

test('a Hello and a Challenge are distinguished by their tags and their key', async () => {
  const [expected] = handshake.handshakes
  const [round] = expected.rounds
  const create = who => Local.create({ identity: new Identity(fromHex(expected[who].seed)), instanceId: fromHex(expected[who].instance_id) })
  const [dialer, listener] = [await create('dialer'), await create('listener')]
  const entropy = who => ({ nonce: fromHex(round[`nonce_${who}`]), secret: fromHex(round[`k_${who}`]), ephemeral: fromHex(round[`hpke_ikm_${who}`]).buffer, tag: random(16), clockMs: 0 })
  const more = (frame, extra) => {
    const { kind, ...fields } = decodeFrame(fromHex(frame))
    return { ...fields, core: concat(fields.core, fromHex(extra)) }
  }
  const server = () => new Round({ local: listener, remote: dialer.identity.peerId, number: 1, entropy: entropy('server') })
  const client = () => {
    const own = new Round({ local: dialer, remote: listener.identity.peerId, number: 1, entropy: entropy('client') })
    own.hello()
    return own
  }
  // A `key`; no tags; one tag. The last of each field counts.
  for (const extra of ['6001', '5a00', '5a10' + '00'.repeat(16)]) await assert.rejects(server().onHello(more(round.hello, extra)), { code: 'AUTH' }, extra)
  // No key; 3; the key of the tag that is random; tags.
  for (const extra of ['6000', '6003', '6002', '5a20' + '00'.repeat(32)]) await assert.rejects(client().onChallenge(more(round.challenge, extra)), { code: 'AUTH' }, extra)
})

test('rejects have the published bytes', () => {
  for (const { code, name, frame } of handshake.rejects) {
    assert.equal(Code[name], code)
    assert.equal(hex(rejectFrame(name)), frame)
    assert.equal(codeName(decodeFrame(fromHex(frame)).code), name)
  }
  assert.equal(codeName(77), 'AUTH')
})

test('any flipped bit of an Answer is refused', async () => {
  const [expected] = handshake.handshakes
  const [round] = expected.rounds
  const local = await Local.create({ identity: new Identity(fromHex(expected.listener.seed)), instanceId: fromHex(expected.listener.instance_id) })
  const remote = fromHex(expected.dialer.peer_id_bytes)
  const entropy = {
    nonce: fromHex(round.nonce_server),
    secret: fromHex(round.k_server),
    ephemeral: fromHex(round.hpke_ikm_server).buffer,
    clockMs: round.clock_ms_server
  }
  const server = async () => {
    const own = new Round({ local, remote, number: 1, entropy })
    await own.onHello(decodeFrame(fromHex(round.hello)))
    return own
  }
  await (await server()).onAnswer(decodeFrame(fromHex(round.answer)))
  for (let bit = 0; bit < round.answer.length * 4; bit += 7) {
    const answer = fromHex(round.answer)
    answer[bit >> 3] ^= 1 << (bit & 7)
    const own = await server()
    await assert.rejects(async () => {
      const frame = decodeFrame(answer)
      assert.equal(frame.kind, 'answer')
      await own.onAnswer(frame)
    }, `bit ${bit}`)
  }
})

test('a batch has the published bytes', () => {
  for (const expected of batch.batches) {
    const events = expected.events.map(({ name, data }) => ({ name, data: fromHex(data) }))
    const network = fromHex(expected.network_id)
    if (expected.network_key !== undefined) assert.deepEqual(networkId(fromHex(expected.network_key)), network)
    const { body, signature, data, id } = seal({
      identity: new Identity(fromHex(expected.seed)),
      networkId: network,
      instanceId: fromHex(expected.instance_id),
      firstSeq: expected.first_seq,
      sentAtMs: expected.sent_at_ms,
      room: expected.room,
      events,
      prev: expected.prev.map(fromHex)
    })
    assert.equal(hex(body), expected.body)
    assert.equal(hex(signature), expected.signature)
    assert.equal(hex(data), expected.envelope)
    assert.equal(hex(id), expected.id)
    assert.equal(topicOf(expected.room), expected.topic)
    assert.equal(hex(messageId(expected.topic, data)), expected.id)
    const opened = open(data, expected.room, network, expected.sent_at_ms)
    assert.deepEqual(opened.events.map(e => [e.name, hex(e.data)]), expected.events.map(e => [e.name, e.data]))
    assert.equal(opened.firstSeq, expected.first_seq)
    assert.deepEqual(opened.prev.map(hex), expected.prev)
  }
})

test('everything that the contract accepts is accepted', () => {
  for (const { room, network_id, now_ms, envelope, id, prev_count, comment } of batch.accepted) {
    const opened = open(fromHex(envelope), room, fromHex(network_id), now_ms)
    assert.deepEqual([hex(opened.id), opened.prev.length], [id, prev_count], comment)
  }
})

test('everything that the contract refuses is refused, for the published reason', () => {
  for (const { room, network_id, now_ms, envelope, error, comment } of batch.refused) {
    assert.throws(() => open(fromHex(envelope), room, fromHex(network_id), now_ms), { kind: error, offence: error !== 'Ahead' }, comment)
  }
})

/** An envelope of a given size that is no batch, as `data_is` describes it. */
function hollow (size) {
  const body = new Uint8Array(size - 70).fill(0x78)
  return concat(messageField(1, body), messageField(2, new Uint8Array(64)))
}

test('messages have the published ids, for any data and topic', () => {
  for (const { topic, data, data_bytes: size, id, comment } of batch.ids) {
    const bytes = data === undefined ? hollow(size) : fromHex(data)
    assert.equal(bytes.length, size ?? bytes.length)
    assert.equal(hex(messageId(topic, bytes)), id, comment)
  }
})

test("rooms' names are checked", () => {
  for (const { room, topic } of batch.rooms) {
    assert.equal(roomFault(room), undefined, room)
    assert.equal(roomOf(topic), room)
  }
  for (const { topic, comment } of batch.refused_topics) assert.equal(roomOf(topic), undefined, comment)
})
