// Byte strings: joined, compared, spelt as hex.

export { concatBytes as concat, bytesToHex as toHex, hexToBytes as fromHex, utf8ToBytes as ascii } from '@noble/hashes/utils.js'

/** Whether two byte strings are the same, in a time that does not tell where they differ. */
export function same (a, b) {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i]
  return difference === 0
}

/** -1, 0 or 1: the order of two byte strings. */
export function compare (a, b) {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1
  }
  return Math.sign(a.length - b.length)
}

/** Fresh bytes from the operating system. */
export function random (length) {
  return crypto.getRandomValues(new Uint8Array(length))
}
