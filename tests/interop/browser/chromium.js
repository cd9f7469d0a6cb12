// Headless Chromium: Debian's, or the one that $DIATRIBE_CHROMIUM names.

import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'

const CANDIDATES = [process.env.DIATRIBE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/**
 * Of what slows down pages in the background playwright itself switches off most; this is the last of it: timers that
 * fire once a minute.
 */
const FLAGS = ['--disable-features=IntensiveWakeUpThrottling']

/** A new browser. It ends with this process, however that ends: it is held by a pipe. */
export async function launchBrowser () {
  const executablePath = CANDIDATES.find(path => path && existsSync(path))
  if (executablePath === undefined) throw new Error('there is no chromium: run tests/interop/browser/install, or name one in DIATRIBE_CHROMIUM')
  return chromium.launch({
    executablePath,
    args: FLAGS,
    headless: true,
    // Chromium's own sandbox does not start as root.
    chromiumSandbox: process.getuid?.() !== 0,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false
  })
}
