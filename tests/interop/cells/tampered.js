// A peer that passes the handshake and then sends unsigned data: every language must refuse it, at either end
// of the connection.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { LANGUAGES, lacks } from '../languages.js'
import { withPeers } from '../peers.js'
import { LISTEN } from '../support.js'

export const title = 'A tampered envelope'

const TAMPER = join(import.meta.dirname, '../js/tamper.js')

export function cells () {
  return ['signature', 'body', 'author'].flatMap(flip => Object.keys(LANGUAGES).flatMap(victim => [
    { pair: `tamper → ${victim}`, absent: lacks(victim, ['listens']), run: () => isRefused(flip, victim, 'listens') },
    { pair: `${victim} → tamper`, run: () => isRefused(flip, victim, 'dials') }
  ].map(cell => ({ ...cell, what: `one bit of the ${flip} flipped: refused by name, the link ends`, needs: ['js'] }))))
}

async function isRefused (flip, language, role) {
  await withPeers(async ({ start, spawn }) => {
    const tamper = (...where) => spawn('tamper', process.execPath, [TAMPER, '--room', 'lobby', '--flip', flip, ...where])
    const [victim, offender] = role === 'listens'
      ? await startBoth(start(language, { listen: LISTEN.ip4 }), dial => tamper('--dial', dial))
      : (await startBoth(tamper('--listen', LISTEN.ip4), dial => start(language, { dial }))).toReversed()
    await offender.until('sent')
    const [{ stage, peer_id: who }] = await victim.until('refused', { holds: line => line.code === 'INVALID_BATCH' })
    assert.deepEqual([stage, who], ['link', await offender.id()])
    await victim.until('link_down')
    assert.deepEqual(victim.of('message'), [])
  })
}

async function startBoth (listener, dial) {
  const dialer = dial(await listener.address())
  await Promise.all([listener.until('link_up'), dialer.until('link_up')])
  return [listener, dialer]
}
