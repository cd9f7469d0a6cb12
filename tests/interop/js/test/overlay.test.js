// The rules of the overlay, without a network: inputs, and all effects.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { peerIdFromMultihash, peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import * as Digest from 'multiformats/hashes/digest'
import { LOOPBACK, PRIVATE, PUBLIC, readAddresses, scopeOf, scopeOfLink, writeAddresses } from '../lib/addresses.js'
import { Book } from '../lib/book.js'
import { DIALS, DialBudget, SAME_ADDRESS_MS } from '../lib/budget.js'
import { Violation } from '../lib/exchange.js'
import { Identity } from '../lib/identity.js'
import { Answer, Refusal, Role, decodeRequest, decodeResponse, encodeRequest, encodeResponse } from '../lib/overlay-messages.js'
import { HANDOVER_MS, OverlayState } from '../lib/overlay-state.js'

const HOST = '127.0.0.1'
const at = number => `/ip4/${HOST}/tcp/${2_000 + number}/ws`
const [ME, E, F, C, X] = [1, 2, 3, 4, 5].map(n => peerIdFromMultihash(Digest.decode(new Identity(new Uint8Array(32).fill(n)).peerId)).toString())
const NONCE = 7n

/** A node with some links, which were there long ago. */
function node ({ maxLinks = 5, addresses = [at(1)], inbound = [], now = 0 } = {}) {
  const state = new OverlayState({ me: ME, maxLinks, addresses: () => addresses, random: () => 0.5, nonce: () => NONCE, now })
  for (const id of inbound) state.up(now, { id, scope: LOOPBACK, host: HOST, dialled: false })
  return state
}

const up = (state, now, id, dialled) => state.up(now, { id, scope: LOOPBACK, host: HOST, dialled })
const redirect = (role, to, addresses = [at(9)], nonce = NONCE) => ({ kind: 'redirect', nonce, role, to: { id: to, addresses } })
const kinds = effects => effects.map(effect => effect.do + (effect.kind === undefined ? '' : ` ${effect.kind}`))
const outcomes = effects => effects.filter(effect => effect.do === 'hint').map(({ outcome }) => outcome)

/** A newcomer that its entry E has answered SPLIT. */
function newcomer (options) {
  const state = node(options)
  const [{ kind, message }] = up(state, 0, E, true)
  assert.equal(kind, 'join')
  assert.deepEqual([message.nonce, message.need, message.links], [NONCE, 2, [E]])
  assert.deepEqual(state.answered(1, E, { kind, message }, { kind: 'joined', answer: Answer.SPLIT, contacts: [] }), [])
  return state
}

test('a node redirected to dial dials at once, attaches, reports, and expects its old link to close', () => {
  const state = node({ inbound: [E, X] })
  const { response, effects } = state.request(0, E, redirect(Role.DIAL, C))
  assert.deepEqual(response, { kind: 'redirected', refusal: Refusal.NONE, addresses: [at(1)] })
  assert.deepEqual(effects, [{ do: 'dial', to: C, addresses: [at(9)] }])
  const attach = up(state, 100, C, true)
  assert.deepEqual(attach, [{ do: 'ask', to: C, kind: 'attach', message: { nonce: NONCE } }])
  assert.deepEqual(state.answered(200, C, attach[0], { kind: 'done', ok: true }), [
    { do: 'ask', to: E, kind: 'report', message: { nonce: NONCE, linked: true } },
    { do: 'hint', from: E, to: C, address: at(9), outcome: 'linked' },
    { do: 'expectClose', id: E, reason: `handover: the link moved to ${C}` }
  ])
  assert.deepEqual(state.down(300, E), [])
  assert.equal(state.lock, undefined)
  assert.deepEqual([...state.links.keys()], [X, C])
})

