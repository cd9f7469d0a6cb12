// Package node is a diatribe node on go-libp2p: handshakes, gate, links, rooms, and an overlay that obeys redirects.
//
// Entry points: New, Join, Dial and Say. The rule it keeps: nothing behind the gate learns of a connection before its
// peer has passed. go-libp2p-pubsub in particular gets a host of its own (pubhost.go), on which there are links only.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"diatribe.invalid/peer/handshake"
	"diatribe.invalid/peer/identity"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Config is the configuration of a node.
type Config struct {
	Seed       []byte
	NetworkKey []byte
	Listen     []ma.Multiaddr
	// Trust is the allow-list, when it is not empty; Deny takes precedence.
	Trust, Deny []peer.ID
	// MaxLinks is how many links it keeps; one more while it takes part in a handover.
	MaxLinks int
	// Tell is called with every line that the node says, one at a time.
	Tell func(kind string, fields map[string]any)
}

const (
	// defaultMaxLinks is the overlay's number.
	defaultMaxLinks = 5
	maxRooms        = 32
	// maxHandshakes is how many inbound connections may wait for their handshake.
	maxHandshakes = 64
	// maxFailures is the number of remembered addresses with a reported failure.
	maxFailures = 1024
)

// Node is a running node.
type Node struct {
	config Config
	id     peer.ID
	local  *handshake.Local
	// networkID is the network id in the signature of batches.
	networkID []byte
	host      host.Host
	gater     *gater
	pubsub    *pubsub.PubSub
	gossip    *gossip
	over      *overlay

	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex
	// conns are all connections, proved or not.
	conns map[network.Conn]*conn
	links map[peer.ID]*link
	// admitted are connections that have proved their key and wait for the pass.
	admitted map[*conn]peer.ID
	rooms    map[string]*room
	// failures are the last reported ones of the dialled addresses.
	failures map[string]string
	// changed is closed, and made anew, when something happened for which a sender may wait.
	changed chan struct{}
}

// New starts a node. It listens when it returns.
func New(config Config) (*Node, error) {
	own, err := identity.FromSeed(config.Seed)
	if err != nil {
		return nil, err
	}
	if config.MaxLinks == 0 {
		config.MaxLinks = defaultMaxLinks
	}
	instance := make([]byte, 16)
	rand.Read(instance)
	n := &Node{
		config:    config,
		id:        peer.ID(own.PeerID),
		local:     &handshake.Local{Identity: own, Instance: instance, NetworkKey: config.NetworkKey},
		gater:     &gater{allowed: map[peer.ID][]ma.Multiaddr{}},
		networkID: identity.NetworkID(config.NetworkKey),
		conns:     map[network.Conn]*conn{},
		links:     map[peer.ID]*link{},
		admitted:  map[*conn]peer.ID{},
		rooms:     map[string]*room{},
		failures:  map[string]string{},
		changed:   make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.over = newOverlay(n)
	n.host, err = newHost(n, own.PrivateKey())
	if err != nil {
		return nil, err
	}
	n.gossip = newGossip(n)
	if n.pubsub, err = n.gossip.start(); err != nil {
		return nil, err
	}
	n.host.Network().SetStreamHandler(n.onStream)
	n.host.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { n.connOf(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { n.onClosed(c) },
	})
	// Only now: no connection may arrive before the gate is there.
	if len(config.Listen) > 0 {
		if err := n.host.Network().Listen(config.Listen...); err != nil {
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
	}
	return n, nil
}

// ID is the node's PeerId.
func (n *Node) ID() peer.ID { return n.id }

// Addresses are where the node can be dialled, /p2p/ included.
func (n *Node) Addresses() []ma.Multiaddr {
	listening := n.listening()
	for i, address := range listening {
		listening[i] = address.Encapsulate(ma.StringCast("/p2p/" + n.id.String()))
	}
	return listening
}

func (n *Node) listening() []ma.Multiaddr {
	addresses, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	return addresses
}

// Close ends the node.
func (n *Node) Close() {
	n.cancel()
	n.host.Close()
}

// tell says a line. n.mu may be held.
func (n *Node) tell(kind string, fields map[string]any) { n.config.Tell(kind, fields) }

// wake lets senders look again. n.mu is held.
func (n *Node) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Failure is the reason of a failed connection.
type Failure struct {
	Stage, Code, Reason string
}

func (f *Failure) Error() string { return f.Reason }

// refuse reports a failed connection; for a dialled address, only the first of several in a row.
func (n *Node) refuse(id peer.ID, address ma.Multiaddr, dialled bool, f *Failure) {
	line := map[string]any{"address": address.String(), "stage": f.Stage, "code": nil, "reason": f.Reason}
	if f.Code != "" {
		line["code"] = f.Code
	}
	if id != "" {
		line["peer_id"] = id.String()
	}
	if dialled {
		n.mu.Lock()
		if len(n.failures) >= maxFailures {
			clear(n.failures)
		}
		same := n.failures[address.String()] == f.Stage+f.Code
		n.failures[address.String()] = f.Stage + f.Code
		n.mu.Unlock()
		if same {
			return
		}
	}
	n.tell("refused", line)
}

var errClosed = errors.New("the connection is closed")

func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}
