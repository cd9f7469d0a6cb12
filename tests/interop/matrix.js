// The matrix: which cells there are, which of them can run, and running them.
//
//   node matrix.js [--filter TEXT] [--languages js,go] [--jobs N] [--json FILE] [--missing LANGUAGE=REASON]…
//                  [--cells FOLDER]
//
// Each file of `cells/` (or FOLDER) is a theme: it exports a `title`, as `cells` a list or a function that makes one, and as `roles`
// what the members of its pairs are, if that needs to be said. A cell is
//
//   pair     between whom, like 'js → rust', 'js – rust – go': the languages it needs are those named in it
//   what     the promise of the cell
//   run      async; throws when the promise is not kept. It is given the cell: `log(text)`, `onOver(end)`
//   needs    further languages it cannot do without
//   absent   why the cell cannot exist; shown as –
//   first    it runs before the others
//   alone    nothing else runs beside it, because of its timing
//   within   timeout in seconds; default 300
//
// The rule it keeps: a cell that did not run is never counted as passed, and fails the run.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { LANGUAGES, PEERS, named } from './languages.js'
import { currentCell } from './peers.js'
import { ABSENT, FAILED, LEFT_OUT, NOT_RUN, OK, Report } from './report.js'
import { startShared } from './shared.js'

const WITHIN_S = 300
const JOBS = 2
/** The order of themes in tables; others follow. */
const ORDER = [
  'own-tests', 'links', 'messages', 'without-rust', 'through', 'tampered', 'crossing', 'backfill', 'history', 'redirects',
  'overlay', 'conformance'
]

const here = import.meta.dirname
/** Nothing has passed until the end is reached, even if this process is killed. */
let isOver = false
process.on('exit', () => { if (!isOver) process.exitCode ||= 1 })

function options () {
  const { values } = parseArgs({
    options: {
      filter: { type: 'string', default: '' },
      languages: { type: 'string', default: PEERS.join(',') },
      jobs: { type: 'string', default: `${JOBS}` },
      json: { type: 'string' },
      missing: { type: 'string', multiple: true, default: [] },
      cells: { type: 'string', default: join(here, 'cells') }
    }
  })
  const languages = values.languages.split(',')
  const unknown = languages.filter(name => !Object.hasOwn(LANGUAGES, name))
  if (unknown.length > 0) throw new Error(`--languages: there is no ${unknown.join(', ')}; there are ${PEERS.join(', ')}`)
  const jobs = Number(values.jobs)
  if (!Number.isInteger(jobs) || jobs < 1) throw new Error('--jobs: a whole number from 1 on')
  const missing = new Map(values.missing.map(it => [it.slice(0, it.indexOf('=')), it.slice(it.indexOf('=') + 1)]))
  const { json = join(here, 'results.json') } = values
  const logs = values.json === undefined ? join(here, '.cache/logs') : `${json}.logs`
  return { ...values, json, logs, jobs, missing, languages: new Set(['rust', ...languages]) }
}

/** All cells there are. A theme that cannot be read is a cell that failed. */
async function allCells (folder) {
  const all = []
  const rank = file => (ORDER.indexOf(file.slice(0, -3)) + 1) || ORDER.length + 1
  const files = readdirSync(folder).filter(file => file.endsWith('.js'))
  for (const file of files.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b))) {
    try {
      const { title = file, roles, cells } = await import(join(folder, file))
      all.push(...(typeof cells === 'function' ? await cells() : cells).map(cell => ({ title, roles, ...cell })))
    } catch (error) {
      all.push({ title: file, pair: '', what: 'can be read', run: () => { throw error } })
    }
  }
  return all
}

/** Sets the initial status of each cell: NOT RUN until it has run. */
function sort (cells, { filter, languages, missing }) {
  for (const cell of cells) {
    const lost = needsOf(cell).filter(name => missing.has(name)).map(name => `${name}: ${missing.get(name)}`)
    cell.status = NOT_RUN
    cell.isReady = false
    if (!`${cell.title}: ${cell.pair}: ${cell.what}`.includes(filter) || !named(cell.pair).every(name => languages.has(name))) cell.status = LEFT_OUT
    else if (cell.absent !== undefined) Object.assign(cell, { status: ABSENT, reason: cell.absent })
    else if (lost.length > 0) cell.reason = lost.join('; ')
    else cell.isReady = true
  }
}

const needsOf = ({ pair, needs = [] }) => [...new Set([...named(pair), ...needs])]

