// Where peers can be dialled, and who may name which address to whom.
//
// The rule it keeps: over a public link only public addresses are named, over a private one private and public ones,
// over a loopback one all; names of the DNS and addresses that are nobody's in particular never.

import { multiaddr } from '@multiformats/multiaddr'

/** From narrow to wide. */
export const LOOPBACK = 0
export const PRIVATE = 1
export const PUBLIC = 2

/** Of what is named of a peer, this much is read. */
export const MAX_ADDRESSES = 4
const MAX_ADDRESS_BYTES = 128

const AFTER_TCP = ['ws', 'wss', 'tls', 'sni', 'p2p']

/** Prefixes and their scope; undefined: never dialled on anybody's word. The first that fits counts. */
const IP4 = [
  ['127.0.0.0', 8, LOOPBACK],
  ['10.0.0.0', 8, PRIVATE],
  ['172.16.0.0', 12, PRIVATE],
  ['192.168.0.0', 16, PRIVATE],
  ['169.254.0.0', 16, PRIVATE],
  ['100.64.0.0', 10, PRIVATE],
  ['0.0.0.0', 8, undefined],
  ['224.0.0.0', 4, undefined],
  ['240.0.0.0', 4, undefined],
  ['0.0.0.0', 0, PUBLIC]
].map(([address, bits, scope]) => [bytes4(address), bits, scope])

const IP6 = [
  ['::1', 128, LOOPBACK],
  ['fc00::', 7, PRIVATE],
  ['fe80::', 10, PRIVATE],
  ['::', 128, undefined],
  ['ff00::', 8, undefined],
  ['::', 0, PUBLIC]
].map(([address, bits, scope]) => [bytes6(address), bits, scope])

/** IPv4 addresses inside IPv6 ones: the prefix, and where the 4 bytes are. */
const EMBEDDED = [['::ffff:0:0', 96, 12], ['64:ff9b::', 32, 12], ['2002::', 16, 2]]
  .map(([address, bits, at]) => [bytes6(address), bits, at])

/** The scope of an address that can be dialled on somebody's word; undefined when it cannot. */
export function scopeOf (address) {
  const [ip, tcp, ...rest] = address.getComponents()
  if (tcp?.name !== 'tcp' || tcp.value === '0' || !rest.every(({ name }) => AFTER_TCP.includes(name))) return undefined
  return scopeOfIp(ip)
}

/** The scope of a link, by its connection's remote address; one that was dialled by name counts as public. */
export function scopeOfLink (address) {
  return scopeOfIp(address.getComponents()[0]) ?? PUBLIC
}

function scopeOfIp ({ name, value } = {}) {
  if (name === 'ip4') return match(IP4, bytes4(value))
  if (name !== 'ip6') return undefined
  const bytes = bytes6(value)
  const inner = EMBEDDED.find(([prefix, bits]) => hasPrefix(bytes, prefix, bits))
  return inner === undefined ? match(IP6, bytes) : match(IP4, bytes.slice(inner[2], inner[2] + 4))
}

function match (table, bytes) {
  return table.find(([prefix, bits]) => hasPrefix(bytes, prefix, bits))[2]
}

function hasPrefix (bytes, prefix, bits) {
  return prefix.every((byte, i) => {
    const mask = 0xff00 >> Math.min(8, Math.max(0, bits - 8 * i)) & 0xff
    return ((byte ^ bytes[i]) & mask) === 0
  })
}

/** Reads what a peer named over a link: the first few that may be named there, as text without a PeerId. */
export function readAddresses (list, linkScope) {
  const found = []
  for (const bytes of list) {
    if (bytes.length > MAX_ADDRESS_BYTES) continue
    try { found.push(multiaddr(bytes)) } catch {}
  }
  return named(found.slice(0, MAX_ADDRESSES), linkScope)
}

/** Writes addresses for a link: binary, those that may be named there. */
export function writeAddresses (texts, linkScope) {
  return named(texts.map(text => multiaddr(text)), linkScope).slice(0, MAX_ADDRESSES).map(text => multiaddr(text).bytes)
}

function named (addresses, linkScope) {
  return addresses.filter(address => scopeOf(address) >= linkScope).map(address => address.decapsulateCode(P2P).toString())
}

/** The code of `/p2p/`. */
const P2P = 421

function bytes4 (text) {
  return text.split('.').map(Number)
}

function bytes6 (text) {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text)
  if (dotted !== null) {
    const [a, b, c, d] = bytes4(dotted[2])
    text = `${dotted[1]}${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`
  }
  const [head, tail] = text.split('::').map(part => part === '' ? [] : part.split(':'))
  const groups = tail === undefined ? head : [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail]
  return groups.flatMap(group => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff])
}
