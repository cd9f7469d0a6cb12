// identify without addresses: whoever asks may be a stranger still, and is told neither where this node listens nor
// from where it seems to come. Those who may know are told by the overlay.

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
