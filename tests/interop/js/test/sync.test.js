// Data checking between nodes on real connections.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Quota, MAX_IMPATIENT } from '../lib/quota.js'
import { open, seal, topicOf } from '../lib/batch.js'
import { concat, fromHex, random, toHex } from '../lib/bytes.js'
import { answering, ask } from '../lib/exchange.js'
import { Identity, networkId } from '../lib/identity.js'
import { answer } from '../lib/negentropy.js'
import { PROTOCOL, decodeRequest, decodeResponse, encodeRequest, encodeResponse } from '../lib/sync-messages.js'
import { start } from '../peer.js'

const LISTEN = '/ip4/127.0.0.1/tcp/0/ws'
const OPEN = networkId()
const LIMITS = { limit: 2 ** 21, timeoutMs: 5_000 }
const nodes = []
after(() => Promise.all(nodes.map(node => node.stop())))

async function own (options = {}) {
  const node = await start({ listen: [LISTEN], overlay: false, ...options })
  const service = node.services.diatribe
  const told = { message: [], checked: [], refused: [] }
  for (const type of Object.keys(told)) service.addEventListener(type, ({ detail }) => told[type].push(detail))
  service.join('lobby')
  nodes.push(node)
  return { node, service, told, address: node.getMultiaddrs()[0] }
}

