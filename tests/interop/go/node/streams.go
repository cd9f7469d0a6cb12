package node

// Virtual streams for go-libp2p-pubsub: one in each direction for the life of a link, independent of the real streams.
//
// It keeps one stream a peer and direction, and loses with it: a second inbound stream resets the first one with what
// is on its way; the end of the outbound one makes it forget the peer's rooms, which the peer does not say again; and
// the fourth end in a row is the last. Connections that cross, and peers that open a stream for each, do all of that.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"diatribe.invalid/peer/wire"
)

const (
	// maxRPC is the largest RPC that is taken.
	maxRPC = 1_180_672
	// streamLost is how long a link may be without a stream in one direction.
	streamLost = 30 * time.Second
	// reopenEvery is the pause before a stream is opened anew.
	reopenEvery  = 250 * time.Millisecond
	writeTimeout = 30 * time.Second
)

var errTooLarge = errors.New("the RPC is too large")

// acceptGossip takes a gossip stream: from the pass on, its RPCs go to gossipsub.
func (c *conn) acceptGossip(s network.Stream) {
	select {
	case <-c.passed:
	case <-c.ctx.Done():
		s.Reset()
		return
	}
	stop := context.AfterFunc(c.ctx, func() { s.Reset() })
	defer stop()
	c.link.in.pump(c, s)
	s.Reset()
}

// inbound is a link's inbound stream: the RPCs of all its connections, one after the other.
type inbound struct {
	fake
	link   *link
	frames chan []byte
	rest   []byte

	mu    sync.Mutex
	pumps int
	timer *time.Timer
}

func newInbound(l *link) *inbound {
	in := &inbound{fake: fake{l}, link: l, frames: make(chan []byte)}
	in.timer = time.AfterFunc(streamLost, in.lost)
	return in
}

func (in *inbound) lost() {
	if in.link.ctx.Err() == nil {
		in.link.node.hangUp(in.link, "the peer has no gossip stream for 30 s: a new link is needed")
	}
}

// pump reads whole RPCs, and no more while gossipsub or a queue is full.
func (in *inbound) pump(c *conn, s network.Stream) {
	in.mu.Lock()
	in.pumps++
	in.timer.Stop()
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.pumps--; in.pumps == 0 && in.link.ctx.Err() == nil {
			in.timer.Reset(streamLost)
		}
	}()
	reader := bufio.NewReader(s)
	for {
		body, err := readRPC(reader)
		if err != nil {
			return
		}
		c.touch()
		in.link.node.gossip.holdBack(in.link.ctx)
		select {
		case in.frames <- wire.Frame(body):
		case <-in.link.ctx.Done():
			return
		}
	}
}

// readRPC reads one RPC that is not empty. One that is too large, or has no length, is the end of the stream and no more:
// the contract calls neither an offence.
func readRPC(stream *bufio.Reader) ([]byte, error) {
	for {
		n, err := binary.ReadUvarint(stream)
		switch {
		case err != nil:
			return nil, err
		case n > maxRPC:
			return nil, errTooLarge
		case n == 0:
			continue
		}
		body := make([]byte, n)
		_, err = io.ReadFull(stream, body)
		return body, err
	}
}

