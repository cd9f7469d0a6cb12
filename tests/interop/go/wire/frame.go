// Package wire is the form that handshake and overlay share on a stream: frames, and protocol buffers inside them.
//
// Entry points: ReadFrame, WriteFrame and Fields. The rules it keeps: no more memory than the limit is allocated for a
// length that a stranger sends, and a malformed frame (ErrNoFrame) is distinguished from a stream that ended.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrNoFrame is a violation: bytes that are no frame.
var ErrNoFrame = errors.New("not a frame")

// Frame puts the length before a body.
func Frame(body []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

// WriteFrame writes one frame and half-closes the stream.
func WriteFrame(stream interface {
	io.Writer
	CloseWrite() error
}, body []byte) error {
	if _, err := stream.Write(Frame(body)); err != nil {
		return err
	}
	return stream.CloseWrite()
}

// ReadFrame reads one frame of at most limit bytes. It does not wait for the half-close.
func ReadFrame(stream io.Reader, limit int) ([]byte, error) {
	n, err := readLength(stream, limit)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(stream, body); err != nil {
		return nil, fmt.Errorf("the stream ended within a frame: %w", err)
	}
	return body, nil
}

// ReadEnd waits for the half-close after a frame. More bytes are a violation.
func ReadEnd(stream io.Reader) error {
	switch n, err := io.ReadFull(stream, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%w: there are bytes after it", ErrNoFrame)
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

func readLength(stream io.Reader, limit int) (int, error) {
	n, one := 0, make([]byte, 1)
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(stream, one); err != nil {
			return 0, err
		}
		bits, last := int(one[0]&0x7f), one[0] < 0x80
		if last && bits == 0 && shift > 0 {
			return 0, fmt.Errorf("%w: its length is not minimal", ErrNoFrame)
		}
		n |= bits << shift
		// Further bytes can only make it larger: a missing last byte adds at least the next bit.
		least := n
		if !last {
			least = max(n, 1<<(shift+7))
		}
		switch {
		case least > limit:
			return 0, fmt.Errorf("%w: it is longer than %d bytes", ErrNoFrame, limit)
		case last && n == 0:
			return 0, fmt.Errorf("%w: it is empty", ErrNoFrame)
		case last:
			return n, nil
		}
	}
}
