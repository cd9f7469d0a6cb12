package node

// The host that go-libp2p-pubsub gets: on it there are links and nothing else. It learns of peers from the event bus,
// where go-libp2p reports every peer that has identified; here the bus reports only peers that have passed.

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

type pubHost struct {
	host.Host
	node    *Node
	bus     event.Bus
	handler network.StreamHandler
}

var errNotALink = errors.New("not a link")

func (h *pubHost) EventBus() event.Bus { return h.bus }

func (h *pubHost) Network() network.Network { return &pubNetwork{h.Host.Network(), h.node} }

func (h *pubHost) SetStreamHandler(_ protocol.ID, handler network.StreamHandler) { h.handler = handler }

func (h *pubHost) RemoveStreamHandler(protocol.ID) {}

// Connect is peer exchange's: there is none.
func (h *pubHost) Connect(context.Context, peer.AddrInfo) error { return errNotALink }

func (h *pubHost) NewStream(_ context.Context, id peer.ID, _ ...protocol.ID) (network.Stream, error) {
	l := h.node.linkOf(id)
	if l == nil {
		return nil, errNotALink
	}
	if err := l.out.open(); err != nil {
		return nil, err
	}
	h.node.gossip.mu.Lock()
	h.node.gossip.given[id] = l.out
	h.node.gossip.mu.Unlock()
	return l.out, nil
}

type pubNetwork struct {
	network.Network
	node *Node
}

func (p *pubNetwork) Connectedness(id peer.ID) network.Connectedness {
	if p.node.linkOf(id) != nil {
		return network.Connected
	}
	return network.NotConnected
}

func (p *pubNetwork) Peers() (ids []peer.ID) {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	for id := range p.node.links {
		ids = append(ids, id)
	}
	return ids
}

func (p *pubNetwork) ConnsToPeer(id peer.ID) []network.Conn {
	if l := p.node.linkOf(id); l != nil {
		return []network.Conn{l.connection().raw}
	}
	return nil
}

func (p *pubNetwork) Conns() (conns []network.Conn) {
	for _, id := range p.Peers() {
		conns = append(conns, p.ConnsToPeer(id)...)
	}
	return conns
}

func (p *pubNetwork) Notify(network.Notifiee)     {}
func (p *pubNetwork) StopNotify(network.Notifiee) {}
func (p *pubNetwork) DialPeer(context.Context, peer.ID) (network.Conn, error) {
	return nil, errNotALink
}
