// How a page is started, driven and ended, with a peer in Node at the other end.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { start } from '../../js/peer.js'
import { launchBrowser } from '../chromium.js'
import { launchShared } from '../shared.js'
import { serveSite } from '../site.js'

const PROGRAM = join(import.meta.dirname, '../peer.js')
const PATIENCE_MS = 60_000
const timeout = 240_000

let node
let shared
const started = []

before(async () => {
  node = await start({ listen: ['/ip4/127.0.0.1/tcp/0/ws', '/ip6/::1/tcp/0/ws'] })
  node.services.diatribe.join('lobby')
  shared = await launchShared()
})
after(async () => {
  for (const { process } of started) process.kill('SIGKILL')
  await shared?.close()
  await node?.stop()
})

const [own, other] = [{}, { shared: true }]
const here = (version = 'ip4') => String(node.getMultiaddrs().find(address => String(address).startsWith(`/${version}/`)))

/** Resolves to the next event of the peer in Node that `holds` for. */
function next (type, holds = () => true) {
  const { diatribe } = node.services
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${type} within ${PATIENCE_MS} ms`)), PATIENCE_MS)
    diatribe.addEventListener(type, function listener ({ detail }) {
      if (!holds(detail)) return
      clearTimeout(timer)
      diatribe.removeEventListener(type, listener)
      resolve(detail)
    })
  })
}

/** The program; `line(type)` resolves to its next line of that type. */
function run (options, { shared: isShared, endpoint = isShared ? shared.endpoint : '' } = {}) {
  const env = { ...process.env, DIATRIBE_BROWSER: endpoint }
  const child = spawn(process.execPath, [PROGRAM, ...options], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const peer = { process: child, lines: [], stderr: '', waiting: new Set() }
  started.push(peer)
  child.stderr.on('data', data => { peer.stderr += data })
  createInterface({ input: child.stdout }).on('line', line => {
    peer.lines.push(JSON.parse(line))
    for (const look of peer.waiting) look()
  })
  peer.ended = new Promise(resolve => child.on('close', (code, signal) => resolve({ code, signal })))
  peer.line = type => Promise.race([
    new Promise(resolve => {
      const look = () => {
        const found = peer.lines.findIndex(line => line.type === type)
        if (found < 0) return
        peer.waiting.delete(look)
        resolve(peer.lines.splice(found, 1)[0])
      }
      peer.waiting.add(look)
      look()
    }),
    peer.ended.then(({ code }) => { throw new Error(`it ended with ${code}: ${peer.stderr}`) })
  ])
  peer.say = line => child.stdin.write(`${typeof line === 'string' ? line : JSON.stringify(line)}\n`)
  return peer
}

async function linked (options, where) {
  const up = next('link_up')
  const peer = run(['--json', ...options], where)
  await Promise.all([up, peer.line('link_up')])
  return peer
}

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

const bytes = text => new TextEncoder().encode(text)

for (const [name, where] of [['of its own', own], ['that is shared', other]]) {
  test(`in a browser ${name}: SIGTERM ends it within 2 s with 0, and its link`, { timeout }, async () => {
    const peer = await linked(['--dial', here()], where)
    const down = next('link_down')
    const begin = Date.now()
    peer.process.kill('SIGTERM')
    assert.deepEqual(await peer.ended, { code: 0, signal: null })
    assert(Date.now() - begin < 2_000, `it took ${Date.now() - begin} ms`)
    await down
  })

  test(`in a browser ${name}: a program that is killed takes its page along`, { timeout }, async () => {
    const peer = await linked(['--dial', here()], where)
    const down = next('link_down')
    const begin = Date.now()
    peer.process.kill('SIGKILL')
    await down
    assert(Date.now() - begin < 5_000, `it took ${Date.now() - begin} ms`)
  })
}

test('lines of input are answered in their order, and the end of input ends nothing', { timeout }, async () => {
  const peer = await linked(['--dial', here('ip6')], other)
  for (const line of [{ text: 'one' }, 'no JSON', 'null', { text: 'two', colour: 'red' }, { data: '***' }, { text: 'three', room: 'elsewhere' }]) peer.say(line)
  const heard = next('message', ({ data }) => Buffer.from(data).toString() === 'last')
  peer.process.stdin.end(JSON.stringify({ data: Buffer.from('last').toString('base64'), name: 'n' }) + '\n')
  assert.equal((await heard).name, 'n')
  const last = await (async () => {
    for (;;) {
      const sent = await peer.line('sent')
      if (sent.seq === 2) return sent
    }
  })()
  assert.equal(last.room, 'lobby')
  const reasons = peer.lines.filter(line => line.type === 'error').map(({ reason }) => reason)
  for (const [i, pattern] of [/JSON/, /object/, /colour/, /./, /not in the room elsewhere/].entries()) assert.match(reasons[i], pattern)
  assert.equal(reasons.length, 5)
  await node.services.diatribe.broadcast('lobby', { name: 'chat', data: bytes('still here?') })
  assert.equal((await peer.line('message')).text, 'still here?')
})

test('a seed gives the identity that it gives everywhere, and lists of peers are obeyed', { timeout }, async () => {
  const seed = '07'.repeat(32)
  const peer = run(['--seed', seed, '--deny', node.peerId.toString(), '--dial', here()], other)
  const twin = await start({ seed: Buffer.from(seed, 'hex') })
  assert.equal((await peer.line('online')).peer_id, twin.peerId.toString())
  assert.equal((await peer.line('refused')).code, 'POLICY')
  await twin.stop()
})

test('where nobody listens it says so once and goes on trying', { timeout }, async () => {
  const peer = run(['--dial', `/ip4/127.0.0.1/tcp/${await freePort()}/ws`, '--dial', here()], other)
  const { stage, code, reason } = await peer.line('refused')
  assert.deepEqual([stage, code], ['websocket', null])
  assert.match(reason, /a page is not told/)
  await peer.line('link_up')
})

for (const [what, options, pattern, code] of [
  ['to listen', ['--listen', '/ip4/127.0.0.1/tcp/0/ws'], /--listen: a browser cannot listen; .*--dial/, 2],
  ['an option it does not have', ['--colour'], /--colour/, 2],
  ['a seed that is none', ['--seed', '12'], /--seed: a seed is 64 hex digits/, 2],
  ['to have one link', ['--max-links', '1'], /--max-links: a number from 2/, 2],
  ['a network key that is not there', ['--network-key', '/nowhere/key'], /nowhere\/key/, 1],
  ['an address that is none', ['--dial', 'localhost:9000'], /localhost:9000 is no address.*\/ip4\//, 1],
  ['a room that may not be', ['--room', ' '], /room/, 1]
]) {
  test(`told ${what}, it refuses and says why`, { timeout }, async () => {
    const peer = run(options, other)
    assert.equal((await peer.ended).code, code)
    assert.match(peer.stderr, pattern)
    assert.equal(peer.lines.length, 0)
  })
}

test('a browser that is not there is named', { timeout }, async () => {
  const peer = run([], { endpoint: '/nowhere/socket' })
  assert.equal((await peer.ended).code, 1)
  assert.match(peer.stderr, /no browser at \/nowhere\/socket .*DIATRIBE_BROWSER/)
})

test('a person reads and writes, and data from peers is shown as text', { timeout }, async () => {
  const site = await serveSite()
  const browser = await launchBrowser()
  try {
    const page = await browser.newPage()
    const up = next('link_up')
    await page.goto(`${site.url}#room=lobby`)
    await page.fill('#address', here())
    await page.click('#dial button')
    const { peer_id: id } = await up
    await page.waitForFunction(id => document.getElementById('id').textContent === id, id)
    await page.waitForSelector('#links li')

    const heard = next('message', ({ author }) => author === id)
    await page.fill('#text', 'typed by hand')
    await page.press('#text', 'Enter')
    assert.equal(Buffer.from((await heard).data).toString(), 'typed by hand')

    const markup = '<img src=x onerror="document.title=1"><b>bold</b>'
    await node.services.diatribe.broadcast('lobby', { name: 'chat', data: bytes(markup) })
    await page.waitForFunction(text => [...document.querySelectorAll('#said li span')].some(e => e.textContent === text), markup)
    assert.equal(await page.locator('#said img').count(), 0)

    for (let i = 0; i < 600; i++) node.services.diatribe.broadcast('lobby', { name: 'chat', data: bytes(`line ${i}`) })
    await page.waitForFunction(() => document.getElementById('said').lastChild.textContent.endsWith('line 599'))
    assert.equal(await page.locator('#said li').count(), 500)

    await page.fill('#address', 'nonsense')
    await page.click('#dial button')
    await page.waitForFunction(() => document.getElementById('said').lastChild.textContent.startsWith('nonsense is no address'))
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT })
    const down = next('link_down', ({ peer_id }) => peer_id === id)
    await page.close()
    await down
  } finally {
    await browser.close()
    site.close()
  }
})
