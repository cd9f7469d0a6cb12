// identify without addresses: the peer that asks may be a stranger, and learns neither the listen addresses of this node
// nor its own observed address. The overlay exchanges addresses with linked peers.

import { identify as libraryIdentify } from '@libp2p/identify'
import { multiaddr } from '@multiformats/multiaddr'

const NOWHERE = multiaddr()

/** As `identify` of @libp2p/identify. */
export function identify (options) {
  return components => {
    const service = libraryIdentify(options)(withoutAddresses(components))
    const answer = service.handleProtocol.bind(service)
    service.handleProtocol = stream => answer(stream, { remoteAddr: NOWHERE })
    return service
  }
}

/** libp2p's components, of which each is looked up by its name. */
function withoutAddresses (components) {
  const silent = { getAddresses: () => [], addObservedAddr: () => {} }
  return new Proxy(components, { get: (all, name) => name === 'addressManager' ? silent : all[name] })
}
