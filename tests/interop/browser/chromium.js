// Chromium without a window: one of one's own, or one that several peers share.
//
// The rule it keeps: a page lives no longer than the process that opened it. A Chromium of one's own ends when the pipe
// to it does; a shared one closes the contexts of a client whose connection is gone.

import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'

/** Where a running browser is found, as `launchShared` yields it. */
const ENDPOINT = 'DIATRIBE_BROWSER_WS'

const CANDIDATES = [process.env.DIATRIBE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/**
 * playwright itself switches off that timers of pages in the background are slowed down to one a second, and their
 * processes are put back; this is the last of the kind, which slows them to one a minute.
 */
const FLAGS = ['--disable-features=IntensiveWakeUpThrottling']

function options () {
  const executablePath = CANDIDATES.find(path => path && existsSync(path))
  if (executablePath === undefined) throw new Error('there is no chromium: install it (apt-get install chromium), or name it in DIATRIBE_CHROMIUM')
  return {
    executablePath,
    args: FLAGS,
    headless: true,
    // Chromium's sandbox does not start as root.
    chromiumSandbox: process.getuid?.() !== 0,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false
  }
}

/** One Chromium for many peers: `{ endpoint, close }`. They find it when $DIATRIBE_BROWSER_WS is its endpoint. */
export async function launchShared () {
  const server = await chromium.launchServer({ ...options(), host: '127.0.0.1' })
  return { endpoint: server.wsEndpoint(), close: () => server.close() }
}

/** The browser that was named in the environment, or a new one. */
export function openBrowser () {
  const endpoint = process.env[ENDPOINT]
  return endpoint ? chromium.connect(endpoint) : chromium.launch(options())
}
