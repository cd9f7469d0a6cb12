// Peers as processes: started, spoken to and listened to in JSON lines, whatever language they are written in.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const here = import.meta.dirname

/** Every line must be as the contract says: `proto/output.schema.json`. */
const { Ajv2020 } = createRequire(join(here, 'js/'))('ajv/dist/2020.js')
const schema = JSON.parse(readFileSync(join(here, '../../proto/output.schema.json')))
const isLine = new Ajv2020({ strict: false }).compile(schema)

/** What is started for each language, and how it is told which identity to have. */
const LANGUAGES = {
  rust: {
    command: [process.env.DIATRIBE_BIN, 'node', '--json', '--exempt-loopback'],
    identity: folder => ['--data-dir', folder]
  },
  js: {
    command: [process.execPath, join(here, 'js/peer.js'), '--json'],
    identity: (folder, seed) => ['--seed', seed]
  }
}

/** How long a peer may take to say something, unless a cell says otherwise. */
const PATIENCE_MS = 10_000

const running = new Set()
const scratch = mkdtempSync(join(tmpdir(), 'diatribe-interop-'))
process.on('exit', () => {
  for (const peer of running) peer.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})

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

  /** @param options { listen, dial, room, networkKey, self } */
  static start (language, { listen, dial, room = 'lobby', networkKey, self = new Self() } = {}) {
    const { command, identity } = LANGUAGES[language]
    const options = [...command.slice(1), '--room', room, ...identity(self.folder, self.seed)]
    // A node that was not told where to listen listens on port 9000: here it is to be alone.
    if (listen !== undefined || language === 'rust') options.push('--listen', listen ?? '/ip4/127.0.0.1/tcp/0/ws')
    if (dial !== undefined) options.push('--dial', dial)
    if (networkKey !== undefined) options.push('--network-key', networkKey)
    return Object.assign(Peer.spawn(language, command[0], options), { language })
  }

  /** Anything that prints JSON lines. */
  static spawn (name, program, options) {
    const peer = new Peer()
    peer.name = name
    peer.process = spawn(program, options, { stdio: ['pipe', 'pipe', 'pipe'] })
    running.add(peer)
    peer.ended = new Promise(resolve => peer.process.on('close', code => {
      running.delete(peer)
      peer.code = code
      for (const watcher of peer.#watchers) watcher()
      resolve(code)
    }))
    peer.process.on('error', error => { peer.stderr += error })
    peer.process.stdin.on('error', () => {})
    peer.process.stderr.on('data', data => { peer.stderr = (peer.stderr + data).slice(-4000) })
    createInterface({ input: peer.process.stdout }).on('line', line => {
      peer.lines.push(parse(line))
      for (const watcher of peer.#watchers) watcher()
    })
    return peer
  }

  of (type) {
    return this.lines.filter(line => line.type === type)
  }

  /** Waits until `count` lines of `type` that `holds` for have come since line `from`, and yields them. */
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
    const [{ addresses }] = await this.until('online')
    return addresses[0]
  }

  async id () {
    const [{ peer_id: id }] = await this.until('online')
    return id
  }

  say (...events) {
    this.process.stdin.write(events.map(event => JSON.stringify(event) + '\n').join(''))
  }

  /** Whether all it said is as the contract says. */
  checkLines () {
    // A process that is killed may leave half a line.
    const whole = this.lines.filter((line, i) => line.type !== 'no JSON' || i < this.lines.length - 1)
    for (const line of whole) {
      assert(isLine(line), `${this.name}: ${brief(line)}: ${isLine.errors?.map(e => `${e.instancePath} ${e.message}`).join('; ')}`)
    }
  }

  kill (signal = 'SIGTERM') {
    this.process.kill(signal)
    return this.ended
  }
}

function parse (line) {
  try { return JSON.parse(line) } catch { return { type: 'no JSON', line } }
}

function brief (line) {
  return JSON.stringify(line, (key, value) => typeof value === 'string' && value.length > 120 ? `${value.slice(0, 120)}…` : value)
}

/** Runs `body` with a way to start peers, and ends them all afterwards. */
export async function withPeers (body) {
  const started = []
  const track = start => (...given) => {
    const peer = start(...given)
    started.push(peer)
    return peer
  }
  try {
    await body({ start: track(Peer.start), spawn: track(Peer.spawn) })
    for (const peer of started.filter(peer => peer.language !== undefined)) peer.checkLines()
  } finally {
    await Promise.all(started.map(peer => peer.kill('SIGKILL')))
  }
}
