// The shared program of all peers of a language, like one Chromium for all pages: started once, found through the environment.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { LANGUAGES } from './languages.js'

const START_MS = 60_000

/** Starts it; throws when it does not start. It ends with this process. */
export async function startShared (language) {
  const { command, word, variable } = LANGUAGES[language].shared
  const shared = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  process.on('exit', () => shared.kill('SIGTERM'))
  let stderr = ''
  shared.stderr.on('data', data => { stderr = (stderr + data).slice(-2000) })
  process.env[variable] = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${command.join(' ')} printed no "${word}" in ${START_MS} ms: ${stderr}`)), START_MS)
    createInterface({ input: shared.stdout }).on('line', line => {
      if (line.startsWith(`${word} `)) resolve(line.slice(word.length + 1))
    })
    shared.on('error', reject)
    shared.on('close', code => reject(new Error(`${command.join(' ')} ended with ${code}: ${stderr}`)))
    shared.on('close', () => clearTimeout(timer))
  })
  return shared
}
