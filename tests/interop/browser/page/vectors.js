// The tests over the published vectors, in a page: the very file that Node runs. `runTests()` returns the results.

import '../../js/test/vectors.test.js'
import { runTests } from './shims/test.js'

window.runTests = runTests
