package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	pingProtocol protocolID = "/ipfs/ping/1.0.0"
	pingSize                = 32
	pingEvery               = 5 * time.Second
	pingTimeout             = 10 * time.Second
	// maxPingStreams is how many streams of a peer are answered at a time.
	maxPingStreams = 4
)

// answerPings answers as long as the peer asks, before the pass as on a link.
func (c *conn) answerPings(s network.Stream) {
	defer s.Reset()
	if c.pings.Add(1) > maxPingStreams {
		c.pings.Add(-1)
		return
	}
	defer c.pings.Add(-1)
	payload := make([]byte, pingSize)
	for {
		if _, err := io.ReadFull(s, payload); err != nil {
			return
		}
		c.touch()
		s.SetWriteDeadline(time.Now().Add(pingTimeout))
		if _, err := s.Write(payload); err != nil {
			return
		}
	}
}

// keepPinging closes a link without an answer to its pings.
func (l *link) keepPinging() {
	var s network.Stream
	var on *conn
	defer func() {
		if s != nil {
			s.Reset()
		}
	}()
	for sleep(l.ctx, pingEvery) {
		c := l.connection()
		ctx, cancel := context.WithTimeout(l.ctx, pingTimeout)
		if s != nil && c != on {
			s.Close()
			s = nil
		}
		var err error
		if s != nil {
			err = ping(ctx, s)
		}
		if s == nil || err != nil {
			// The library on the other side may give every stream an end: a second try on a new one.
			if s, err = openStream(ctx, c.raw, pingProtocol); err == nil {
				err = ping(ctx, s)
			}
		}
		cancel()
		on = c
		if err != nil && l.connection() == c && l.ctx.Err() == nil {
			l.node.hangUp(l, "the peer answers no ping: "+err.Error())
			return
		}
		c.touch()
	}
}

// ping asks once.
func ping(ctx context.Context, s network.Stream) error {
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	payload := make([]byte, pingSize)
	rand.Read(payload)
	if _, err := s.Write(payload); err != nil {
		return err
	}
	answer := make([]byte, pingSize)
	if _, err := io.ReadFull(s, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, payload) {
		return errors.New("it answers something else")
	}
	return nil
}

// isAlive says whether a link gave a sign of life lately or gives one when asked.
func (l *link) isAlive() bool {
	c := l.connection()
	if time.Since(c.lastSign()) < aliveFor {
		return true
	}
	ctx, cancel := context.WithTimeout(l.ctx, probeTimeout)
	defer cancel()
	s, err := openStream(ctx, c.raw, pingProtocol)
	if err != nil {
		return false
	}
	defer s.Reset()
	return ping(ctx, s) == nil
}
