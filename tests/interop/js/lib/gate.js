// The gate: the protocols behind it learn of a connection only when its peer has passed.
//
// A registrar between libp2p and gossipsub. gossipsub's topology is driven from the pass and not from identify: a
// peer's advertisement proves nothing. js-libp2p negotiates protocols for the whole node and not for a connection, so that
// a stream that arrives too early cannot be refused by name: it is reset, and no byte of it is read.

const DETACH_MS = 50

export class Gate {
  #registrar
  #topologies = new Map()
  /** Connections on which streams of the peer are accepted. */
  #inbound = new Set()
  /** Connections on which our own streams may open, by peer, in the order in which they passed. */
  #outbound = new Map()

  constructor (registrar) {
    this.#registrar = registrar
  }

  /** The registrar that the protocols behind the gate get in place of libp2p's. */
  get registrar () {
    const registrar = this.#registrar
    return {
      handle: (protocol, handler, options) => registrar.handle(protocol, (stream, connection) => {
        if (this.#inbound.has(connection)) return handler(stream, connection)
        stream.abort(new Error(`${protocol} before the handshake has passed`))
      }, options),
      unhandle: (protocol, options) => registrar.unhandle(protocol, options),
      register: async (protocol, topology) => {
        const id = `gate-${this.#topologies.size}`
        this.#topologies.set(id, topology)
        return id
      },
      unregister: id => { this.#topologies.delete(id) },
      getProtocols: () => registrar.getProtocols(),
      getHandler: protocol => registrar.getHandler(protocol),
      getTopologies: () => [...this.#topologies.values()]
    }
  }

  /** Takes the peer's streams from now on. */
  openInbound (connection) {
    this.#inbound.add(connection)
  }

  /** Lets our own streams open. */
  openOutbound (connection) {
    const id = connection.remotePeer.toString()
    const open = this.#outbound.get(id) ?? new Set()
    this.#outbound.set(id, open.add(connection))
    if (open.size === 1) this.attach(connection.remotePeer)
  }

  /** Has the behaviours open their streams to a peer that has lost them. */
  attach (peerId) {
    const [connection] = this.#outbound.get(peerId.toString()) ?? []
    if (connection === undefined) return
    for (const topology of new Set(this.#topologies.values())) topology.onConnect?.(peerId, connection)
  }

  /** The connection is gone. */
  closed (connection) {
    const peerId = connection.remotePeer
    const open = this.#outbound.get(peerId.toString())
    if (!this.#inbound.delete(connection)) return
    open?.delete(connection)
    if (open?.size > 0) {
      // gossipsub has one stream a peer: it moves to a connection that is left, once it knows that the old one is gone.
      setTimeout(() => this.attach(peerId), DETACH_MS)
    } else if (![...this.#inbound].some(other => other.remotePeer.equals(peerId))) {
      this.#outbound.delete(peerId.toString())
      for (const topology of new Set(this.#topologies.values())) topology.onDisconnect?.(peerId)
    }
  }
}
