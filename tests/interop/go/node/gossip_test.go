package node

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"diatribe.invalid/peer/batch"
	"diatribe.invalid/peer/handshake"
	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

// pass does both rounds as dialer, and yields a gossip stream to the node.
func (s *stranger) pass(t *testing.T, n *Node, said *lines) network.Stream {
	t.Helper()
	s.SetStreamHandler(handshake.Protocol, func(stream network.Stream) { s.handshake <- stream })
	c := s.dial(t, n)
	m, hello := handshake.Dial(s.local, []byte(n.ID()), handshake.System)
	answer := step(t, m, s.ask(t, c, hello)).Request
	step(t, m, s.ask(t, c, answer))
	for range 2 {
		stream, body := s.hear(t)
		if err := wire.WriteFrame(stream, step(t, m, body).Respond); err != nil {
			t.Fatal(err)
		}
	}
	said.until(t, "link_up")
	gossip, err := openStream(t.Context(), c, gossipProtocols...)
	if err != nil {
		t.Fatal(err)
	}
	return gossip
}

func publish(t *testing.T, stream network.Stream, message []byte) {
	t.Helper()
	if _, err := stream.Write(wire.Frame((&wire.Writer{}).Message(2, message).Out)); err != nil {
		t.Fatal(err)
	}
}

func (l *lines) count(kind string) (found int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.said {
		if line["type"] == kind {
			found++
		}
	}
	return found
}

// signed are fields of a gossipsub message that is signed: from, seqno, signature and key.
var signed = []int{1, 3, 5, 6}

func TestAMessageWithAnythingOfASignedOneIsDroppedAndNoOffence(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	gossip := s.pass(t, n, said)
	seal := func(seq uint64) []byte {
		b := batch.Batch{Instance: s.local.Instance, FirstSeq: seq, Room: "lobby", Events: []batch.Event{{Name: "chat"}}}
		return b.Seal(s.local.Identity, identity.NetworkID(nil))
	}
	message := func(data []byte, topic string) *wire.Writer {
		return (&wire.Writer{}).Bytes(2, data).Bytes(4, []byte(topic))
	}
	first := seal(1)
	for _, field := range signed {
		for i, value := range [][]byte{{1}, {}} {
			publish(t, gossip, message(seal(uint64(10*field+i)), batch.TopicOf("lobby")).Message(field, value).Out)
			// Nor does it take the id of the one that is not signed away.
			publish(t, gossip, message(first, batch.TopicOf("lobby")).Message(field, value).Out)
			// Nor is it looked into.
			publish(t, gossip, message([]byte("nothing of the kind"), batch.TopicOf("lobby")).Message(field, value).Out)
		}
	}
	// Nor does the same data on a topic of no room, or of a room that this node is not in, take the id away.
	for _, topic := range []string{"lobby", batch.TopicOf("a/b"), batch.TopicOf("kitchen")} {
		publish(t, gossip, message(first, topic).Out)
	}
	// The last message shows that all before it were read.
	publish(t, gossip, message(first, batch.TopicOf("lobby")).Bytes(9, []byte("unknown")).Out)
	if line := said.until(t, "message"); line["seq"] != uint64(1) {
		t.Errorf("%v is taken", line)
	}
	if got := said.count("message"); got != 1 {
		t.Errorf("%d messages", got)
	}
	if said.count("refused")+said.count("link_down") > 0 {
		t.Errorf("%v", said.said)
	}
	// A message that is malformed inside is an offence.
	publish(t, gossip, message(bytes.Replace(seal(2), []byte("lobby"), []byte("kitch"), 1), batch.TopicOf("lobby")).Out)
	if line := said.until(t, "refused"); line["code"] != codeInvalidBatch || line["stage"] != "link" {
		t.Errorf("%v", line)
	}
	said.until(t, "link_down")
}

func TestAnRPCThatIsTooLargeIsNoOffence(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	gossip := s.pass(t, n, said)
	if _, err := gossip.Write([]byte{0xff, 0xff, 0xff, 0x7f}); err != nil {
		t.Fatal(err)
	}
	// The stream is reset, and the link stays.
	if _, err := gossip.Read(make([]byte, 1)); err == nil {
		t.Error("the stream is not reset")
	}
	if said.count("refused")+said.count("link_down") > 0 {
		t.Errorf("%v", said.said)
	}
}

func TestGossipIsSpokenInThreeVersions(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	c := s.pass(t, n, said).Conn()
	for id, spoken := range map[protocolID]bool{
		"/meshsub/1.3.0": false, "/meshsub/1.2.0": true, "/meshsub/1.1.0": true, "/meshsub/1.0.0": true, "/floodsub/1.0.0": false,
	} {
		if offered(t, c, id) != spoken {
			t.Errorf("%s: %t is not so", id, spoken)
		}
	}
}

func TestIdentifyNamesNoAddressOfThisNode(t *testing.T) {
	n, _ := startNode(t)
	s := startStranger(t)
	stream, err := openStream(t.Context(), s.dial(t, n), "/ipfs/id/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	body, err := wire.ReadFrame(stream, 8192)
	if err != nil {
		t.Fatal(err)
	}
	for field, err := range wire.Fields(body) {
		// listenAddrs, and the signed record that has them once more.
		if err != nil || field.Number == 2 || field.Number == 8 {
			t.Errorf("field %d: %x, %v", field.Number, field.Bytes, err)
		}
	}
}
