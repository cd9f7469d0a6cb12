// One Chromium in which many peers are: each has a context and a page of its own.
//
// A peer is a connection to the socket `endpoint`, with a line of JSON for each message. In: `{ start: options }`, then
// `{ say: [line…] }`, and `{ stop: true }`. Out: `{ lines: text }`, or `{ fail: reason }`. The rule it keeps: a page lives
// no longer than its connection, and a connection no longer than its page.

import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { launchBrowser } from './chromium.js'
import { serveSite } from './site.js'

/** Number of spare pages that are kept ready: starting a renderer takes longest. */
const SPARES = 2

/** Launches it: `{ endpoint, url, close }`; `url` is that of the page, for a person. */
export async function launchShared ({ spares = SPARES, port } = {}) {
  const site = await serveSite({ port })
  const browser = await launchBrowser()
  const pages = new Pages(browser, site.url, spares)
  const folder = mkdtempSync(join(tmpdir(), 'diatribe-browser-'))
  const endpoint = join(folder, 'socket')
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const server = createServer(socket => attend(socket, pages))
  await new Promise((resolve, reject) => server.once('error', reject).listen(endpoint, resolve))
  const close = async () => {
    server.close()
    site.close()
    await browser.close()
  }
  browser.on('disconnected', close)
  return { endpoint, url: site.url, close }
}

/** Pages that were loaded and not started yet. */
class Pages {
  #browser
  #url
  #spare

  constructor (browser, url, spares) {
    this.#browser = browser
    this.#url = url
    this.#spare = Array.from({ length: spares }, () => this.#open())
  }

  async take () {
    const spare = this.#spare.shift()
    if (spare === undefined) return this.#open()
    this.#spare.push(this.#open())
    return spare
  }

  /** `{ page, end, onLines }`; `onLines` is for the taker to set. */
  #open () {
    const opened = (async () => {
      const context = await this.#browser.newContext()
      const own = { page: await context.newPage(), end: () => context.close().catch(() => {}) }
      await own.page.exposeFunction('tellRunner', lines => own.onLines?.(lines))
      await own.page.goto(this.#url)
      return own
    })()
    // A failed spare reports its failure to the peer that gets it.
    opened.catch(() => {})
    return opened
  }
}

/** One peer, from its connection to the end of its page. */
function attend (socket, pages) {
  const tell = message => { if (socket.writable) socket.write(JSON.stringify(message) + '\n') }
  const fail = error => {
    tell({ fail: error.message })
    socket.end()
  }
  const input = createInterface({ input: socket })
  // A program that was killed leaves a broken connection: `close` follows, which is all there is to know.
  for (const source of [socket, input]) source.on('error', () => {})
  const closed = new Promise(resolve => socket.on('close', resolve))

  const opened = pages.take().then(own => {
    closed.then(own.end)
    own.onLines = lines => tell({ lines })
    own.page.on('pageerror', error => tell({ log: `page: ${error.stack ?? error}` }))
    own.page.on('crash', () => fail(new Error('the page has crashed')))
    own.page.on('close', () => fail(new Error('the page was closed')))
    return own.page
  })
  let heard = opened.catch(fail)
  input.on('line', line => {
    const [[kind, value]] = Object.entries(JSON.parse(line))
    heard = heard.then(async () => socket.writable && HEAR[kind](await opened, value, socket)).catch(fail)
  })
}

/** The requests that a connection may send to its page. */
const HEAR = {
  start: (page, options) => page.evaluate(options => window.peer.start(options), options),
  say: (page, lines) => page.evaluate(lines => window.peer.say(lines), lines),
  async stop (page, _, socket) {
    // First the node, so that its peers see websockets that were closed, and not ones that broke.
    await page.evaluate(() => window.peer.stop())
    socket.end()
  }
}
