// The promise of the matrix itself: it counts nothing as passed without proof.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

const MATRIX = join(import.meta.dirname, '../matrix.js')
const PEERS = join(import.meta.dirname, '../peers.js')

const scratch = mkdtempSync(join(tmpdir(), 'diatribe-matrix-test-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

/** Runs the matrix over cells given as source: returns the exit code, the output and the status of each cell. */
function run (source, ...options) {
  const folder = mkdtempSync(join(scratch, 'cells-'))
  writeFileSync(join(folder, 'theme.js'), `
    const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
    export const title = 'Theme'
    export const cells = [${source}]`)
  const json = join(folder, 'results.json')
  const { status, stdout, stderr } = spawnSync(process.execPath, [MATRIX, '--cells', folder, '--json', json, '--jobs', '1', ...options], { encoding: 'utf8', timeout: 300_000 })
  const statuses = Object.fromEntries(JSON.parse(readFileSync(json)).cells.map(cell => [cell.what, cell.status]))
  return { status, output: stdout + stderr, statuses }
}

const OK = "{ pair: 'js → rust', what: 'good', run: async () => {} }"

test('all that was asked for has passed: 0', () => {
  const { status, statuses, output } = run(`${OK}, { pair: 'rust → browser', what: 'never', absent: 'it cannot', run () { throw new Error() } }`)
  assert.deepEqual([status, statuses], [0, { good: 'ok', never: '–' }])
  assert.match(output, /it cannot/)
  assert.match(output, /^1 passed, 0 failed$/m)
})

test('a cell that throws fails the run, and the rest is run', () => {
  const { status, statuses, output } = run(`{ pair: 'js → rust', what: 'bad', run: async () => { throw new Error('why it is') } }, ${OK}`)
  assert.deepEqual([status, statuses], [1, { bad: 'FAILED', good: 'ok' }])
  assert.match(output, /why it is/)
})

test('a cell of a missing language is NOT RUN and fails the run, with the reason', () => {
  const { status, statuses, output } = run(`${OK}, { pair: 'go → rust', what: 'of go', run: async () => {} }`, '--missing', 'go=no = compiler')
  assert.deepEqual([status, statuses], [1, { good: 'ok', 'of go': 'NOT RUN' }])
  assert.match(output, /go: no = compiler/)
  assert.match(output, /^1 passed, 1 failed$/m)
})

test('cells omitted by a filter are reported, and count as nothing', () => {
  const source = `${OK}, { pair: 'go → rust', what: 'other', run: async () => {} }`
  for (const options of [['--filter', 'goo'], ['--languages', 'js']]) {
    const { status, statuses, output } = run(source, ...options)
    assert.deepEqual([status, statuses], [0, { good: 'ok', other: 'left out' }])
    assert.match(output, /1 of 2 cells were left out/)
  }
  assert.equal(run(source, '--filter', 'nothing has this').status, 1)
})

test('a run that breaks off leaves the rest NOT RUN, whichever way it breaks', () => {
  for (const breaks of ['process.exit(0)', "setTimeout(() => { throw new Error('torn') }); await sleep(5_000)", "process.kill(process.pid, 'SIGTERM'); await sleep(5_000)", "process.kill(process.pid, 'SIGKILL')"]) {
    const { status, statuses } = run(`${OK}, { pair: 'js → rust', what: 'breaks', run: async () => { ${breaks} } }, { pair: 'js → rust', what: 'after', run: async () => {} }`)
    assert.notEqual(status, 0, breaks)
    assert.deepEqual(statuses, { good: 'ok', breaks: 'NOT RUN', after: 'NOT RUN' }, breaks)
  }
})

test('a promise that fails unheard fails the run, and the rest is run', () => {
  const { status, statuses, output } = run(`{ pair: 'js → rust', what: 'stray', run: async () => { Promise.reject(new Error('unheard')); await sleep(100) } }, ${OK}`)
  assert.deepEqual([status, statuses], [1, { stray: 'ok', good: 'ok', 'no promise fails unheard': 'FAILED' }])
  assert.match(output, /Error: unheard/)
})

test('a cell that hangs fails in its time, and its processes end', () => {
  const hang = `import(${JSON.stringify(PEERS)}).then(({ withPeers }) => withPeers(async ({ spawn }) => {
    const peer = spawn('peer', process.execPath, ['-e', 'setInterval(() => {}, 1000); console.log(JSON.stringify({ type: "pid", pid: process.pid }))'])
    console.log('pid', (await peer.until('pid'))[0].pid)
    await peer.until('never')
  }))`
  const { status, statuses, output } = run(`{ pair: 'js → rust', what: 'hangs', within: 3, run: () => ${hang} }, ${OK}`)
  assert.deepEqual([status, statuses], [1, { hangs: 'FAILED', good: 'ok' }])
  assert.match(output, /not over in 3 s/)
  assert.throws(() => process.kill(Number(output.match(/pid (\d+)/)[1]), 0), /ESRCH/)
})

test('a theme that cannot be read fails the run', () => {
  const { status, statuses } = run(`${OK}, nobody.knows`)
  assert.deepEqual([status, statuses], [1, { 'can be read': 'FAILED' }])
})