/** Starts the shared program of a language; if that fails the language is missing. */
async function startAllShared (cells, missing) {
  const wanted = new Set(cells.filter(cell => cell.isReady).flatMap(needsOf))
  for (const language of PEERS.filter(name => LANGUAGES[name].shared !== undefined && wanted.has(name))) {
    try {
      await startShared(language)
    } catch (error) {
      missing.set(language, error.message)
    }
  }
}

/** Runs one cell, to its end or to that of its time. */
async function run (cell, report, logs) {
  const context = { peers: [], isOver: false, ends: [], text: '' }
  const handle = { log: text => { context.text += text }, onOver: end => context.ends.push(end) }
  const begin = performance.now()
  cell.isRunning = true
  try {
    await currentCell.run(context, () => inTime(cell.within ?? WITHIN_S, cell.run(handle)))
    Object.assign(cell, { status: OK })
  } catch (error) {
    Object.assign(cell, { status: FAILED, reason: reasonOf(error) })
  }
  context.isOver = true
  cell.isRunning = false
  for (const end of context.ends) end()
  await Promise.all(context.peers.map(peer => peer.end()))
  cell.seconds = Number(((performance.now() - begin) / 1000).toFixed(1))
  if (cell.status === FAILED) cell.reason += `\n${keepLog(cell, context, logs)}`
  report.line(cell)
  report.save()
}

async function inTime (seconds, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not over in ${seconds} s`)), seconds * 1000)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The message, and where in a cell it was thrown. */
function reasonOf (error) {
  if (!(error instanceof Error)) return `${error}`
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('\n')
  const place = error.stack?.match(/cells\/[\w-]+\.js:\d+/)?.[0]
  return place === undefined ? error.message : `${error.message}\n(${place})`
}

/** Writes the output of the peers of a failed cell to a file, and prints how they ended. */
function keepLog (cell, { peers, text }, logs) {
  const name = `${cell.pair} ${cell.what}`.replace(/[^\w]+/g, '-').slice(0, 100)
  const file = join(logs, `${name}.log`)
  writeFileSync(file, text + peers.map(peer => peer.transcript()).join('\n'))
  return [...peers.map(peer => peer.lastWords()), `all that was said: ${file}`].join('\n')
}

/** Runs cells, a limited number at a time. */
async function runAll (cells, jobs, report, logs) {
  const queue = [...cells]
  await Promise.all(Array.from({ length: jobs }, async () => {
    while (queue.length > 0) await run(queue.shift(), report, logs)
  }))
}

async function main () {
  const given = options()
  const cells = await allCells(given.cells)
  sort(cells, given)
  await startAllShared(cells, given.missing)
  sort(cells, given)
  rmSync(given.logs, { recursive: true, force: true })
  mkdirSync(given.logs, { recursive: true })
  const about = { program: process.env.DIATRIBE_BIN, begun: new Date().toISOString(), filter: given.filter, languages: [...given.languages] }
  const report = new Report(cells, { file: given.json, about })
  report.save()
  const breakOff = (code, why) => {
    console.error(why)
    for (const cell of cells.filter(cell => cell.isRunning)) cell.reason = why
    report.save()
    report.summary()
    process.exit(code)
  }
  // Its cell is unknown: most likely one that has ended. The others continue.
  process.on('unhandledRejection', error => {
    const stray = { title: 'Tests of its own', pair: 'matrix', what: 'no promise fails unheard', status: FAILED, seconds: 0 }
    cells.push({ ...stray, reason: error?.stack ?? `${error}` })
    report.line(cells.at(-1))
  })
  process.on('uncaughtException', error => breakOff(1, `the harness broke: ${error.stack}`))
  for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]]) process.on(signal, () => breakOff(code, `ended by ${signal}`))

  const ready = cells.filter(cell => cell.isReady)
  await runAll(ready.filter(cell => cell.first), given.jobs, report, given.logs)
  await runAll(ready.filter(cell => !cell.first && !cell.alone), given.jobs, report, given.logs)
  await runAll(ready.filter(cell => !cell.first && cell.alone), 1, report, given.logs)
  report.save()
  report.summary()
  if (cells.every(cell => cell.status === LEFT_OUT)) console.error('no cell has that in its name')
  // Libraries in this very process leave timers behind.
  isOver = true
  process.exit(report.isGood ? 0 : 1)
}

try {
  await main()
} catch (error) {
  console.error(`error: ${error.message}`)
  process.exit(error.code?.startsWith('ERR_PARSE_ARGS') || error.message.startsWith('--') ? 2 : 1)
}
