package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"diatribe.invalid/peer/handshake"
)

// conn is a connection that noise has authenticated: at first a stranger's, then part of a link.
type conn struct {
	node   *Node
	raw    network.Conn
	id     peer.ID
	dialer bool
	// ctx ends with the connection; its cause is why.
	ctx    context.Context
	cancel context.CancelCauseFunc

	requests chan *request
	mu       sync.Mutex
	credits  int // how many requests of the handshake may arrive

	// inbound: the gate is open for the peer's streams.
	inbound   atomic.Bool
	saidHello atomic.Bool
	streams   atomic.Int32
	pings     atomic.Int32
	overlays  atomic.Int32
	sign      atomic.Int64

	instance string
	// over is closed when the handshake is, with failure set when it did not pass; passed is closed when link is set.
	over    chan struct{}
	failure error
	passed  chan struct{}
	since   time.Time
	link    *link
}

// connOf returns the state of a connection; a new one begins its handshake.
func (n *Node) connOf(raw network.Conn) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, known := n.conns[raw]; known {
		return c
	}
	c := &conn{
		node: n, raw: raw, id: raw.RemotePeer(), dialer: raw.Stat().Direction == network.DirOutbound,
		requests: make(chan *request, 1), over: make(chan struct{}), passed: make(chan struct{}),
	}
	if !c.dialer {
		// Already now: the peer's Hello may be read before the handshake has begun to run.
		c.credits = 1
	}
	c.ctx, c.cancel = context.WithCancelCause(n.ctx)
	if raw.IsClosed() {
		// It may have been here and failed already: its dialer waits for the end, and gets one.
		gone := peerClosed()
		gone.Stage, c.failure = "handshake_1", gone
		close(c.over)
		c.cancel(gone)
		return c
	}
	n.conns[raw] = c
	waiting := 0
	for _, other := range n.conns {
		if other.link == nil && !other.dialer {
			waiting++
		}
	}
	if !c.dialer && waiting > maxHandshakes {
		go raw.Close()
		return c
	}
	go c.run()
	return c
}

func (c *conn) run() {
	err := c.handshake()
	if err == nil {
		err = c.node.onPassed(c)
	}
	if err != nil {
		c.failure = err
		close(c.over)
		c.node.forget(c)
		c.raw.Close()
		c.cancel(errClosed)
		var f *Failure
		// A stranger that disconnects before it sends anything is not reported.
		if errors.As(err, &f) && (c.dialer || c.saidHello.Load() || f.Code != "") {
			c.node.refuse(c.id, c.raw.RemoteMultiaddr(), c.dialer, f)
		}
		return
	}
	close(c.over)
}

// wait yields the link, or why there is none.
func (c *conn) wait(ctx context.Context) (*link, error) {
	select {
	case <-c.over:
		return c.link, c.failure
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *conn) touch() { c.sign.Store(time.Now().UnixNano()) }

func (c *conn) lastSign() time.Time { return time.Unix(0, c.sign.Load()) }

// judge decides about a peer that has proved its key: checks 20 to 22.
func (n *Node) judge(c *conn) handshake.Code {
	for _, denied := range n.config.Deny {
		if denied == c.id {
			return handshake.CodePolicy
		}
	}
	trusted := len(n.config.Trust) == 0
	for _, id := range n.config.Trust {
		trusted = trusted || id == c.id
	}
	if !trusted {
		return handshake.CodePolicy
	}
	n.mu.Lock()
	old := n.links[c.id]
	n.mu.Unlock()
	if old != nil && old.instance != c.instance {
		if old.isAlive() {
			return handshake.CodeDuplicateIdentity
		}
		n.hangUp(old, "another process has come with its identity, and it answers nothing")
		old.waitDown()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	places := map[peer.ID]bool{}
	for _, id := range n.admitted {
		places[id] = true
	}
	for id := range n.links {
		places[id] = true
	}
	places[c.id] = true
	if len(places) > n.config.MaxLinks+n.over.extra() {
		return handshake.CodeBusy
	}
	n.admitted[c] = c.id
	return 0
}

func (n *Node) forget(c *conn) {
	n.mu.Lock()
	delete(n.admitted, c)
	n.mu.Unlock()
}

// onClosed: libp2p says that a connection is gone.
func (n *Node) onClosed(raw network.Conn) {
	n.mu.Lock()
	c := n.conns[raw]
	delete(n.conns, raw)
	n.mu.Unlock()
	if c == nil {
		return
	}
	c.cancel(peerClosed())
	n.forget(c)
	n.detach(c)
}
