// Addresses of peers, and the scopes that decide which address may be named over which link.
//
// The rules it keeps: an address that a peer names has one form, an IP address, a port and a websocket with the path "/",
// and is encoded anew; over a public link only public addresses are named, over a private one private and public ones,
// over a loopback one all; addresses that are nobody's in particular never.

import { multiaddr } from '@multiformats/multiaddr'
import { concat, same } from './bytes.js'

/** From narrow to wide. */
export const LOOPBACK = 0
export const PRIVATE = 1
export const PUBLIC = 2

/** Maximum number of addresses that are read of one peer. */
export const MAX_ADDRESSES = 2
const MAX_ADDRESS_BYTES = 128

/** The ports below 1024 at which somebody may be dialled on another's word: others are those of a system's services. */
const WEB_PORTS = [80, 443]
const FIRST_FREE_PORT = 1024

/** Codes of the parts of a multiaddr. */
const IP4 = 4
const TCP = 6
const IP6 = 41
const P2P = 421
const TLS = 448
const WS = 477
const WSS = 478
const WS_PATH = 4770
const WSS_PATH = 4780

/** Prefixes and their scope; undefined: never dialled on anybody's word. The first that fits counts. */
const IP4_SCOPES = [
  ['127.0.0.0', 8, LOOPBACK],
  ['10.0.0.0', 8, PRIVATE],
  ['100.64.0.0', 10, PRIVATE],
  ['169.254.0.0', 16, PRIVATE],
  ['172.16.0.0', 12, PRIVATE],
  ['192.168.0.0', 16, PRIVATE],
  ['198.18.0.0', 15, PRIVATE],
  ['0.0.0.0', 8, undefined],
  ['192.0.0.0', 24, undefined],
  ['192.0.2.0', 24, undefined],
  ['192.88.99.0', 24, undefined],
  ['198.51.100.0', 24, undefined],
  ['203.0.113.0', 24, undefined],
  ['224.0.0.0', 3, undefined],
  ['0.0.0.0', 0, PUBLIC]
].map(([address, bits, scope]) => [bytes4(address), bits, scope])

const IP6_SCOPES = [
  ['::1', 128, LOOPBACK],
  ['fc00::', 7, PRIVATE],
  ['fec0::', 10, PRIVATE],
  ['2001:2::', 48, PRIVATE],
  ['2001::', 23, undefined],
  ['2001:db8::', 32, undefined],
  ['2002::', 16, undefined],
  ['3fff::', 20, undefined],
  ['2000::', 3, PUBLIC],
  ['::', 0, undefined]
].map(([address, bits, scope]) => [bytes6(address), bits, scope])

const MAPPED = bytes6('::ffff:0:0')
const NAT64 = bytes6('64:ff9b::')
const LINK_LOCAL = bytes6('fe80::')
/** How the lower half of an address begins that tunnels IPv4 within a site (ISATAP). */
const ISATAP = [[0, 0, 0x5e, 0xfe], [2, 0, 0x5e, 0xfe]]

// --- the one form

/**
 * Reads the bytes of an address that a peer names: `{ bytes, ip, port, scope }`, the bytes encoded anew; undefined when
 * it is not of the one form, or has no scope.
 *
 * @param peer  the bytes of the PeerId that has the address
 */
function parse (given, peer) {
  if (given.length > MAX_ADDRESS_BYTES) return undefined
  const parts = partsOf(given)
  if (parts === undefined) return undefined
  const [ip, tcp, ...rest] = parts
  if (![IP4, IP6].includes(ip?.code) || tcp?.code !== TCP) return undefined
  const last = rest.at(-1)
  if (last?.code === P2P && peer !== undefined && same(last.value, peer)) rest.pop()
  const web = webOf(rest)
  const port = tcp.value[0] << 8 | tcp.value[1]
  if (web === undefined || !(port >= FIRST_FREE_PORT || WEB_PORTS.includes(port))) return undefined
  const own = hasPrefix(ip.value, MAPPED, 96) && ip.code === IP6 ? { code: IP4, value: ip.value.slice(12) } : ip
  const scope = scopeOfIp(own.value)
  if (scope === undefined) return undefined
  return { bytes: concat(Uint8Array.of(own.code), own.value, Uint8Array.of(TCP), tcp.value, ...web.map(varint)), ip: own.value, port, scope }
}

/** Returns the part after the port, in its one spelling. */
function webOf (parts) {
  const kinds = []
  for (const { code, value } of parts) {
    const hasPath = code === WS_PATH || code === WSS_PATH
    if (hasPath && !same(value, Uint8Array.of(0x2f))) return undefined
    kinds.push(hasPath ? (code === WS_PATH ? WS : WSS) : code)
  }
  switch (kinds.join()) {
    case `${WS}`: return [WS]
    case `${TLS},${WS}`:
    case `${WSS}`: return [TLS, WS]
    default: return undefined
  }
}

