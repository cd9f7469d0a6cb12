// The tests of each language: the published vectors and its other promises. They run before all other cells.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { LANGUAGES, PEERS } from '../languages.js'

export const title = 'Tests of its own'

const NODE_TEST = [process.execPath, '--test', '--test-reporter=spec']

export function cells () {
  const here = join(import.meta.dirname, '..')
  const tests = { first: true, within: 900 }
  return [
    { pair: 'matrix', what: 'counts nothing as passed that has not run', ...tests, run: cell => passes(here, [...NODE_TEST, 'test/*.test.js'], cell) },
    ...PEERS.map(language => ({
      pair: language,
      what: 'the published vectors, and its own promises',
      ...tests,
      run: cell => passes(join(here, language), LANGUAGES[language].test ?? [join(here, language, 'test')], cell)
    }))
  ]
}

async function passes (folder, [program, ...options], cell) {
  if (!existsSync(program)) throw new Error(`there is no ${program}`)
  // A group of its own, so that nothing which it starts outlives it.
  const test = spawn(program, options, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  cell.onOver(() => { try { process.kill(-test.pid, 'SIGKILL') } catch {} })
  let output = ''
  for (const stream of [test.stdout, test.stderr]) stream.on('data', data => { output += data })
  const code = await new Promise((resolve, reject) => test.on('error', reject).on('close', resolve))
  cell.log(output)
  if (code !== 0) throw new Error(`ended with ${code}:\n${output.trimEnd().split('\n').slice(-40).join('\n')}`)
}