test('a node redirected to expect a peer reports when that one attaches, and nobody else', () => {
  const state = node({ inbound: [E] })
  assert.equal(state.request(0, E, redirect(Role.EXPECT, C)).response.refusal, Refusal.NONE)
  assert(state.admits(C, false, 5), 'one more than 5, for the handover')
  assert(!state.admits(C, true, 5), 'it is to dial, and not to be dialled')
  assert(!state.admits(X, false, 5))
  up(state, 50, C, false)
  up(state, 50, X, false)
  assert.equal(state.request(60, X, { kind: 'attach', nonce: NONCE }).response.ok, false)
  assert.equal(state.request(60, C, { kind: 'attach', nonce: 8n }).response.ok, false)
  const { response, effects } = state.request(60, C, { kind: 'attach', nonce: NONCE })
  assert.equal(response.ok, true)
  assert.deepEqual(kinds(effects), ['ask report', 'expectClose'])
  assert.equal(state.request(70, C, { kind: 'attach', nonce: NONCE }).response.ok, false, 'a nonce is good once')
})

test('hints that break a rule are refused by name, and nothing is dialled', () => {
  const refused = (state, hint, refusal, outcome, now = 0) => {
    const { response, effects } = state.request(now, E, hint)
    assert.deepEqual([response.refusal, outcomes(effects), kinds(effects)], [refusal, [outcome], ['hint']], outcome)
  }
  refused(node({ inbound: [E] }), redirect(Role.DIAL, ME), Refusal.UNSUITABLE, 'ourselves')
  refused(node({ inbound: [E, C] }), redirect(Role.DIAL, C), Refusal.UNSUITABLE, 'already_linked')
  refused(node({ inbound: [E] }), redirect(Role.DIAL, C, []), Refusal.UNSUITABLE, 'scope')
  refused(node({ inbound: [E], addresses: [] }), redirect(Role.EXPECT, C), Refusal.NOT_DIALABLE, 'not_dialable')
  const busy = node({ inbound: [E] })
  busy.request(0, E, redirect(Role.DIAL, C))
  refused(busy, redirect(Role.DIAL, X, [at(8)], 8n), Refusal.BUSY, 'busy')
  const noLink = node().request(0, E, redirect(Role.DIAL, C))
  assert.deepEqual([noLink.response, noLink.effects], [{ kind: 'done', ok: false }, []])
})

test('dials for any number of hints are few: one an address a minute, some at once, 12 a minute', () => {
  const state = node({ inbound: [E] })
  const hint = (now, port) => {
    const { response } = state.request(now, E, redirect(Role.DIAL, C, [at(port)]))
    if (response.refusal === Refusal.NONE) state.dialFailed(now, C, 'unreachable')
    return response.refusal
  }
  assert.equal(hint(0, 1), Refusal.NONE)
  assert.equal(hint(SAME_ADDRESS_MS - 1, 1), Refusal.TOO_MANY)
  assert.equal(hint(SAME_ADDRESS_MS, 1), Refusal.NONE)
  const begin = 10 * SAME_ADDRESS_MS
  const agreed = Array.from({ length: 100 }, (_, i) => hint(begin, 1000 + i)).filter(refusal => refusal === Refusal.NONE)
  assert.equal(agreed.length, DIALS)
  let minute = 0
  for (let ms = 0; ms < 60_000; ms += 100) minute += hint(begin + ms, 3000 + ms) === Refusal.NONE
  assert(minute >= 11 && minute <= 12, `${minute} in a minute`)
})

test('reports of refused hints are bounded', () => {
  const state = node({ inbound: [E] })
  const told = Array.from({ length: 1_000 }, () => outcomes(state.request(0, E, redirect(Role.DIAL, ME)).effects).length)
  assert.equal(told.reduce((a, b) => a + b), 16)
})

test('a dial that fails is reported, and the node is free and keeps its link', () => {
  for (const outcome of ['unreachable', 'wrong_peer', 'rejected']) {
    const state = node({ inbound: [E] })
    state.request(0, E, redirect(Role.DIAL, C))
    assert.deepEqual(state.dialFailed(1, C, outcome), [
      { do: 'ask', to: E, kind: 'report', message: { nonce: NONCE, linked: false } },
      { do: 'hint', from: E, to: C, address: at(9), outcome }
    ])
    assert.equal(state.lock, undefined)
    assert(state.links.has(E))
  }
})