/** The parts of a multiaddr of which an address may consist: `{ code, value }`. Undefined for any other. */
function partsOf (bytes) {
  const parts = []
  let at = 0
  const number = () => {
    let value = 0
    for (let shift = 0; shift < 28 && at < bytes.length; shift += 7) {
      const byte = bytes[at++]
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return byte === 0 && shift > 0 ? undefined : value
    }
    return undefined
  }
  while (at < bytes.length) {
    const code = number()
    const size = { [IP4]: 4, [IP6]: 16, [TCP]: 2, [WS]: 0, [WSS]: 0, [TLS]: 0 }[code]
    const isSized = [P2P, WS_PATH, WSS_PATH].includes(code)
    const length = isSized ? number() : size
    if (length === undefined || at + length > bytes.length) return undefined
    parts.push({ code, value: bytes.slice(at, at + length) })
    at += length
  }
  return parts
}

function varint (code) {
  return code < 0x80 ? Uint8Array.of(code) : Uint8Array.of(code & 0x7f | 0x80, code >> 7)
}

// --- scopes

/** The scope of an address that can be dialled on somebody's word; undefined when it cannot. */
export function scopeOf (address, peer) {
  return parse(address.bytes, peer)?.scope
}

/** The scope of a link, by its connection's remote address; one that has none, or was dialled by name, counts as public. */
export function scopeOfLink (address) {
  const ip = ipOf(address)
  if (ip === undefined) return PUBLIC
  if (ip.length === 16 && hasPrefix(ip, LINK_LOCAL, 10)) return PRIVATE
  return scopeOfIp(ip) ?? PUBLIC
}

/** Returns the host of an address: its IP address, of IPv6 the /64. Undefined when it is dialled by name. */
export function hostOf (address) {
  const ip = ipOf(multiaddr(address))
  if (ip === undefined) return undefined
  if (ip.length === 16 && hasPrefix(ip, NAT64, 96)) return ip.subarray(12).join('.')
  return ip.length === 4 ? ip.join('.') : ip.subarray(0, 8).join(':')
}

/** The IP address of a multiaddr; an IPv4 one that is mapped into IPv6 by itself. */
function ipOf (address) {
  const [{ name, value } = {}] = address.getComponents()
  if (name === 'ip4') return Uint8Array.from(bytes4(value))
  if (name !== 'ip6') return undefined
  const ip = Uint8Array.from(bytes6(value))
  return hasPrefix(ip, MAPPED, 96) ? ip.slice(12) : ip
}

function scopeOfIp (ip) {
  if (ip.length === 4) return match(IP4_SCOPES, ip)
  if (hasPrefix(ip, NAT64, 96)) return match(IP4_SCOPES, ip.slice(12)) === PUBLIC ? PUBLIC : undefined
  const scope = match(IP6_SCOPES, ip)
  const isTunnel = ISATAP.some(start => start.every((byte, i) => ip[8 + i] === byte))
  return scope === PUBLIC && isTunnel ? undefined : scope
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

// --- over a link

/** Reads the addresses of a peer from a message: the first few that the link may name, as text without its PeerId. */
export function readAddresses (list, linkScope, peer) {
  const found = list.map(bytes => parse(bytes, peer)).filter(address => address !== undefined)
  return inScope(found.slice(0, MAX_ADDRESSES), linkScope).map(({ bytes }) => multiaddr(bytes).toString())
}

/** Writes addresses for a link: binary, those that may be named there, those of its own scope first. */
export function writeAddresses (texts, linkScope) {
  const found = texts.map(text => parse(multiaddr(text).bytes)).filter(address => address !== undefined)
  return ownFirst(inScope(found, linkScope), linkScope).slice(0, MAX_ADDRESSES).map(({ bytes }) => bytes)
}

/** The same address as a peer would read it, as text; undefined when it could not be named. */
export function canonical (address) {
  const found = parse(address.decapsulateCode(P2P).bytes)
  return found && multiaddr(found.bytes).toString()
}

/** Texts in the order in which they are dialled for a link: those of its own scope first. */
export function inDialOrder (texts, linkScope) {
  const all = texts.map(text => ({ text, scope: scopeOf(multiaddr(text)) }))
  return ownFirst(all, linkScope).map(({ text }) => text)
}

const inScope = (addresses, linkScope) => addresses.filter(({ scope }) => scope >= linkScope)
const ownFirst = (addresses, linkScope) => [
  ...addresses.filter(({ scope }) => scope === linkScope),
  ...addresses.filter(({ scope }) => scope !== linkScope)
]

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
