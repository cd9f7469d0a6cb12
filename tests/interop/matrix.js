// The matrix: each language as dialer and as listener against the program, cell by cell.
//
// The rule it keeps: a cell that did not run is never counted as passed, and fails the run.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { start as startJs } from './js/peer.js'
import { Self, withPeers } from './peers.js'

const { multiaddr } = await import(createRequire(join(import.meta.dirname, 'js/')).resolve('@multiformats/multiaddr'))

const LIMIT = 1024 * 1024
const FRESH_LINKS = 10
const MESSAGES = 20

const here = import.meta.dirname
const scratch = mkdtempSync(join(tmpdir(), 'diatribe-matrix-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))

const LISTEN = { ip4: '/ip4/127.0.0.1/tcp/0/ws', ip6: '/ip6/::1/tcp/0/ws' }

/** Starts a pair and waits for the link; `[dialer, listener]`. */
async function link ({ start }, dialer, listener, { version = 'ip4', ...options } = {}) {
  const l = start(listener, { listen: LISTEN[version], ...options })
  const d = start(dialer, { dial: await l.address(), ...options })
  await Promise.all([l.until('link_up'), d.until('link_up')])
  return [d, l]
}

const texts = (peer, author) => peer.of('message').filter(m => m.author === author).map(m => m.text)
const base64 = size => randomBytes(size).toString('base64')
const isSorted = numbers => numbers.every((n, i) => i === 0 || numbers[i - 1] < n)

/** What is shown in each cell, for a dialer and a listener of two languages. */
const CELLS = {
  'both rounds pass over ip4': passes('ip4'),
  'both rounds pass over ip6': passes('ip6'),

  async 'messages both ways right after the link, 20 of 20, in 10 fresh links' (dialer, listener) {
    await withPeers(async ({ start }) => {
      const l = start(listener, { listen: LISTEN.ip4 })
      const dial = await l.address()
      for (let round = 0; round < FRESH_LINKS; round++) {
        const d = start(dialer, { dial })
        const from = l.lines.length
        const mine = Array.from({ length: MESSAGES }, (_, i) => `d ${round}.${i}`)
        const theirs = Array.from({ length: MESSAGES }, (_, i) => `l ${round}.${i}`)
        const say = async (peer, words, options) => {
          await peer.until('link_up', options)
          peer.say(...words.map(text => ({ text })))
        }
        await Promise.all([say(d, mine), say(l, theirs, { from })])
        await l.until('message', { count: MESSAGES, from })
        await d.until('message', { count: MESSAGES })
        assert.deepEqual(texts(l, await d.id()), mine)
        assert.deepEqual(texts(d, await l.id()), theirs)
        await d.kill()
        await l.until('link_down', { from })
      }
      assert.equal(l.of('error').length, 0)
    })
  },

  async 'equal batch ids and numbers on both sides' (dialer, listener) {
    await withPeers(async peers => {
      const pair = await link(peers, dialer, listener)
      for (const [from, to] of [pair, pair.toReversed()]) {
        const words = Array.from({ length: 50 }, (_, i) => ({ text: `${i}`, name: i % 2 ? 'odd' : 'even' }))
        from.say(...words)
        const sent = await from.until('sent', { count: 50 })
        const heard = (await to.until('message', { count: 50 })).slice(-50)
        const key = ({ id, seq }) => `${id} ${seq}`
        assert.deepEqual(heard.map(key), sent.map(key))
        assert.deepEqual(sent.map(s => s.seq), Array.from({ length: 50 }, (_, i) => i + 1))
        assert.deepEqual(heard.map(m => [m.text, m.name]), words.map(w => [w.text, w.name]))
        assert(sent.every(s => /^[0-9a-f]{64}$/.test(s.id) && s.links === 1))
      }
    })
  },

  async 'a wrong network key is named on both sides' (dialer, listener) {
    const [a, b] = ['a', 'b'].map(name => {
      const file = join(scratch, `network-${name}`)
      writeFileSync(file, randomBytes(32).toString('hex') + '\n', { mode: 0o600 })
      return file
    })
    for (const [dialersKey, listenersKey] of [[a, b], [a, undefined], [undefined, b]]) {
      await withPeers(async ({ start }) => {
        const l = start(listener, { listen: LISTEN.ip4, networkKey: listenersKey })
        const d = start(dialer, { dial: await l.address(), networkKey: dialersKey })
        const refused = await Promise.all([d.until('refused'), l.until('refused')])
        for (const [{ code, stage, reason }] of refused) {
          assert.deepEqual([code, stage], ['NETWORK', 'handshake_1'])
          assert.match(reason, /network keys differ/)
        }
        assert.equal(d.of('link_up').length + l.of('link_up').length, 0)
      })
    }
    await withPeers(peers => link(peers, dialer, listener, { networkKey: a }))
  },

  async 'the program refuses a tampered signature, body or author' (dialer, listener) {
    for (const flip of ['signature', 'body', 'author']) {
      await withPeers(async ({ start, spawn }) => {
        const tamper = (...where) => spawn('tamper', process.execPath, [join(here, 'js/tamper.js'), '--room', 'lobby', '--flip', flip, ...where])
        // The program is the victim, at whichever end of the connection it is.
        const [victim, offender] = listener === 'rust'
          ? await startPair(start(listener, { listen: LISTEN.ip4 }), dial => tamper('--dial', dial))
          : (await startPair(tamper('--listen', LISTEN.ip4), dial => start(dialer, { dial }))).toReversed()
        await offender.until('sent')
        const [{ code, stage }] = await victim.until('refused', { holds: line => line.code === 'INVALID_BATCH' })
        assert.deepEqual([code, stage], ['INVALID_BATCH', 'link'])
        await victim.until('link_down')
        assert.equal(victim.of('message').length, 0)
      })
    }
  },

  async 'an event of the limit −1, of the limit, and +1 byte, and the link survives' (dialer, listener) {
    await withPeers(async peers => {
      const pair = await link(peers, dialer, listener)
      for (const [from, to] of [pair, pair.toReversed()]) {
        const fit = [LIMIT - 1, LIMIT].map(base64)
        from.say(...fit.map(data => ({ data })), { data: base64(LIMIT + 1) }, { text: 'after' })
        const [{ reason }] = await from.until('error')
        assert.match(reason, /1048576/)
        await to.until('message', { holds: m => m.text === 'after' && m.author !== undefined })
        const heard = to.of('message').slice(-3)
        assert.deepEqual(heard.slice(0, 2).map(m => m.data), fit)
      }
      for (const peer of pair) assert.equal(peer.of('link_down').length, 0)
    })
  },

  async '200 events of 50,000 bytes back to back, each way' (dialer, listener) {
    await withPeers(async peers => {
      const pair = await link(peers, dialer, listener)
      for (const [from, to] of [pair, pair.toReversed()]) {
        const data = Array.from({ length: 200 }, () => base64(50_000))
        const before = to.lines.length
        from.say(...data.map(data => ({ data })))
        const heard = await to.until('message', { count: 200, from: before, within: 30_000 })
        assert.deepEqual(heard.map(m => m.data), data)
        assert(isSorted(heard.map(m => m.seq)))
      }
      for (const peer of pair) assert.equal(peer.of('link_down').length + peer.of('error').length, 0)
    })
  },

  async 'the dialer comes back to a listener that was started again' (dialer, listener) {
    await withPeers(async ({ start }) => {
      const self = new Self()
      const first = start(listener, { listen: LISTEN.ip4, self })
      const address = await first.address()
      const d = start(dialer, { dial: address })
      await d.until('link_up')
      await first.kill()
      await d.until('link_down')
      const second = start(listener, { listen: address.replace(/\/p2p\/.*/, ''), self })
      assert.equal(await second.id(), await first.id())
      await Promise.all([d.until('link_up', { count: 2, within: 20_000 }), second.until('link_up', { within: 20_000 })])
      d.say({ text: 'again' })
      second.say({ text: 'indeed' })
      await second.until('message', { holds: m => m.text === 'again' })
      await d.until('message', { holds: m => m.text === 'indeed' })
    })
  },

  async 'both dial at once: one link, nothing lost, nothing twice' (one, other) {
    await withPeers(async ({ start }) => {
      const [p, q] = (await freePorts(2)).map(port => `/ip4/127.0.0.1/tcp/${port}/ws`)
      const pair = [start(one, { listen: p, dial: q }), start(other, { listen: q, dial: p })]
      await Promise.all(pair.map(peer => peer.until('link_up')))
      const words = tag => Array.from({ length: MESSAGES }, (_, i) => ({ text: `${tag}.${i}` }))
      // Right away, while a second connection may come up, and after it was closed.
      const parts = ['at once', 'soon', 'later']
      for (const [i, part] of parts.entries()) {
        for (const peer of pair) peer.say(...words(part))
        await Promise.all(pair.map(peer => peer.until('message', { count: MESSAGES * (i + 1) })))
        await sleep(1_500)
      }
      const all = parts.flatMap(words).map(w => w.text)
      for (const peer of pair) {
        assert.deepEqual(peer.of('message').map(m => m.text), all)
        assert.deepEqual([peer.of('link_up').length, peer.of('link_down').length], [1, 0])
      }
    })
  },

  async 'the same identity a second time is refused by name, and the first stays' (dialer, listener) {
    await withPeers(async ({ start }) => {
      const self = new Self()
      const l = start(listener, { listen: LISTEN.ip4 })
      const dial = await l.address()
      const first = start(dialer, { dial, self })
      await Promise.all([first.until('link_up'), l.until('link_up')])
      const second = start(dialer, { dial, self: self.twin() })
      for (const peer of [second, l]) {
        const [{ code }] = await peer.until('refused')
        assert.equal(code, 'DUPLICATE_IDENTITY')
      }
      first.say({ text: 'still here' })
      await l.until('message', { holds: m => m.text === 'still here' })
      assert.equal(l.of('link_down').length, 0)
    })
  },

  async 'a dialer that was killed and started again is linked again' (dialer, listener) {
    await withPeers(async ({ start }) => {
      const self = new Self()
      const l = start(listener, { listen: LISTEN.ip4 })
      const dial = await l.address()
      const first = start(dialer, { dial, self })
      await Promise.all([first.until('link_up'), l.until('link_up')])
      await first.kill('SIGKILL')
      await l.until('link_down')
      const second = start(dialer, { dial, self })
      await Promise.all([second.until('link_up'), l.until('link_up', { count: 2 })])
      second.say({ text: 'again' })
      const [{ seq }] = await l.until('message', { holds: m => m.text === 'again' })
      assert.equal(seq, 1, 'another process numbers its events anew')
    })
  }
}

function passes (version) {
  return async (dialer, listener) => {
    await withPeers(async peers => {
      const [d, l] = await link(peers, dialer, listener, { version })
      const [[up], [down]] = [d.of('link_up'), l.of('link_up')]
      assert.deepEqual([up.peer_id, up.direction, up.links], [await l.id(), 'dialer', 1])
      assert.deepEqual([down.peer_id, down.direction, down.links], [await d.id(), 'listener', 1])
      assert.match(up.address, version === 'ip6' ? /^\/ip6\// : /^\/ip4\//)
    })
  }
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function freePorts (count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => resolve(server))
  })))
  const ports = servers.map(server => server.address().port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

async function startPair (listener, dial) {
  const dialer = dial(await listener.address())
  await Promise.all([listener.until('link_up'), dialer.until('link_up')])
  return [listener, dialer]
}

/** Three in a line. */
async function through (outer, inner) {
  await withPeers(async ({ start }) => {
    const middle = start(inner, { listen: LISTEN.ip4 })
    const dial = await middle.address()
    const [left, right] = [start(outer, { dial }), start(outer, { dial })]
    await middle.until('link_up', { count: 2 })
    await Promise.all([left.until('link_up'), right.until('link_up')])
    left.say(...Array.from({ length: MESSAGES }, (_, i) => ({ text: `${i}` })))
    const sent = await left.until('sent', { count: MESSAGES })
    const heard = await right.until('message', { count: MESSAGES })
    await sleep(300)
    assert.deepEqual(right.of('message').map(m => m.id), sent.map(s => s.id), 'each batch comes once')
    assert.equal(heard[0].author, await left.id())
  })
}

/** Two connections, dialled from both ends, while both sides go on talking. */
async function cross () {
  await withPeers(async ({ start }) => {
    const node = await startJs({ listen: [LISTEN.ip4] })
    const { diatribe } = node.services
    diatribe.join('lobby')
    const heard = []
    const links = []
    let connections = 0
    diatribe.addEventListener('message', ({ detail }) => heard.push(Buffer.from(detail.data).toString()))
    for (const type of ['link_up', 'link_down']) diatribe.addEventListener(type, () => links.push(type))
    try {
      const opened = new Promise(resolve => node.addEventListener('connection:open', resolve, { once: true }))
      const rust = start('rust', { dial: String(node.getMultiaddrs()[0]) })
      const address = multiaddr(await rust.address())
      await opened
      await diatribe.connect(address, { force: true })
      await rust.until('link_up')
      const words = []
      for (let i = 0; i < 200; i++) {
        words.push(`${i}`)
        rust.say({ text: `${i}` })
        await diatribe.broadcast('lobby', { data: Buffer.from(`${i}`) })
        connections = Math.max(connections, node.getConnections().length)
        await sleep(15)
      }
      await rust.until('message', { count: words.length })
      await sleep(300)
      assert.deepEqual([...rust.of('message').map(m => m.text)].sort(), [...words].sort())
      assert.deepEqual([...heard].sort(), [...words].sort())
      assert.deepEqual([links, rust.of('link_up').length, rust.of('link_down').length], [['link_up'], 1, 0])
      assert.deepEqual([connections, node.getConnections().length], [2, 1])
    } finally {
      await node.stop()
    }
  })
}

/** A peer in another language refuses what the program would never send. */
async function refusesTampered (language) {
  for (const flip of ['signature', 'body', 'author']) {
    await withPeers(async ({ start, spawn }) => {
      const victim = start(language, { listen: LISTEN.ip4 })
      spawn('tamper', process.execPath, [join(here, 'js/tamper.js'), '--room', 'lobby', '--flip', flip, '--dial', await victim.address()])
      await victim.until('refused', { holds: line => line.code === 'INVALID_BATCH' })
      assert.equal(victim.of('message').length, 0)
    })
  }
}

/** All cells to be run: `{ pair, what, run }`. */
function cells () {
  const pairs = [['js', 'rust'], ['rust', 'js']]
  const all = pairs.flatMap(([dialer, listener]) => Object.entries(CELLS).map(([what, run]) => ({
    pair: `${dialer} → ${listener}`,
    what,
    run: () => run(dialer, listener)
  })))
  return [
    ...all,
    { pair: 'js', what: 'a tampered signature, body or author is refused', run: () => refusesTampered('js') },
    { pair: 'js – rust – js', what: 'each message comes through once, with its id', run: () => through('js', 'rust') },
    { pair: 'rust – js – rust', what: 'each message comes through once, with its id', run: () => through('rust', 'js') },
    { pair: 'js ⇄ rust', what: 'of two connections that cross one stays, and nothing is lost', run: cross }
  ]
}

async function main () {
  const { values: { filter = '' } } = parseArgs({ options: { filter: { type: 'string' } } })
  const results = []
  for (const { pair, what, run } of cells()) {
    const result = { pair, what, passed: false, ran: false }
    results.push(result)
    if (!`${pair}: ${what}`.includes(filter)) continue
    result.ran = true
    const begin = performance.now()
    try {
      await run()
      result.passed = true
    } catch (error) {
      result.reason = error.message
    }
    result.seconds = Number(((performance.now() - begin) / 1000).toFixed(1))
    console.log(`${result.passed ? 'ok    ' : 'FAILED'} ${result.seconds.toFixed(1).padStart(5)} s  ${pair.padEnd(16)} ${what}`)
    if (!result.passed) console.log(`       ${result.reason}`)
  }
  writeFileSync(join(here, 'results.json'), JSON.stringify(results, null, 2) + '\n')
  // js-libp2p in this very process leaves timers behind.
  setImmediate(() => process.exit())
  const passed = results.filter(r => r.passed).length
  const missing = results.filter(r => !r.ran)
  for (const { pair, what } of missing) console.log(`NOT RUN        ${pair.padEnd(16)} ${what}`)
  console.log(`${passed} passed, ${results.length - passed} failed`)
  process.exitCode = passed === results.length ? 0 : 1
}

await main()
