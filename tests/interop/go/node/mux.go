package node

// Streams, negotiated for each connection: the gate's two doors. go-libp2p negotiates for the whole host, so that a
// protocol is either there for everyone or for nobody; here a stream that arrives too early gets `na`.

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	multistream "github.com/multiformats/go-multistream"

	"diatribe.invalid/peer/handshake"
)

type protocolID = protocol.ID

const (
	negotiationTimeout = 5 * time.Second
	// maxStreams is how many streams of a peer are there on a connection at any time.
	maxStreams = 64

	overlayProtocol protocolID = "/diatribe/overlay/1.0.0"
)

var gossipProtocols = []protocolID{"/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"}

// onStream takes every stream that a peer opens.
func (n *Node) onStream(s network.Stream) {
	c := n.connOf(s.Conn())
	if c.streams.Add(1) > maxStreams {
		c.streams.Add(-1)
		s.Reset()
		return
	}
	defer c.streams.Add(-1)
	handle := func(network.Stream) {}
	offer := multistream.NewMultistreamMuxer[protocolID]()
	add := func(handler func(network.Stream), ids ...protocolID) {
		for _, id := range ids {
			offer.AddHandler(id, func(protocolID, io.ReadWriteCloser) error { return nil })
			taken := handle
			handle = func(s network.Stream) {
				if s.Protocol() == id {
					handler(s)
				} else {
					taken(s)
				}
			}
		}
	}
	add(c.acceptHandshake, handshake.Protocol)
	add(c.answerPings, pingProtocol)
	add(func(s network.Stream) { n.library(s) }, identify.ID, identify.IDPush)
	if c.inbound.Load() {
		add(c.acceptGossip, gossipProtocols...)
		add(c.acceptOverlay, overlayProtocol)
	}
	s.SetDeadline(time.Now().Add(negotiationTimeout))
	id, _, err := offer.Negotiate(s)
	if err == nil {
		err = s.SetProtocol(id)
	}
	if err != nil {
		s.Reset()
		return
	}
	s.SetDeadline(time.Time{})
	handle(s)
}

// library hands a stream to go-libp2p's own handler. A Switch only yields it at the end of a negotiation: this is one
// that takes place in memory.
func (n *Node) library(s network.Stream) {
	var question bytes.Buffer
	if err := multistream.SelectProtoOrFail(s.Protocol(), &talk{in: asked(s.Protocol()), out: &question}); err != nil {
		s.Reset()
		return
	}
	id, handler, err := n.host.Mux().Negotiate(&talk{in: &question, out: io.Discard})
	if err != nil {
		s.Reset()
		return
	}
	handler(id, s)
}

// asked is the response of a server that speaks the protocol.
func asked(id protocolID) io.Reader {
	var answer bytes.Buffer
	for _, token := range []string{multistream.ProtocolID, string(id)} {
		answer.WriteByte(byte(len(token) + 1))
		answer.WriteString(token + "\n")
	}
	return &answer
}

type talk struct {
	in  io.Reader
	out io.Writer
}

func (t *talk) Read(p []byte) (int, error)  { return t.in.Read(p) }
func (t *talk) Write(p []byte) (int, error) { return t.out.Write(p) }
func (*talk) Close() error                  { return nil }

// openStream opens a stream on this very connection. A host's NewStream chooses one itself and waits for identify.
func openStream(ctx context.Context, c network.Conn, ids ...protocolID) (network.Stream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	id, err := multistream.SelectOneOf(ids, s)
	if err == nil {
		err = s.SetProtocol(id)
	}
	if err != nil {
		s.Reset()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return s, nil
}

func isUnsupported(err error) bool {
	_, unsupported := err.(multistream.ErrNotSupported[protocolID])
	return unsupported
}