func (in *inbound) Read(p []byte) (int, error) {
	if len(in.rest) == 0 {
		select {
		case in.rest = <-in.frames:
		case <-in.link.ctx.Done():
			return 0, io.EOF
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// Reset: gossipsub cannot read the peer's RPC, and reads no more on this link. It is no offence.
func (in *inbound) Reset() error {
	if in.link.ctx.Err() == nil {
		go in.link.node.hangUp(in.link, "the peer sent an RPC that cannot be read: a new link is needed")
	}
	return nil
}

func (in *inbound) close() { in.timer.Stop() }

// outbound is a link's outbound stream. Each Write is one RPC; where the stream below breaks, a new one begins with the
// first RPC again, the one that says the rooms.
type outbound struct {
	fake
	link *link
	mu   sync.Mutex
	// below is nil while there is none; on is its connection.
	below    network.Stream
	on       *conn
	protocol protocol.ID
	hello    []byte
	// given: gossipsub has it, and gone is closed when it has given it up.
	given bool
	gone  chan struct{}
}

func newOutbound(l *link) *outbound {
	return &outbound{fake: fake{l}, link: l, gone: make(chan struct{})}
}

// open opens the stream for gossipsub.
func (out *outbound) open() error {
	out.mu.Lock()
	defer out.mu.Unlock()
	out.given = true
	return out.reopen()
}

// reopen opens a stream below on the link's current connection, and tries for as long as it may take. out.mu is held.
func (out *outbound) reopen() error {
	for end := time.Now().Add(streamLost); time.Now().Before(end); {
		c := out.link.connection()
		if out.tryOpen(c) {
			return nil
		}
		if !sleep(out.link.ctx, reopenEvery) {
			return errClosed
		}
	}
	out.link.node.hangUp(out.link, "the peer takes no gossip stream for 30 s: a new link is needed")
	return errClosed
}

func (out *outbound) tryOpen(c *conn) bool {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	s, err := openStream(ctx, c.raw, gossipProtocols...)
	if err != nil {
		return false
	}
	if out.hello != nil {
		s.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := s.Write(out.hello); err != nil {
			s.Reset()
			return false
		}
	}
	if out.below != nil {
		out.below.CloseWrite()
	}
	out.below, out.on, out.protocol = s, c, s.Protocol()
	go out.watch(s)
	return true
}

// watch notices that the stream below is gone.
func (out *outbound) watch(s network.Stream) {
	s.Read(make([]byte, 1))
	if !sleep(out.link.ctx, reopenEvery) {
		return
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.below == s {
		out.below.Reset()
		out.below = nil
		out.reopen()
	}
}

// move lets the next RPC go over the link's current connection.
func (out *outbound) move() {
	go func() {
		out.mu.Lock()
		defer out.mu.Unlock()
		if out.given && out.on != out.link.connection() && out.link.ctx.Err() == nil {
			out.reopen()
		}
	}()
}

func (out *outbound) Write(rpc []byte) (int, error) {
	out.mu.Lock()
	defer out.mu.Unlock()
	first := out.hello == nil
	if first {
		out.hello = append([]byte(nil), rpc...)
	}
	for {
		if out.below == nil {
			if err := out.reopen(); err != nil {
				return 0, err
			}
			if first {
				break // it was sent
			}
		}
		out.below.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := out.below.Write(rpc)
		if err == nil {
			break
		}
		out.below.Reset()
		out.below = nil
		if out.link.ctx.Err() != nil {
			return 0, err
		}
	}
	if !first {
		_, size := binary.Uvarint(rpc)
		out.link.node.gossip.unqueue(out.link, len(rpc)-size)
	}
	return len(rpc), nil
}

// Read ends with the link: for gossipsub this is how a peer dies.
func (out *outbound) Read([]byte) (int, error) {
	<-out.link.ctx.Done()
	return 0, io.EOF
}

func (out *outbound) Protocol() protocol.ID {
	out.mu.Lock()
	defer out.mu.Unlock()
	return out.protocol
}

// fake has the methods of a stream that gossipsub does not need.
type fake struct{ of *link }

func (f fake) Conn() network.Conn                         { return f.of.connection().raw }
func (fake) Protocol() protocol.ID                        { return gossipProtocols[0] }
func (fake) Write([]byte) (int, error)                    { return 0, io.ErrClosedPipe }
func (fake) ID() string                                   { return "" }
func (fake) SetProtocol(protocol.ID) error                { return nil }
func (fake) Stat() network.Stats                          { return network.Stats{} }
func (fake) Scope() network.StreamScope                   { return &network.NullScope{} }
func (fake) Close() error                                 { return nil }
func (fake) CloseRead() error                             { return nil }
func (fake) CloseWrite() error                            { return nil }
func (fake) Reset() error                                 { return nil }
func (fake) ResetWithError(network.StreamErrorCode) error { return nil }
func (fake) SetDeadline(time.Time) error                  { return nil }
func (fake) SetReadDeadline(time.Time) error              { return nil }
func (fake) SetWriteDeadline(time.Time) error             { return nil }