/** Waits until something holds. */
async function until (holds, what) {
  for (let i = 0; i < 1_500; i++) {
    if (holds()) return
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  assert.fail(`in 15 s not: ${what}`)
}

const say = (service, text) => service.broadcast('lobby', { name: 'chat', data: new TextEncoder().encode(text), wait: true })
const texts = told => told.message.map(({ data }) => new TextDecoder().decode(data))

/** An envelope of an author that is not here. */
function sealed (text, changes = {}) {
  const event = { name: 'chat', data: new TextEncoder().encode(text) }
  return seal({ identity: new Identity(random(32)), networkId: OPEN, instanceId: random(16), firstSeq: 1, sentAtMs: Date.now() - 60_000, room: 'lobby', events: [event], ...changes })
}

test('earlier messages reach a late joiner: all, once, marked as backfill', async () => {
  const [a, b, c] = [await own(), await own(), await own()]
  await a.service.connect(b.address)
  const words = Array.from({ length: 60 }, (_, i) => `word ${i}`)
  for (const word of words) await say(a.service, word)
  await until(() => b.told.message.length === words.length, 'the neighbour has heard all')
  await c.service.connect(b.address)
  await until(() => c.told.message.length >= words.length, 'the late one has all')
  await say(a.service, 'live')
  await until(() => texts(c.told).includes('live'), 'what is said now comes')
  assert.deepEqual(texts(c.told), [...words, 'live'])
  assert.deepEqual(c.told.message.map(m => m.backfill), [...words.map(() => true), false])
  const [{ room, peer_id: peer, neighbours, agreed, repaired, bytes }] = c.told.checked
  assert.deepEqual({ room, peer, neighbours, agreed, repaired }, { room: 'lobby', peer: b.node.peerId.toString(), neighbours: 1, agreed: 0, repaired: words.length })
  assert(bytes > words.length * 100)
})

test('messages of one millisecond of an author reach a late joiner in their order', async () => {
  const [b, c, d] = [await own(), await own(), await own({ sync: false })]
  await d.service.connect(b.address)
  await until(() => d.service.gossip.getSubscribers(topicOf('lobby')).length === 1 && d.service.gossip.streamsOutbound.size === 1, 'gossip is up')
  const author = { identity: new Identity(random(32)), instanceId: random(16), sentAtMs: Date.now() - 60_000 }
  const words = Array.from({ length: 20 }, (_, i) => `word ${i}`)
  for (const [i, word] of words.entries()) await d.service.gossip.publish(topicOf('lobby'), sealed(word, { ...author, firstSeq: i + 1 }).data)
  await until(() => b.told.message.length === words.length, 'the neighbour has heard all')
  await c.service.connect(b.address)
  await until(() => c.told.message.length === words.length, 'the late one has all')
  assert.deepEqual(texts(c.told), words)
})

test('a message fetched by data checking is not delivered again when it arrives by gossip', async () => {
  const [a, b, c, d] = [await own(), await own(), await own(), await own({ sync: false })]
  await a.service.connect(b.address)
  await say(a.service, 'once')
  await until(() => b.told.message.length === 1, 'the neighbour has heard it')
  await c.service.connect(b.address)
  await until(() => c.told.message.length === 1, 'the late one has it')
  // d has never seen it, and says it again, byte for byte.
  const id = c.told.message[0].id
  const [connection] = c.node.getConnections(b.node.peerId)
  const request = encodeRequest('fetch', { room: 'lobby', ids: fromHex(id) })
  const { envelopes: [envelope] } = decodeResponse(await ask(connection, PROTOCOL, request, LIMITS), 'fetch')
  await d.service.connect(c.address)
  await until(() => d.service.gossip.getSubscribers(topicOf('lobby')).length === 1 && d.service.gossip.streamsOutbound.size === 1, 'gossip is up')
  await d.service.gossip.publish(topicOf('lobby'), envelope)
  await say(d.service, 'after it')
  await until(() => texts(c.told).includes('after it'), 'gossip has come')
  assert.deepEqual(texts(c.told), ['once', 'after it'])
})

test('a peer without it is checked nothing with, and stays', async () => {
  const [a, b] = [await own(), await own({ sync: false })]
  await a.service.connect(b.address)
  await say(a.service, 'hello')
  await until(() => b.told.message.length === 1, 'gossip works')
  await new Promise(resolve => setTimeout(resolve, 500))
  assert.deepEqual([a.told.checked, a.told.refused, a.service.links], [[], [], 1])
})

test('a stranger with endless requests gets RetryAfter', async () => {
  const [a, b] = [await own(), await own({ sync: false })]
  await b.service.connect(a.address)
  const [connection] = b.node.getConnections(a.node.peerId)
  const request = encodeRequest('compare', { room: 'lobby', since_ms: 0, until_ms: 0, frame: fromHex('61') })
  const kinds = []
  for (let i = 0; i < 400 && !kinds.includes('retryAfter'); i++) kinds.push(decodeResponse(await ask(connection, PROTOCOL, request, LIMITS), 'compare').kind)
  assert(kinds.length > 64)
  assert.deepEqual([kinds.at(0), kinds.at(-1)], ['ranges', 'retryAfter'])
})

test('a neighbour that waits is always served; one that does not commits an offence in the end', () => {
  const patient = new Quota(0)
  for (let now = 0; now < 600_000; now += 500) assert.equal(patient.ask(now, 'compare'), 'granted')
  const greedy = new Quota(0)
  const answers = Array.from({ length: 200 }, () => greedy.ask(1, 'compare'))
  assert.deepEqual([answers.indexOf('retryAfter'), answers.indexOf('offence')], [64, 64 + MAX_IMPATIENT])
  const fetching = new Quota(0)
  for (let i = 0; i < 1_024; i++) {
    assert.equal(fetching.ask(0, 'fetch'), 'granted')
    fetching.served(2 ** 20)
  }
  assert.equal(fetching.ask(0, 'fetch'), 'retryAfter')
  assert.equal(fetching.ask(1_000, 'fetch'), 'granted')
})

test('a malformed request of a stranger ends its link', async () => {
  const wrong = {
    'no known kind': Uint8Array.of(0x7a, 0),
    'a window that ends before it begins': encodeRequest('compare', { room: 'lobby', since_ms: 5, until_ms: 5, frame: fromHex('61') }),
    'a frame of another version': encodeRequest('compare', { room: 'lobby', since_ms: 0, until_ms: 0, frame: fromHex('62') }),
    'half an id': encodeRequest('fetch', { room: 'lobby', ids: random(16) }),
    'too many ids': encodeRequest('fetch', { room: 'lobby', ids: new Uint8Array(1025 * 32) }),
    'a name without end': encodeRequest('lagging', { room: 'x'.repeat(256), count: 1 })
  }
  for (const [what, request] of Object.entries(wrong)) {
    const [a, b] = [await own(), await own({ sync: false })]
    await b.service.connect(a.address)
    const [connection] = b.node.getConnections(a.node.peerId)
    await assert.rejects(ask(connection, PROTOCOL, request, LIMITS), what)
    await until(() => a.service.links === 0, `the link is closed: ${what}`)
    assert.deepEqual(a.told.refused.map(({ code, stage }) => [code, stage]), [['INVALID_SYNC', 'link']], what)
  }
})

test('a room that the node is not in is absent', async () => {
  const [a, b] = [await own(), await own({ sync: false })]
  await b.service.connect(a.address)
  const [connection] = b.node.getConnections(a.node.peerId)
  const request = encodeRequest('lagging', { room: 'elsewhere', count: 1 })
  assert.equal(decodeResponse(await ask(connection, PROTOCOL, request, LIMITS), 'lagging').kind, 'notSubscribed')
})

/** A peer that passes the handshake and then answers data checking as it likes. */
async function liar (answer) {
  const peer = await own({ sync: false })
  await peer.node.handle(PROTOCOL, answering(async body => answer(decodeRequest(body)), () => {}, LIMITS))
  return peer
}

const idList = ids => concat(fromHex('61000002'), Uint8Array.of(ids.length), ...ids)

test('nothing is taken that is false or was not asked for', async () => {
  const [asked, other] = [sealed('asked for'), sealed('not asked for')]
  const tampered = asked.data.with(asked.data.length - 1, asked.data.at(-1) ^ 1)
  const wrong = {
    'a batch that was not asked for': { envelopes: [other.data], missing: new Uint8Array() },
    'a batch twice': { envelopes: [asked.data, asked.data], missing: new Uint8Array() },
    'another signature': { envelopes: [tampered], missing: new Uint8Array() },
    'nothing at all': { envelopes: [], missing: new Uint8Array() }
  }
  for (const [what, batches] of Object.entries(wrong)) {
    const bad = await liar(request => request.kind === 'compare'
      ? encodeResponse('ranges', { frame: idList([asked.id]) })
      : encodeResponse('batches', batches))
    const a = await own()
    await a.service.connect(bad.address)
    await until(() => a.service.links === 0, `the link is closed: ${what}`)
    assert.equal(a.told.refused[0].code, 'INVALID_SYNC', what)
    assert.deepEqual(texts(a.told), what === 'a batch twice' ? ['asked for'] : [], what)
  }
})

test('a batch of a clock that is ahead is left for later, without offence', async () => {
  const ahead = sealed('from the future', { sentAtMs: Date.now() + 400_000 })
  let fetches = 0
  const peer = await liar(request => {
    if (request.kind === 'compare') return encodeResponse('ranges', { frame: idList([ahead.id]) })
    fetches++
    return encodeResponse('batches', { envelopes: [ahead.data], missing: new Uint8Array() })
  })
  const a = await own()
  await a.service.connect(peer.address)
  await until(() => a.told.checked.length > 0, 'it is compared')
  assert.deepEqual([fetches, a.told.message, a.told.refused, a.service.links], [1, [], [], 1])
})

test('batches that a neighbour has removed are no difference, and are not requested again', async () => {
  const item = { timestamp: BigInt(Date.now() - 60_000), id: random(32) }
  let fetches = 0
  const peer = await liar(request => {
    if (request.kind === 'compare') return encodeResponse('ranges', { frame: answer([item], request.frame, 2 ** 18) })
    fetches++
    return encodeResponse('batches', { removed: item.id, removed_at_ms: [item.timestamp] })
  })
  const a = await own()
  await a.service.connect(peer.address)
  await until(() => a.told.checked.length === 1, 'it is compared')
  const [connection] = peer.node.getConnections(a.node.peerId)
  await ask(connection, PROTOCOL, encodeRequest('lagging', { room: 'lobby', count: 1 }), LIMITS)
  await until(() => a.told.checked.length === 2, 'it is compared again')
  assert.deepEqual([fetches, a.told.refused, a.told.checked.map(({ agreed, repaired }) => [agreed, repaired])], [1, [], [[1, 0], [1, 0]]])
})

test('removed batches are answered as removed', async () => {
  const [a, b] = [await own(), await own({ sync: false })]
  await a.service.connect(b.address)
  const { id } = await say(a.service, 'to be removed')
  // 17 MiB are more than a node keeps of a room.
  for (let i = 0; i < 17; i++) await a.service.broadcast('lobby', { data: new Uint8Array(2 ** 20) })
  const [connection] = b.node.getConnections(a.node.peerId)
  const request = encodeRequest('fetch', { room: 'lobby', ids: fromHex(id) })
  const response = decodeResponse(await ask(connection, PROTOCOL, request, LIMITS), 'fetch')
  assert.deepEqual([response.envelopes, response.missing, response.removed.map(toHex), response.removed_at_ms.length], [[], [], [id], 1])
})

test('served envelopes are those that were sent, byte for byte', async () => {
  const [a, b] = [await own(), await own()]
  await a.service.connect(b.address)
  const { id } = await say(a.service, 'to be kept')
  await until(() => b.told.message.length === 1, 'it is heard')
  for (const [from, to] of [[a, b], [b, a]]) {
    const [connection] = from.node.getConnections(to.node.peerId)
    const missing = random(32)
    const request = encodeRequest('fetch', { room: 'lobby', ids: concat(fromHex(id), missing) })
    const response = decodeResponse(await ask(connection, PROTOCOL, request, LIMITS), 'fetch')
    assert.equal(toHex(open(response.envelopes[0], 'lobby', OPEN, Date.now()).id), id)
    assert.deepEqual(response.missing.map(toHex), [toHex(missing)])
  }
})