test('a dial that succeeds after the end of the handover is too late', () => {
  const state = node({ inbound: [E] })
  state.request(0, E, redirect(Role.DIAL, C))
  assert.deepEqual(outcomes(state.request(1, E, { kind: 'cancel', nonce: NONCE, keep: true, contacts: [] }).effects), ['cancelled'])
  assert(!state.admits(C, true, 1))
  assert.deepEqual(state.dialFailed(2, C, 'rejected'), [])
  assert(state.admits(C, true, 1), 'of its own choice it may be linked')
})

test('a peer that did not expect this node is left, and reported', () => {
  const state = node({ inbound: [E] })
  state.request(0, E, redirect(Role.DIAL, C))
  const [attach] = up(state, 1, C, true)
  assert.deepEqual(kinds(state.answered(2, C, attach, { kind: 'done', ok: false })), ['ask report', 'hint', 'close'])
})

test('after 12 s of silence a handover is over, and nothing of that peer is obeyed for a minute', () => {
  const state = node({ inbound: [E] })
  state.request(0, E, redirect(Role.DIAL, C))
  up(state, 10, C, true)
  assert.deepEqual(state.tick(HANDOVER_MS - 1).filter(effect => effect.do !== 'ask'), [])
  const over = state.tick(HANDOVER_MS)
  assert.deepEqual([outcomes(over), over.filter(effect => effect.do === 'close').map(({ id }) => id)], [['cancelled'], [C]])
  assert(state.links.has(E))
  assert.equal(state.request(HANDOVER_MS + 1, E, redirect(Role.DIAL, X)).response.refusal, Refusal.BUSY)
  assert.equal(state.request(HANDOVER_MS + 60_001, E, redirect(Role.DIAL, X, [at(8)])).response.refusal, Refusal.NONE)
})

test('a link that moved but was not closed is kept if there is room, and closed if not', () => {
  for (const [inbound, closed] of [[[E], []], [[E, X], [C]]]) {
    const state = node({ maxLinks: 2, inbound })
    state.request(0, E, redirect(Role.DIAL, C))
    const [attach] = up(state, 10, C, true)
    state.answered(20, C, attach, { kind: 'done', ok: true })
    const { effects } = state.request(30, E, { kind: 'cancel', nonce: NONCE, keep: true, contacts: [] })
    assert.deepEqual(effects.filter(effect => effect.do === 'close').map(({ id }) => id), closed)
    assert.equal(state.lock, undefined)
  }
})

test('a newcomer asks for two links, and expects the peer that its entry names', () => {
  const state = newcomer()
  assert.equal(state.request(10, E, redirect(Role.EXPECT, F)).response.refusal, Refusal.NONE)
  assert(state.admits(F, false, 1))
  up(state, 20, F, false)
  const { response, effects } = state.request(30, F, { kind: 'attach', nonce: NONCE })
  assert(response.ok)
  assert.deepEqual(effects, [{ do: 'ask', to: E, kind: 'report', message: { nonce: NONCE, linked: true } }])
  assert.equal(state.lock, undefined, 'it is done with its word')
})

test('a newcomer agrees to one that is faster than its entry, and then to the hint', () => {
  const state = newcomer()
  up(state, 20, F, false)
  assert.equal(state.request(25, E, { kind: 'attach', nonce: NONCE }).response.ok, false, 'not to the entry itself')
  assert.equal(state.request(30, F, { kind: 'attach', nonce: NONCE }).response.ok, true)
  const { response, effects } = state.request(40, E, redirect(Role.EXPECT, F))
  assert.deepEqual([response.refusal, effects], [Refusal.NONE, []])
})

