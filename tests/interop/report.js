// The report of a run: a line for each cell as it ends, tables at the end, and results.json.
//
// The rule it keeps: each cell is NOT RUN until it has passed or failed, in the file as on the terminal; a run that
// breaks off leaves a file that says so.

import { renameSync, writeFileSync } from 'node:fs'

export const OK = 'ok'
export const FAILED = 'FAILED'
/** It should have been run, and was not: this fails the run. */
export const NOT_RUN = 'NOT RUN'
/** It cannot exist, for the reason given. */
export const ABSENT = '–'
/** It was not asked for. */
export const LEFT_OUT = 'left out'

/** Heads of the columns by the number of peers, unless the theme gives its own. */
const ROLES = [[], [''], ['dialer', 'listener'], ['one end', 'middle', 'other end']]

export class Report {
  #cells
  #file
  #about

  /** @param cells of each `{ title, roles?, pair, what, status, reason?, seconds? }`, kept up to date by the caller */
  constructor (cells, { file, about }) {
    this.#cells = cells
    this.#file = file
    this.#about = about
  }

  of (status) {
    return this.#cells.filter(cell => cell.status === status)
  }

  /** Whether all that was asked for has passed, and that something was. */
  get isGood () {
    return this.of(FAILED).length + this.of(NOT_RUN).length === 0 && this.of(OK).length > 0
  }

  save () {
    const counts = Object.fromEntries([OK, FAILED, NOT_RUN, ABSENT, LEFT_OUT].map(status => [status, this.of(status).length]))
    const cells = this.#cells.map(({ title, pair, what, status, reason, seconds }) => ({ title, pair, what, status, reason, seconds }))
    writeFileSync(`${this.#file}.new`, JSON.stringify({ ...this.#about, counts, cells }, null, 2) + '\n')
    renameSync(`${this.#file}.new`, this.#file)
  }

  /** One line, as a cell ends. */
  line ({ pair, what, status, reason, seconds }) {
    console.log(`${status.padEnd(7)} ${seconds.toFixed(1).padStart(6)} s  ${pair.padEnd(19)} ${what}`)
    if (reason !== undefined) console.log(reason.replace(/^/gm, '                  '))
  }

  /** Everything, and at the very end the count. */
  summary () {
    for (const title of new Set(this.#cells.map(cell => cell.title))) {
      const cells = this.#cells.filter(cell => cell.title === title && cell.status !== LEFT_OUT)
      if (cells.length > 0) console.log(`\n${title}\n${table(cells)}`)
    }
    for (const status of [ABSENT, NOT_RUN, FAILED]) this.#reasons(status)
    const leftOut = this.of(LEFT_OUT).length
    if (leftOut > 0) console.log(`\n${leftOut} of ${this.#cells.length} cells were left out, as asked: this run shows nothing of them`)
    const failed = this.of(FAILED).length + this.of(NOT_RUN).length
    const notRun = this.of(NOT_RUN).length
    if (notRun > 0) console.log(`\n${notRun} cells were not run, which counts as failed`)
    // Alone on its line, so that it can be found.
    console.log(`\n${this.of(OK).length} passed, ${failed} failed`)
  }

  /** Why, each reason once. */
  #reasons (status) {
    const cells = this.of(status)
    const reasonOf = ({ reason = 'the run broke off before it' }) => reason
    if (cells.length > 0) console.log(`\n${status}`)
    for (const reason of new Set(cells.map(reasonOf))) {
      const these = cells.filter(cell => reasonOf(cell) === reason)
      const what = these.length === 1 ? `${these[0].pair}: ${these[0].what}` : [...new Set(these.map(cell => cell.pair))].join(', ')
      console.log(`  ${what}\n${reason.replace(/^/gm, '      ')}`)
    }
  }
}

/** A row for each promise, a column for each pair; a column's head has a line for each peer. */
function table (cells) {
  const pairs = [...new Set(cells.map(cell => cell.pair))].map(pair => ({ pair, names: pair.split(/[^\w]+/).filter(Boolean) }))
  const rows = [...new Set(cells.map(cell => cell.what))]
  const height = Math.max(...pairs.map(({ names }) => names.length))
  const roles = cells[0].roles ?? ROLES[height] ?? []
  const label = Math.max(...rows.map(row => row.length), 9) + 2
  const width = 2 + Math.max(NOT_RUN.length, ...pairs.flatMap(({ names }) => names.map(name => name.length)))
  const line = (head, entries) => `  ${head.padEnd(label)}${entries.map(entry => entry.padEnd(width)).join('')}`.trimEnd()
  const heads = Array.from({ length: height }, (_, i) => line(roles[i] ?? '', pairs.map(({ names }) => names[i] ?? '')))
  const statuses = what => pairs.map(({ pair }) => cells.find(cell => cell.pair === pair && cell.what === what)?.status ?? '')
  return [...heads, ...rows.map(what => line(what, statuses(what)))].join('\n')
}
