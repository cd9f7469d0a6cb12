// `node:assert/strict` for a browser: as much of it as the tests over the vectors use.

class AssertionError extends Error {}

function fail (message, what) {
  throw new AssertionError([message, what].filter(Boolean).join(': '))
}

export default function assert (value, message) {
  if (!value) fail(message, `${value} is not true`)
}

assert.equal = (actual, expected, message) => {
  if (!Object.is(actual, expected)) fail(message, `${actual} is not ${expected}`)
}

assert.deepEqual = (actual, expected, message) => {
  if (!isSame(actual, expected)) fail(message, `${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`)
}

assert.throws = (body, ...expectation) => {
  let thrown
  try {
    body()
  } catch (error) {
    thrown = { error }
  }
  check(thrown, ...expectation)
}

/** @param body  a promise, or a function that returns one */
assert.rejects = async (body, ...expectation) => {
  let thrown
  try {
    await (typeof body === 'function' ? body() : body)
  } catch (error) {
    thrown = { error }
  }
  check(thrown, ...expectation)
}

/** @param expected fields that the error has, or patterns that they match; a text in its place is the message */
function check (thrown, expected = {}, message) {
  if (typeof expected === 'string') [expected, message] = [{}, expected]
  if (thrown === undefined) fail(message, 'nothing was thrown')
  for (const [name, value] of Object.entries(expected)) {
    const what = message ?? `${name} of ${thrown.error}`
    if (value instanceof RegExp) assert(value.test(thrown.error[name]), what)
    else assert.deepEqual(thrown.error[name], value, what)
  }
}

function isSame (a, b) {
  if (Object.is(a, b)) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b) || a instanceof Map || a instanceof Set) return false
  const [keysA, keysB] = [Object.keys(a), Object.keys(b)]
  return keysA.length === keysB.length && keysA.every(key => Object.hasOwn(b, key) && isSame(a[key], b[key]))
}