test('a newcomer that cannot be dialled says so, and dials', () => {
  const state = node({ addresses: [] })
  const [join] = up(state, 0, E, true)
  assert.deepEqual([join.message.dialable, join.message.addresses], [false, []])
  state.answered(1, E, join, { kind: 'joined', answer: Answer.SPLIT, contacts: [] })
  assert.deepEqual(kinds(state.request(10, E, redirect(Role.DIAL, F)).effects), ['dial'])
  const [attach] = up(state, 20, F, true)
  assert.deepEqual(kinds(state.answered(30, F, attach, { kind: 'done', ok: true })), ['ask report', 'hint'])
})

test('one that was expected and joins instead is taken, and the handover has failed', () => {
  const state = node({ inbound: [E] })
  state.request(0, E, redirect(Role.EXPECT, C))
  up(state, 10, C, false)
  const { response, effects } = state.request(20, C, { kind: 'join', nonce: 1n, need: 2, links: [], dialable: false, addresses: [] })
  assert.equal(response.answer, Answer.ACCEPTED)
  assert.deepEqual(effects, [{ do: 'ask', to: E, kind: 'report', message: { nonce: NONCE, linked: false } }])
  assert.equal(state.lock, undefined)
})

test('a newcomer with a failed first peer waits for the next', () => {
  const state = newcomer()
  state.request(10, E, redirect(Role.DIAL, F))
  assert.deepEqual(kinds(state.dialFailed(20, F, 'unreachable')), ['ask report', 'hint'])
  assert.equal(state.lock.as, 'C')
  assert.equal(state.request(30, E, redirect(Role.DIAL, X, [at(8)])).response.refusal, Refusal.NONE)
})

test('a newcomer that is refused closes the link and tries the contacts', () => {
  const state = node()
  const [join] = up(state, 0, E, true)
  const effects = state.answered(1, E, join, { kind: 'joined', answer: Answer.REFUSED, contacts: [{ id: F, addresses: [at(8)] }] })
  assert.deepEqual(effects.map(({ do: it, id }) => [it, id]), [['close', E]])
  state.down(2, E)
  assert.deepEqual(state.tick(3), [{ do: 'dial', to: F, addresses: [at(8)] }])
})

test('a peer without the overlay keeps a newcomer', () => {
  const state = node()
  const [join] = up(state, 0, E, true)
  assert.deepEqual(state.answered(1, E, join, 'plain'), [])
  assert.deepEqual([state.lock, state.links.get(E).confirmed], [undefined, true])
  assert(!state.tick(100_000).some(effect => effect.to === E), 'and is asked for nothing')
})

test('the number of links stays within the maximum for all newcomers', () => {
  const state = node({ maxLinks: 2, inbound: [E, F] })
  assert(state.admits(E, false, 2), 'who is linked already may come again')
  assert(!state.admits(X, false, 2))
  assert(!state.admits(X, true, 2))
  const one = node({ maxLinks: 2 })
  up(one, 0, E, true)
  assert(!one.admits(X, false, 1), 'a place is kept for the link to come')
})

test('joins are accepted while there is a free slot; the first answer has contacts', () => {
  const state = node({ inbound: [E, C] })
  state.book.addVerified(E, { proven: [at(2)] })
  const join = { kind: 'join', nonce: 1n, need: 2, links: [], dialable: true, addresses: [at(3)] }
  assert.deepEqual(state.request(0, C, join).response, { kind: 'joined', answer: Answer.ACCEPTED, contacts: [{ id: E, addresses: [at(2)] }] })
  assert.deepEqual(state.request(0, C, join).response, { kind: 'joined', answer: Answer.ACCEPTED, contacts: [] })
  assert.deepEqual(state.request(0, E, { kind: 'shuffle', offered: [{ id: X, addresses: [at(4)] }] }).response.contacts, [{ id: C, addresses: [at(3)] }])
  assert.deepEqual(state.request(0, C, { kind: 'shuffle', offered: [] }).response.contacts.map(({ id }) => id), [E], 'nobody whom others have named')
})

