package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// subscriptionGrace is how long a new link may take to say in which rooms it is.
	subscriptionGrace = 500 * time.Millisecond
	// subscriptionTimeout is the maximum wait of a sender for the subscriptions of a new link, when nobody else is in the room: a far link,
	// or a busy machine.
	subscriptionTimeout = 3 * time.Second
	// simultaneous: two connections that passed within this time were dialled at once from both ends.
	simultaneous = 20 * time.Second
	// duplicateCloseDelay is the delay before a duplicate connection is closed. This node already sends on the other one; a peer that
	// still sends on both closes earlier.
	duplicateCloseDelay = 4 * time.Second
	// aliveFor is how long ago a link's last sign of life may be, probeTimeout how long it may take for another one.
	aliveFor     = 8 * time.Second
	probeTimeout = 3 * time.Second
	maxConns     = 2
)

// link is a peer that has passed, on one connection or, while two cross, on two.
type link struct {
	node     *Node
	id       peer.ID
	instance string
	ctx      context.Context
	cancel   context.CancelFunc
	in       *inbound
	out      *outbound

	// The rest is guarded by node.mu.
	current          *conn
	others           []*conn
	reported         bool
	hasSubscriptions bool // it has sent its subscriptions, or the wait for them is over
	ready            bool // gossipsub has a stream to it
	queued           int  // bytes that gossipsub has queued for it
	rooms            map[string]bool
	reason           string
	// dialable has the listen addresses that the peer has given.
	dialable []ma.Multiaddr
}

// onPassed: the handshake of a connection is over on this side.
func (n *Node) onPassed(c *conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.admitted, c)
	if c.raw.IsClosed() || c.ctx.Err() != nil {
		return &Failure{Stage: "handshake_2", Reason: "the peer closed the connection"}
	}
	delete(n.failures, c.raw.RemoteMultiaddr().String())
	c.since = time.Now()
	c.touch()
	l := n.links[c.id]
	switch {
	case l == nil:
		l = &link{node: n, id: c.id, instance: c.instance, current: c, rooms: map[string]bool{}}
		l.ctx, l.cancel = context.WithCancel(n.ctx)
		l.in, l.out = newInbound(l), newOutbound(l)
		n.links[c.id] = l
		n.gossip.attach(l)
		go l.keepPinging()
		time.AfterFunc(subscriptionGrace, func() { n.reportUp(l) })
		time.AfterFunc(subscriptionTimeout, func() { n.subscribed(l) })
	case l.instance != c.instance:
		return &Failure{Stage: "handshake_2", Code: "DUPLICATE_IDENTITY", Reason: "this identity is linked already, from another process"}
	case len(l.others)+1 >= maxConns:
		return &Failure{Stage: "link", Code: "LIMIT", Reason: "a third connection with one peer"}
	default:
		n.cross(l, c)
	}
	c.link = l
	close(c.passed)
	n.wake()
	return nil
}

// cross decides which of two connections stays. n.mu is held.
func (n *Node) cross(l *link, c *conn) {
	loser := l.current
	if l.current.dialer != c.dialer && c.since.Sub(l.current.since) < simultaneous {
		// The one that the smaller PeerId has dialled stays, on both sides.
		if c.dialer != (n.id < c.id) {
			loser = c
		}
	}
	if loser == c {
		l.others = append(l.others, c)
	} else {
		l.others, l.current = append(l.others, loser), c
		l.out.move()
	}
	time.AfterFunc(duplicateCloseDelay, func() { loser.raw.Close() })
}

// subscribed: the peer has sent its subscriptions, or the wait for them is over.
func (n *Node) subscribed(l *link) {
	n.mu.Lock()
	l.hasSubscriptions = true
	n.wake()
	n.mu.Unlock()
	n.reportUp(l)
}

// reportUp reports a link once the peer has sent its subscriptions, or after a timeout.
func (n *Node) reportUp(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.reported || n.links[l.id] != l {
		return
	}
	l.reported = true
	n.tellUp(l)
	n.wake()
}

func (n *Node) tellUp(l *link) {
	direction := "listener"
	if l.current.dialer {
		direction = "dialer"
	}
	n.tell("link_up", map[string]any{
		"peer_id": l.id.String(), "address": l.current.raw.RemoteMultiaddr().String(), "direction": direction, "links": len(n.links),
	})
}

// detach: a connection is gone, and with it the link, or its other connection takes over.
func (n *Node) detach(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := c.link
	if l == nil || n.links[l.id] != l {
		return
	}
	for i, other := range l.others {
		if other == c {
			l.others = append(l.others[:i:i], l.others[i+1:]...)
			return
		}
	}
	if l.current != c {
		return
	}
	if len(l.others) > 0 {
		l.current, l.others = l.others[0], l.others[1:]
		l.out.move()
		return
	}
	if !l.reported {
		l.reported = true
		n.tellUp(l)
	}
	delete(n.links, l.id)
	l.in.close()
	l.cancel()
	if l.reason == "" {
		l.reason = "the peer closed the link, or it was lost"
	}
	n.tell("link_down", map[string]any{"peer_id": l.id.String(), "reason": l.reason, "links": len(n.links)})
	n.wake()
}

// hangUp closes a link; the first reason counts.
func (n *Node) hangUp(l *link, reason string) {
	n.mu.Lock()
	if l.reason == "" {
		l.reason = reason
	}
	conns := append([]*conn{l.current}, l.others...)
	n.mu.Unlock()
	for _, c := range conns {
		c.raw.Close()
	}
}

// The offence of a link's peer.
const (
	codeViolation      = "VIOLATION"
	codeInvalidBatch   = "INVALID_BATCH"
	codeInvalidOverlay = "INVALID_OVERLAY"
)

// closeOffender closes a link after an offence of its peer, and reports the broken rule.
func (n *Node) closeOffender(c *conn, code, reason string) {
	n.refuse(c.id, c.raw.RemoteMultiaddr(), false, &Failure{Stage: "link", Code: code, Reason: reason})
	n.hangUp(c.link, reason)
}

func (l *link) connection() *conn {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	return l.current
}

func (l *link) waitDown() { <-l.ctx.Done() }

// linkOf is the link with a peer, or nil.
func (n *Node) linkOf(id peer.ID) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[id]
}
