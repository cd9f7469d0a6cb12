// `node:test` for a browser: tests are kept when they are declared, and run one after another when they are asked for.

const tests = []

export function test (name, body) {
  tests.push({ name, body })
}

/** Runs all: `[{ name, reason }]`, where a test that holds has no reason. */
export async function runTests () {
  const results = []
  for (const { name, body } of tests) {
    try {
      await body()
      results.push({ name })
    } catch (error) {
      results.push({ name, reason: `${error.stack ?? error}` })
    }
  }
  return results
}