test('requests to move its links are not agreed to', () => {
  const state = node({ inbound: [E, F] })
  assert.equal(state.request(0, E, { kind: 'proposeHandover', pair: true }).response.agreed, false)
  assert.equal(state.request(0, E, { kind: 'dropRedundantLink', links: [F] }).response.ok, false)
  assert.equal(state.request(0, E, { kind: 'report', nonce: 5n, linked: true }).response.ok, true)
})

test('hearsay is bounded, and never replaces verified peers', () => {
  const book = new Book()
  book.addVerified(E, { proven: [at(1)] })
  for (let i = 0; i < 1_000; i++) book.hear(`peer ${i}`, [at(i + 1)])
  assert.equal(book.candidates(0, () => true).length, 31)
  assert.deepEqual(book.contacts(8, []), [{ id: E, addresses: [at(1)] }])
})

test('only addresses where a peer was dialled, or that it claims on its own host, are named to others', () => {
  const book = new Book()
  const elsewhere = '/ip4/8.8.8.8/tcp/9000/ws'
  book.addVerified(E, { addresses: [at(1), elsewhere], host: HOST })
  assert.deepEqual(book.contacts(8, []), [{ id: E, addresses: [at(1)] }])
  book.addVerified(E, { proven: [elsewhere], host: HOST })
  assert.deepEqual(book.contacts(8, []), [{ id: E, addresses: [elsewhere, at(1)] }])
  book.addVerified(F, { addresses: [elsewhere], host: HOST })
  assert.deepEqual(book.contacts(8, []).map(({ id }) => id), [E])
})

test('contacts and hints have one budget', () => {
  const contacts = Array.from({ length: 100 }, (_, i) => ({ id: `peer ${i}`, addresses: [at(i)] }))
  const state = node({ inbound: [E] })
  state.request(0, E, { kind: 'cancel', nonce: NONCE, keep: true, contacts })
  const dials = []
  for (let now = 0; now < SAME_ADDRESS_MS; now += 100) {
    for (const effect of state.tick(now).filter(effect => effect.do === 'dial')) {
      dials.push(...effect.addresses)
      state.dialFailed(now, effect.to, 'unreachable')
    }
  }
  assert(dials.length > DIALS && dials.length <= DIALS + 12, `${dials.length}`)
  assert.equal(new Set(dials).size, dials.length)
  assert.equal(state.request(SAME_ADDRESS_MS - 50, E, redirect(Role.DIAL, C, [dials.at(-1)])).response.refusal, Refusal.TOO_MANY)
})

test('of one host two addresses are dialled in a minute, of this machine any number', () => {
  const host = port => `/ip4/8.8.8.8/tcp/${port}/ws`
  const budget = new DialBudget(0)
  assert.deepEqual(budget.grant(0, [1, 2, 3].map(n => host(9000 + n))), [host(9001), host(9002)])
  assert.deepEqual(budget.grant(SAME_ADDRESS_MS, [host(9003)]), [host(9003)])
  const site = n => `/ip6/2606:4700:1:2::${n}/tcp/9000/ws`
  assert.equal(new DialBudget(0).grant(0, [1, 2, 3].map(site)).length, 2)
  assert.equal(new DialBudget(0).grant(0, [1, 2, 3].map(at)).length, 3)
})

test('where a peer was dialled before, no budget counts', () => {
  const state = node()
  for (let now = 0; now < 100; now++) {
    state.up(now, { id: C, scope: LOOPBACK, host: HOST, dialled: true, address: at(7) })
    state.down(now, C)
  }
  assert.equal(state.request(0, E, redirect(Role.DIAL, C, [at(7)])).response.ok, false)
  up(state, 200, E, false)
  assert.equal(state.request(200, E, redirect(Role.DIAL, C, [at(7)])).response.refusal, Refusal.NONE)
})

