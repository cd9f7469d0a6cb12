package node

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// Every implementation takes 1 MiB in a DATA frame, and some not more.
func TestYamuxSendsSmallFrames(t *testing.T) {
	const most = 256 << 10
	near, far := net.Pipe()
	defer far.Close()
	muxed, err := yamux.DefaultTransport.NewConn(near, false, &network.NullScope{})
	if err != nil {
		t.Fatal(err)
	}
	defer muxed.Close()
	go func() {
		s, err := muxed.OpenStream(t.Context())
		if err == nil {
			s.Write(make([]byte, 2<<20))
		}
	}()
	for sent, open := 0, false; sent < 2<<20; {
		header := make([]byte, 12)
		if _, err := io.ReadFull(far, header); err != nil {
			t.Fatal(err)
		}
		kind, flags, id, length := header[1], binary.BigEndian.Uint16(header[2:]), header[4:8], binary.BigEndian.Uint32(header[8:])
		switch kind {
		case 0: // DATA
			if length > most {
				t.Fatalf("a frame of %d bytes", length)
			}
			if _, err := io.CopyN(io.Discard, far, int64(length)); err != nil {
				t.Fatal(err)
			}
			sent += int(length)
		case 2: // a ping is answered
			if flags&1 != 0 {
				go far.Write(append([]byte{0, 2, 0, 2, 0, 0, 0, 0}, header[8:]...))
			}
		}
		if !open && kind != 2 {
			open = true
			// Acknowledges the stream, and opens a window as large as everything.
			go far.Write(append(append([]byte{0, 1, 0, 2}, id...), 0, 32, 0, 0))
		}
	}
}
