// Peers as processes: started, controlled by JSON lines, in any language.
//
//   await withPeers(async ({ start }) => {
//     const l = start('rust', { listen: '/ip4/127.0.0.1/tcp/0/ws' })
//     const d = start('js', { dial: await l.address() })
//     await d.until('link_up')
//   })
//
// The rules it keeps: every line of a peer is as `proto/output.schema.json` says, and no process outlives its cell.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { LANGUAGES } from './languages.js'

const { Ajv2020 } = createRequire(import.meta.url)('ajv/dist/2020.js')
const schema = JSON.parse(readFileSync(join(import.meta.dirname, '../../proto/output.schema.json')))
const isLine = new Ajv2020({ strict: false }).compile(schema)

/** How long a peer may take to say something, unless a cell says otherwise: much, since machines are loaded. */
const PATIENCE_MS = 60_000
/** How long a process may take to start: a page, or an interpreter that has much to read. */
const START_MS = 120_000
/** How long a peer with processes of its own has to end them. */
const GENTLE_MS = 5_000
/** Maximum part of a peer's output that is printed when a cell has failed. */
const LAST_LINES = 3
const LAST_CHARS = 300

const running = new Set()

/** For the files of this run; gone after it. */
export const scratch = mkdtempSync(join(tmpdir(), 'diatribe-interop-'))
process.on('exit', () => {
  for (const peer of running) peer.process.kill(peer.gentle ? 'SIGTERM' : 'SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})

/** Which cell is being run: `{ peers }`, those that it has started. */
export const currentCell = new AsyncLocalStorage()

/** An identity that outlives a process. */
export class Self {
  constructor () {
    this.seed = randomBytes(32).toString('hex')
    this.folder = join(scratch, this.seed.slice(0, 16))
  }

  /** The same identity, to be run a second time. */
  twin () {
    const twin = new Self()
    twin.seed = this.seed
    if (existsSync(this.folder)) cpSync(this.folder, twin.folder, { recursive: true, filter: file => !file.endsWith('/lock') })
    return twin
  }
}

export class Peer {
  lines = []
  stderr = ''
  #watchers = new Set()

  /** @param options { listen, dial, room, trust, deny: one or a list; networkKey; self; args: further ones } */
  static start (language, { listen, dial, room = 'lobby', trust, deny, networkKey, self = new Self(), args = [] } = {}) {
    const { command, identity, gentle = false } = LANGUAGES[language]
    // Without --listen a node listens on port 9000: here it must not.
    if (language === 'rust') listen ??= '/ip4/127.0.0.1/tcp/0/ws'
    const lists = { room, listen, dial, trust, deny, 'network-key': networkKey }
    const options = Object.entries(lists).flatMap(([name, values]) => [values ?? []].flat().flatMap(value => [`--${name}`, value]))
    const all = [...command.slice(1), ...identity(self.folder, self.seed), ...options, ...args]
    return Object.assign(Peer.spawn(language, command[0], all), { language, gentle })
  }

  /** Anything that prints JSON lines. */
  static spawn (name, program, options) {
    const peer = new Peer()
    peer.name = name
    peer.process = spawn(program, options, { stdio: ['pipe', 'pipe', 'pipe'] })
    running.add(peer)
    peer.ended = new Promise(resolve => {
      const end = code => {
        running.delete(peer)
        peer.code ??= code
        for (const watcher of peer.#watchers) watcher()
        resolve(peer.code)
      }
      peer.process.on('close', (code, signal) => end(code ?? signal))
      peer.process.on('error', error => {
        peer.stderr += error.message
        if (peer.process.pid === undefined) end('no process')
      })
    })
    peer.process.stdin.on('error', () => {})
    peer.process.stderr.on('data', data => { peer.stderr = (peer.stderr + data).slice(-20_000) })
    createInterface({ input: peer.process.stdout }).on('line', line => {
      peer.lines.push(parse(line))
      for (const watcher of peer.#watchers) watcher()
    })
    return peer
  }

  of (type) {
    return this.lines.filter(line => line.type === type)
  }

  /** Waits for `count` lines of `type` since line `from` that satisfy `holds`, and returns them. */
  async until (type, { count = 1, holds = () => true, from = 0, within = PATIENCE_MS } = {}) {
    const found = () => this.lines.slice(from).filter(line => line.type === type && holds(line))
    return new Promise((resolve, reject) => {
      const stop = (settle, value) => {
        clearTimeout(timer)
        this.#watchers.delete(check)
        settle(value)
      }
      const missing = why => new Error(`${this.name} ${why}: ${found().length} of ${count} ${type}; its last lines: ` +
        `${this.lines.slice(-4).map(brief).join(' ')} ${this.stderr.slice(-300)}`)
      const check = () => {
        if (found().length >= count) stop(resolve, found())
        else if (this.code !== undefined) stop(reject, missing(`ended with ${this.code}`))
      }
      const timer = setTimeout(() => stop(reject, missing(`said too little in ${within} ms`)), within)
      this.#watchers.add(check)
      check()
    })
  }

  /** Where it listens. */
  async address () {
    const [{ addresses }] = await this.until('online', { within: START_MS })
    assert(addresses.length > 0, `${this.name} listens nowhere`)
    return addresses[0]
  }

  async id () {
    const [{ peer_id: id }] = await this.until('online', { within: START_MS })
    return id
  }

  say (...events) {
    this.process.stdin.write(events.map(event => JSON.stringify(event) + '\n').join(''))
  }

  /** Checks whether all its output keeps the contract. */
  checkLines () {
    // A process that is killed may leave half a line.
    const whole = this.lines.filter((line, i) => line.type !== 'no JSON' || i < this.lines.length - 1)
    for (const line of whole) {
      assert(isLine(line), `${this.name}: ${brief(line)}: ${isLine.errors?.map(e => `${e.instancePath} ${e.message}`).join('; ')}`)
    }
  }

  /** Returns all its output, for people. */
  transcript () {
    return `== ${this.name}: ${this.process.spawnargs.join(' ')}\n${this.lines.map(brief).join('\n')}\n-- stderr\n${this.stderr}\n`
  }

  /** Returns the last lines of its output. */
  lastWords () {
    const lines = this.lines.slice(-LAST_LINES).map(line => brief(line).slice(0, LAST_CHARS))
    return [`${this.name}, of ${this.lines.length} lines and ${this.stderr.length} characters of stderr:`, ...lines, this.stderr.slice(-LAST_CHARS)]
      .filter(text => text !== '').join('\n    ').trimEnd()
  }

  kill (signal = 'SIGTERM') {
    this.process.kill(signal)
    return this.ended
  }

  /** Kills it. */
  async end () {
    const timer = this.gentle && setTimeout(() => this.process.kill('SIGKILL'), GENTLE_MS)
    await this.kill(this.gentle ? 'SIGTERM' : 'SIGKILL')
    clearTimeout(timer)
  }
}

function parse (line) {
  try { return JSON.parse(line) } catch { return { type: 'no JSON', line } }
}

function brief (line) {
  return JSON.stringify(line, (key, value) => typeof value === 'string' && value.length > 300 ? `${value.slice(0, 120)}…` : value)
}

/** Runs `body` with a way to start peers, and ends them all afterwards. */
export async function withPeers (body) {
  const started = []
  const track = start => (...given) => {
    const cell = currentCell.getStore()
    if (cell?.isOver) throw new Error('this cell is over')
    const peer = start(...given)
    started.push(peer)
    cell?.peers.push(peer)
    return peer
  }
  try {
    await body({ start: track(Peer.start), spawn: track(Peer.spawn) })
    for (const peer of started.filter(peer => peer.language !== undefined)) peer.checkLines()
  } finally {
    await Promise.all(started.map(peer => peer.end()))
  }
}
