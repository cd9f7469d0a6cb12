package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	redialFirst = 500 * time.Millisecond
	redialMost  = 30 * time.Second
)

// KeepDialing dials until there is a link, and again when it is lost; after a handover only when links are wanting.
func (n *Node) KeepDialing(address ma.Multiaddr) {
	wait := redialFirst
	for n.ctx.Err() == nil {
		l, err := n.Dial(n.ctx, address)
		if err == nil {
			wait = redialFirst
			n.over.join(l)
			<-l.ctx.Done()
			n.over.waitForWant(l)
		} else {
			var f *Failure
			// A failed handshake was reported by its connection.
			if errors.As(err, &f) && !strings.HasPrefix(f.Stage, "handshake") && f.Stage != "link" {
				n.refuse("", address, true, f)
			}
		}
		sleep(n.ctx, time.Duration(float64(wait)*(0.75+mathrand.Float64()/2)))
		wait = min(wait*2, redialMost)
	}
}

// Dial dials one address, to the link. An error is a *Failure.
func (n *Node) Dial(ctx context.Context, address ma.Multiaddr) (*link, error) {
	transport, id := peer.SplitAddr(address)
	if transport == nil {
		return nil, &Failure{Stage: "address", Reason: fmt.Sprintf("%s has no address before /p2p", address)}
	}
	if id == "" {
		var err error
		if id, err = n.whoIs(ctx, transport); err != nil {
			return nil, err
		}
	}
	return n.dialPeer(ctx, id, []ma.Multiaddr{transport})
}

func (n *Node) dialPeer(ctx context.Context, id peer.ID, addresses []ma.Multiaddr) (*link, error) {
	if id == n.id {
		return nil, &Failure{Stage: "address", Code: "OWN_ID", Reason: "this is the node's own address"}
	}
	if l := n.linkOf(id); l != nil {
		return l, nil
	}
	raw, err := n.dialRaw(ctx, id, addresses)
	if err != nil {
		return nil, failureOf(err)
	}
	// The peer's own dial may have been first: then this is that connection.
	return n.connOf(raw).wait(ctx)
}

func (n *Node) dialRaw(ctx context.Context, id peer.ID, addresses []ma.Multiaddr) (network.Conn, error) {
	n.gater.allow(id, addresses)
	defer n.gater.allow(id, nil)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	store := n.host.Network().Peerstore()
	store.ClearAddrs(id)
	store.AddAddrs(id, addresses, peerstore.TempAddrTTL)
	// When to dial again is for the caller to say.
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(id)
	}
	return n.host.Network().DialPeer(ctx, id)
}

// whoIs returns the PeerId that answers at an address. go-libp2p dials only known PeerIds; but it reports the one it met
// instead of another one.
func (n *Node) whoIs(ctx context.Context, address ma.Multiaddr) (peer.ID, error) {
	_, public, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	nobody, err := peer.IDFromPublicKey(public)
	if err != nil {
		return "", err
	}
	_, err = n.dialRaw(ctx, nobody, []ma.Multiaddr{address})
	var met sec.ErrPeerIDMismatch
	if errors.As(err, &met) {
		return met.Actual, nil
	}
	return "", failureOf(err)
}

// failureOf names the stage at which a dial failed.
func failureOf(err error) error {
	f := &Failure{Stage: "websocket", Reason: err.Error()}
	var failed *swarm.DialError
	if errors.As(err, &failed) && len(failed.DialErrors) > 0 {
		f.Reason = failed.DialErrors[0].Cause.Error()
	}
	says := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(f.Reason, part) {
				return true
			}
		}
		return false
	}
	var mismatch sec.ErrPeerIDMismatch
	switch {
	case errors.As(err, &mismatch):
		f.Stage, f.Code = "noise", "WRONG_PEER"
		f.Reason = fmt.Sprintf("another peer answers there: %s", mismatch.Actual)
	case errors.Is(err, context.DeadlineExceeded) || says("i/o timeout"):
		f.Stage, f.Code = "tcp", "TIMEOUT"
	case errors.Is(err, swarm.ErrNoTransport), errors.Is(err, swarm.ErrNoGoodAddresses):
		f.Stage = "address"
	case says("no such host", "lookup"):
		f.Stage = "resolve"
	case says("connection refused", "unreachable", "no route"):
		f.Stage = "tcp"
	case says("tls:", "x509"):
		f.Stage = "tls"
	case says("security protocol", "noise"):
		f.Stage = "noise"
	case says("multiplexer", "muxer"):
		f.Stage = "yamux"
	}
	return f
}
