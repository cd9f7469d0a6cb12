package node

// The handshake of one connection: the state machine carried over streams, with its deadlines.

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"diatribe.invalid/peer/handshake"
	"diatribe.invalid/peer/wire"
)

const (
	frameTimeout     = 3 * time.Second
	handshakeTimeout = 10 * time.Second
	rejectFlush      = 500 * time.Millisecond
)

// request is a frame on a stream that the peer opened.
type request struct {
	stream network.Stream
	body   []byte
}

// handshake runs it to the pass. An error is a *Failure, and the connection is to be closed.
func (c *conn) handshake() error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, handshakeTimeout, &Failure{Code: "TIMEOUT", Reason: "the handshake did not pass within 10 s of the connection"})
	defer cancel()
	var machine *handshake.Machine
	var step handshake.Step
	if c.dialer {
		machine, step.Request = handshake.Dial(c.node.local, []byte(c.id), handshake.System)
	} else {
		machine = handshake.Listen(c.node.local, []byte(c.id), handshake.System)
	}
	for {
		var from *request
		body, due := []byte(nil), machine.Due()
		err := error(nil)
		if step.Request != nil {
			if c.dialer && due == "Pass" {
				// Streams overtake each other: round 2's Hello may arrive before round 1's Pass.
				c.credit(1)
			}
			body, err = c.exchange(ctx, step.Request, due)
		} else if from, err = c.next(ctx, due); err == nil {
			body = from.body
			if due == "Hello" {
				c.saidHello.Store(true)
				c.credit(1) // for the Answer
			}
		}
		if err == nil {
			step, err = machine.Receive(body)
		}
		if err == nil && step.Proved {
			c.instance = hex.EncodeToString(machine.PeerInstance())
			if code := c.node.judge(c); code != 0 {
				err = &handshake.Refused{Code: code, Reason: fmt.Sprintf("this node refuses the peer: %s", code)}
			}
		}
		if err != nil {
			return c.fail(ctx, machine.Round(), from, err)
		}
		if step.OpenInbound {
			c.inbound.Store(true)
		}
		if step.Respond != nil {
			if err := c.respond(ctx, from.stream, step.Respond, frameTimeout); err != nil {
				return c.fail(ctx, machine.Round(), nil, err)
			}
		}
		if step.Passed {
			return nil
		}
	}
}

// exchange sends a request on a stream of its own and reads the response.
func (c *conn) exchange(ctx context.Context, body []byte, due string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, frameTimeout, &Failure{Code: "TIMEOUT", Reason: "the peer sent no " + due + " within 3 s"})
	defer cancel()
	s, err := openStream(ctx, c.raw, handshake.Protocol)
	if err != nil {
		return nil, c.cause(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := wire.WriteFrame(s, body); err != nil {
		return nil, c.cause(ctx, err)
	}
	response, err := wire.ReadFrame(s, handshake.MaxFrame)
	if err != nil {
		return nil, c.cause(ctx, err)
	}
	go c.watchEnd(s)
	return response, nil
}

func (c *conn) respond(ctx context.Context, s network.Stream, body []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, &Failure{Code: "TIMEOUT", Reason: "the peer did not take a response within 3 s"})
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := wire.WriteFrame(s, body); err != nil {
		return c.cause(ctx, err)
	}
	return nil
}

// next is the peer's next request.
func (c *conn) next(ctx context.Context, due string) (*request, error) {
	select {
	case r := <-c.requests:
		return r, nil
	case <-time.After(frameTimeout):
		return nil, &Failure{Code: "TIMEOUT", Reason: "the peer sent no " + due + " within 3 s"}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// credit allows the peer that many more requests, and no more.
func (c *conn) credit(requests int) {
	c.mu.Lock()
	c.credits = requests
	c.mu.Unlock()
}

// acceptHandshake takes a handshake stream of the peer.
func (c *conn) acceptHandshake(s network.Stream) {
	s.SetReadDeadline(time.Now().Add(frameTimeout))
	body, err := wire.ReadFrame(s, handshake.MaxFrame)
	if err != nil {
		s.Reset()
		// A stream that is reset is the peer's affair; one that ends before its frame, or has other bytes, is a violation.
		if errors.Is(err, wire.ErrNoFrame) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			c.violate(err.Error())
		}
		return
	}
	c.mu.Lock()
	due := c.credits > 0
	if due {
		c.credits--
	}
	c.mu.Unlock()
	if !due {
		c.violate("the peer sent a frame where none was due")
		return
	}
	select {
	case c.requests <- &request{s, body}:
	case <-c.ctx.Done():
		s.Reset()
		return
	}
	c.watchEnd(s)
}

// watchEnd waits for the peer's half-close: bytes after a frame are a violation.
func (c *conn) watchEnd(s network.Stream) {
	s.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if err := wire.ReadEnd(s); errors.Is(err, wire.ErrNoFrame) {
		c.violate(err.Error())
	}
	s.CloseRead()
}

// violate ends the connection, whether its handshake runs or is over.
func (c *conn) violate(reason string) {
	c.cancel(&Failure{Code: "VIOLATION", Reason: reason})
	select {
	case <-c.passed:
		c.node.closeOffender(c, codeViolation, reason)
	default:
	}
}

// fail sends the Reject of a server, and names the failure.
func (c *conn) fail(ctx context.Context, round int, from *request, err error) error {
	f := &Failure{}
	var refused *handshake.Refused
	var rejected *handshake.Rejected
	var violation *handshake.Violation
	switch {
	case errors.As(err, &refused):
		f.Code, f.Reason = refused.Code.String(), refused.Reason
		if from != nil {
			c.credit(0)
			if c.respond(ctx, from.stream, handshake.RejectFrame(refused.Code), rejectFlush) == nil {
				// The peer closes: after a close here the Reject would not arrive.
				select {
				case <-c.ctx.Done():
				case <-time.After(rejectFlush):
				}
			}
		}
	case errors.As(err, &rejected):
		f.Code, f.Reason = rejected.Code.String(), rejected.Error()
	case errors.As(err, &violation):
		f.Code, f.Reason = "VIOLATION", violation.Reason
	case errors.As(err, &f):
	case errors.Is(err, wire.ErrNoFrame):
		f.Code, f.Reason = "VIOLATION", err.Error()
	case isUnsupported(err):
		f.Reason = "the peer does not speak " + handshake.Protocol + ": it is another libp2p program, or another version of diatribe"
	default:
		f.Reason = "a handshake stream failed: " + err.Error()
	}
	f.Stage = fmt.Sprintf("handshake_%d", round)
	return f
}

// cause is why a stream failed: the deadline or the end of the connection, when it was one of them.
func (c *conn) cause(ctx context.Context, err error) error {
	// The connection's end and the error of its streams arrive in any order.
	if ctx.Err() == nil && c.raw.IsClosed() {
		return peerClosed()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func peerClosed() *Failure {
	return &Failure{Reason: "the peer closed the connection before the handshake was over"}
}
