// The languages: how a peer of each is started, and what it can do.
//
// The rule it keeps: a missing ability of a language is listed here with its reason, and shown as – with that reason in
// the report; no cell is left out without a word.

import { join } from 'node:path'

const here = import.meta.dirname
const seeded = (folder, seed) => ['--seed', seed]

/**
 * Of each language
 *   command   a program that speaks JSON lines as chapter 13 of proto/README.md says
 *   identity  the options that give it the identity of a folder and a seed of 32 bytes in hex
 *   can       optional parts of the contract: true, or the reason why not
 *   test      the command for its own tests, in its folder; without it the script `test` there
 *   gentle    whether it should be ended by SIGTERM first, since it has more to end than itself
 *   shared    a program that all peers of the language share: it prints a line `WORD VALUE`, and the variable of the
 *             environment that each is to find the value in
 */
export const LANGUAGES = {
  rust: {
    command: [process.env.DIATRIBE_BIN, 'node', '--json', '--exempt-loopback'],
    identity: folder => ['--data-dir', folder],
    can: { listens: true, overlay: true, sync: true }
  },
  js: {
    command: [process.execPath, join(here, 'js/peer.js'), '--json'],
    identity: seeded,
    can: { listens: true, overlay: true, sync: true },
    test: [process.execPath, '--test', '--test-reporter=spec']
  },
  go: {
    command: [join(here, '.cache/go-peer'), '--json'],
    identity: seeded,
    can: { listens: true, overlay: true, sync: 'the peer in Go does no data checking, which is optional' }
  },
  py: {
    command: [join(here, '.cache/venv/bin/python'), join(here, 'py/peer.py'), '--json'],
    identity: seeded,
    can: {
      listens: true,
      overlay: 'the peer in Python has no overlay, which is optional',
      sync: 'the peer in Python does no data checking, which is optional'
    }
  },
  browser: {
    command: [process.execPath, join(here, 'browser/peer.js'), '--json'],
    identity: seeded,
    can: { listens: 'a page in a browser cannot listen', overlay: true, sync: true },
    gentle: true,
    shared: { command: [process.execPath, join(here, 'browser/serve.js'), '--browser'], word: 'browser', variable: 'DIATRIBE_BROWSER' }
  }
}

/** All but the program. */
export const PEERS = Object.keys(LANGUAGES).filter(name => name !== 'rust')

/** Why the language cannot do one of these things; undefined when it can. */
export function lacks (language, things) {
  return things.map(thing => LANGUAGES[language].can[thing]).find(can => can !== true)
}

/** The languages that are named in a pair like `js → rust`. */
export function named (pair) {
  return [...new Set(pair.split(/[^a-z]+/).filter(name => Object.hasOwn(LANGUAGES, name)))]
}
