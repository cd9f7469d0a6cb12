// Dialling an address again and again, for the peer of the command line and the page.
//
// Entry: `keepDialing`. The rule it keeps: a lost link is dialled anew, with pauses that grow while that fails; one that
// the overlay has ended is left alone while there are links enough.

const REDIAL_FIRST_MS = 500
const REDIAL_MOST_MS = 30_000
/** With this number of links a node does not redial a link that the overlay has ended. */
const ENOUGH_LINKS = 2
const OF_THE_OVERLAY = /^(handover|surplus|refused|aborted)/

/**
 * @param onFailure  called with the first of several failures before a handshake: later ones are reported as events
 * @param resolve    async address => the address to dial in its place, where names can be looked up
 */
export async function keepDialing (node, address, onFailure, resolve = async address => address) {
  const { diatribe } = node.services
  let wait = REDIAL_FIRST_MS
  let reported = false
  while (node.status === 'started') {
    try {
      const peerId = await diatribe.connect(await resolve(address))
      wait = REDIAL_FIRST_MS
      reported = false
      const reason = await linkEnds(diatribe, peerId.toString())
      while (OF_THE_OVERLAY.test(reason) && diatribe.links >= ENOUGH_LINKS) await anyLinkEnds(diatribe)
    } catch (error) {
      const ofHandshake = error.stage !== undefined
      if (!reported && !ofHandshake) onFailure(error)
      reported = true
    }
    await new Promise(resolve => setTimeout(resolve, wait * (0.75 + Math.random() / 2)))
    wait = Math.min(wait * 2, REDIAL_MOST_MS)
  }
}

/** Why the link with this peer ended. It may be gone already, before anyone could listen. */
async function linkEnds (diatribe, peerId) {
  let reason = 'it was lost at once'
  while (diatribe.isLinked(peerId)) {
    const ended = await anyLinkEnds(diatribe)
    if (ended.peer_id === peerId) reason = ended.reason
  }
  return reason
}

function anyLinkEnds (diatribe) {
  return new Promise(resolve => {
    diatribe.addEventListener('link_down', ({ detail }) => resolve(detail), { once: true })
  })
}
