// The published vectors, checked in a page: the tests are those of ../js, the file Node runs.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { launchBrowser } from '../chromium.js'
import { serveSite } from '../site.js'

const LIMIT_MS = 120_000
const VECTORS = join(import.meta.dirname, '../../../../proto/vectors')

let site
let browser

before(async () => {
  site = await serveSite()
  browser = await launchBrowser()
})
after(async () => {
  await browser?.close()
  site?.close()
})

/** Returns the results of the tests in a page; `alter` may alter files of vectors on their way there. */
async function runInPage (alter = {}) {
  const page = await browser.newPage()
  try {
    const broken = []
    page.on('pageerror', error => broken.push(error))
    for (const [name, change] of Object.entries(alter)) {
      const vectors = JSON.parse(readFileSync(join(VECTORS, name)))
      change(vectors)
      await page.route(`**/vectors/${name}`, route => route.fulfill({ json: vectors }))
    }
    await page.goto(`${site.url}vectors.html`)
    assert.deepEqual(broken, [])
    return await page.evaluate(() => window.runTests())
  } finally {
    await page.close()
  }
}

test('every published vector holds in a browser', { timeout: LIMIT_MS }, async t => {
  const results = await runInPage()
  assert(results.length >= 10, `only ${results.length} tests ran`)
  for (const { name, reason } of results) await t.test(name, () => assert.equal(reason, undefined, reason))
})

const flip = hex => (parseInt(hex[0], 16) ^ 1).toString(16) + hex.slice(1)

test('a page that is given wrong vectors says which', { timeout: LIMIT_MS }, async () => {
  const results = await runInPage({
    'identity.json' ({ signatures }) {
      signatures.find(s => !s.valid).valid = true
    },
    'handshake.json' ({ handshakes: [{ rounds: [round] }] }) {
      round.answer = round.answer.slice(0, -1) + flip(round.answer.slice(-1))
    },
    'batch.json' ({ batches, accepted, refused }) {
      batches[0].id = flip(batches[0].id)
      const { room, now_ms, envelope } = accepted[0]
      Object.assign(refused[0], { room, now_ms, envelope })
    }
  })
  const failed = results.filter(({ reason }) => reason !== undefined).map(({ name }) => name)
  const expected = [/strict rules/, /open network: both roles/, /flipped bit/, /a batch has the published bytes/, /contract refuses/]
  assert.equal(failed.length, expected.length, failed.join('; '))
  for (const [i, pattern] of expected.entries()) assert.match(failed[i], pattern)
})
