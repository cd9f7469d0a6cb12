// Pairs without the program: their peers agree by the contract, not by the program.

import { sayLargest, saySmall } from '../exchanges.js'

export const title = 'Pairs without the program'

/** A page in a browser is the JavaScript peer once more. */
const LANGUAGES = ['js', 'go', 'py']
const MESSAGES = 100

export function cells () {
  const pairs = LANGUAGES.flatMap(dialer => LANGUAGES.filter(other => other !== dialer).map(listener => [dialer, listener]))
  return pairs.flatMap(([dialer, listener]) => [
    {
      pair: `${dialer} → ${listener}`,
      what: `both rounds pass, ${MESSAGES} of ${MESSAGES} messages both ways`,
      run: () => saySmall(dialer, listener, MESSAGES)
    },
    {
      pair: `${dialer} → ${listener}`,
      what: 'ten of the largest event in a row, each way; the link survives',
      run: () => sayLargest(dialer, listener)
    }
  ])
}