test('an address has one form', () => {
  const named = (address, peer = E) => scopeOf(multiaddr(address), peerIdFromString(peer).toMultihash().bytes)
  for (const [address, scope] of [
    ['/ip4/8.8.8.8/tcp/9000/ws', PUBLIC], ['/ip4/8.8.8.8/tcp/443/wss', PUBLIC], ['/ip4/8.8.8.8/tcp/80/tls/ws', PUBLIC],
    [`/ip4/8.8.8.8/tcp/9000/ws/p2p/${E}`, PUBLIC], [`/ip4/8.8.8.8/tcp/9000/ws/p2p/${F}`, undefined],
    ['/ip4/8.8.8.8/tcp/1023/ws', undefined], ['/ip4/8.8.8.8/tcp/0/ws', undefined], ['/dns4/example.org/tcp/9000/ws', undefined],
    ['/ip6/2606:4700::1/tcp/9000/tls/sni/example.org/ws', undefined], ['/ip4/8.8.8.8/tcp/9000', undefined],
    ['/ip4/8.8.8.8/tcp/9000/ws/ws', undefined], ['/ip4/8.8.8.8/tcp/9000/ws/p2p-circuit', undefined],
    ['/ip6/64:ff9b::8.8.8.8/tcp/9000/ws', PUBLIC], ['/ip6/64:ff9b::10.0.0.1/tcp/9000/ws', undefined],
    ['/ip6/2606:4700::5efe:808:808/tcp/9000/ws', undefined], ['/ip6/fe80::1/tcp/9000/ws', undefined], ['/ip6/::10.0.0.1/tcp/9000/ws', undefined]
  ]) assert.equal(named(address), scope, address)
  assert.equal(scopeOfLink(multiaddr('/dns4/example.org/tcp/1/ws')), PUBLIC)
  assert.equal(scopeOfLink(multiaddr('/ip4/127.0.0.1/tcp/50000')), LOOPBACK)
  assert.equal(scopeOfLink(multiaddr('/ip6/fe80::1/tcp/50000')), PRIVATE)
})

test('only addresses that a link may name are read from it, and sent over it', () => {
  const all = ['/ip4/127.0.0.1/tcp/9001/ws', '/ip4/10.0.0.1/tcp/9001/ws', '/ip4/8.8.8.8/tcp/9001/ws', '/dns4/example.org/tcp/9001/ws']
  const bytes = all.map(address => multiaddr(address).bytes)
  assert.deepEqual(readAddresses(bytes, LOOPBACK), all.slice(0, 2), 'two count')
  assert.deepEqual(readAddresses(bytes.slice(1), PRIVATE), all.slice(1, 3))
  assert.deepEqual(readAddresses(bytes.slice(1), PUBLIC), all.slice(2, 3))
  assert.deepEqual(writeAddresses(all.toReversed(), PRIVATE).map(bytes => multiaddr(bytes).toString()), all.slice(1, 3), 'its own scope first')
  const junk = [new Uint8Array([0xff]), new Uint8Array(200)]
  assert.deepEqual(readAddresses([...junk, ...Array(6).fill(bytes[2])], PUBLIC).length, 2)
})

test('messages arrive as sent, and a redirect to nobody is a violation', () => {
  const contacts = [{ id: F, addresses: [at(3)] }]
  for (const [kind, message] of [
    ['shuffle', { offered: contacts }],
    ['join', { nonce: 2n ** 64n - 1n, need: 2, links: [F], dialable: true, addresses: [at(1)] }],
    ['redirect', { nonce: 1n, role: Role.EXPECT, to: contacts[0] }],
    ['attach', { nonce: 0n }],
    ['cancel', { nonce: 3n, keep: true, contacts }],
    ['proposeHandover', { pair: false }]
  ]) assert.deepEqual(decodeRequest(encodeRequest(kind, message, LOOPBACK), LOOPBACK, E), { kind, ...message })
  const redirected = { refusal: Refusal.TOO_MANY, addresses: [] }
  assert.deepEqual(decodeResponse(encodeResponse('redirected', redirected, LOOPBACK), LOOPBACK, E), { kind: 'redirected', ...redirected })
  assert.throws(() => decodeRequest(Uint8Array.of(0x1a, 0), LOOPBACK), Violation)
  assert.throws(() => decodeRequest(Uint8Array.of(0x7a, 0), LOOPBACK), /no known kind/)
})
