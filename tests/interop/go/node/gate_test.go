package node

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"diatribe.invalid/peer/batch"
	"diatribe.invalid/peer/handshake"
	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

const patience = 30 * time.Second

var local = ma.StringCast("/ip4/127.0.0.1/tcp/0/ws")

// lines are the output of a node.
type lines struct {
	mu   sync.Mutex
	said []map[string]any
	more chan struct{}
}

func (l *lines) tell(kind string, fields map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fields["type"] = kind
	l.said = append(l.said, fields)
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lines) until(t *testing.T, kind string) map[string]any {
	t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		at, more := slices.IndexFunc(l.said, func(line map[string]any) bool { return line["type"] == kind }), l.more
		l.mu.Unlock()
		if at >= 0 {
			return l.said[at]
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no %s: %v", kind, l.said)
		}
	}
}

func startNode(t *testing.T) (*Node, *lines) {
	n, said := startSilentNode(t)
	if err := n.Join("lobby"); err != nil {
		t.Fatal(err)
	}
	return n, said
}

// startSilentNode starts one that is in no room, of which it says nothing.
func startSilentNode(t *testing.T) (*Node, *lines) {
	seed := make([]byte, 32)
	rand.Read(seed)
	said := &lines{more: make(chan struct{})}
	n, err := New(Config{Seed: seed, Listen: []ma.Multiaddr{local}, Tell: said.tell})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	t.Cleanup(func() {
		if t.Failed() {
			said.mu.Lock()
			defer said.mu.Unlock()
			t.Logf("%s said %v", n.ID(), said.said)
		}
	})
	return n, said
}

// stranger is any libp2p program; gossip counts the gossip streams that reach it.
type stranger struct {
	host.Host
	local     *handshake.Local
	gossip    chan network.Stream
	handshake chan network.Stream
}

func startStranger(t *testing.T) *stranger {
	seed := make([]byte, 48)
	rand.Read(seed)
	own, err := identity.FromSeed(seed[:32])
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.UnmarshalPrivateKey(own.PrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrs(local), libp2p.Transport(websocket.New), libp2p.DisableMetrics(),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s := &stranger{h, &handshake.Local{Identity: own, Instance: seed[32:]}, make(chan network.Stream, 16), make(chan network.Stream, 16)}
	for _, id := range gossipProtocols {
		h.SetStreamHandler(id, func(stream network.Stream) { s.gossip <- stream })
	}
	return s
}

func (s *stranger) dial(t *testing.T, n *Node) network.Conn {
	t.Helper()
	if err := s.Connect(t.Context(), peer.AddrInfo{ID: n.ID(), Addrs: n.listening()}); err != nil {
		t.Fatal(err)
	}
	return s.Network().ConnsToPeer(n.ID())[0]
}

func (s *stranger) address() ma.Multiaddr {
	return s.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + s.ID().String()))
}

// offered says whether the node takes a stream of this protocol on the connection.
func offered(t *testing.T, c network.Conn, id protocolID) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := openStream(ctx, c, id)
	if err == nil {
		s.Reset()
		return true
	}
	if !isUnsupported(err) {
		t.Fatalf("%s: %v, which is not na", id, err)
	}
	return false
}

// ask sends a frame of the handshake and yields the response.
func (s *stranger) ask(t *testing.T, c network.Conn, body []byte) []byte {
	t.Helper()
	stream, err := openStream(t.Context(), c, handshake.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if err := wire.WriteFrame(stream, body); err != nil {
		t.Fatal(err)
	}
	response, err := wire.ReadFrame(stream, handshake.MaxFrame)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// hear waits for a request of the handshake.
func (s *stranger) hear(t *testing.T) (network.Stream, []byte) {
	t.Helper()
	select {
	case stream := <-s.handshake:
		body, err := wire.ReadFrame(stream, handshake.MaxFrame)
		if err != nil {
			t.Fatal(err)
		}
		return stream, body
	case <-time.After(patience):
		t.Fatal("the node sends no request")
		return nil, nil
	}
}

func step(t *testing.T, m *handshake.Machine, body []byte) handshake.Step {
	t.Helper()
	next, err := m.Receive(body)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAStrangerGetsNothingOfGossip(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	c := s.dial(t, n)
	for _, id := range append(slices.Clone(gossipProtocols), overlayProtocol) {
		if offered(t, c, id) {
			t.Errorf("%s is offered to a stranger", id)
		}
	}
	if !offered(t, c, pingProtocol) || !offered(t, c, "/ipfs/id/1.0.0") {
		t.Error("ping or identify is not")
	}
	if len(n.pubsub.ListPeers("")) > 0 {
		t.Error("gossipsub knows of a stranger")
	}
	if line := said.until(t, "refused"); line["code"] != "TIMEOUT" || line["stage"] != "handshake_1" {
		t.Errorf("%v", line)
	}
	if len(s.gossip) > 0 {
		t.Error("the node opened a gossip stream to a stranger")
	}
	if advertised, _ := s.Peerstore().SupportsProtocols(n.ID(), gossipProtocols...); len(advertised) > 0 {
		t.Error("identify names", advertised)
	}
}

func TestWhoIsDialledAndSpeaksNoHandshakeGetsNothingOfGossip(t *testing.T) {
	n, _ := startNode(t)
	s := startStranger(t)
	_, err := n.Dial(t.Context(), s.address())
	if f, ok := err.(*Failure); !ok || f.Stage != "handshake_1" {
		t.Errorf("%v", err)
	}
	if len(s.gossip) > 0 {
		t.Error("the node opened a gossip stream to a stranger")
	}
}

func TestAListenersGateOpensBeforeItsAnswerAndNotSooner(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	s.SetStreamHandler(handshake.Protocol, func(stream network.Stream) { s.handshake <- stream })
	c := s.dial(t, n)
	m, hello := handshake.Dial(s.local, []byte(n.ID()), handshake.System)
	answer := step(t, m, s.ask(t, c, hello)).Request
	step(t, m, s.ask(t, c, answer))
	stream, body := s.hear(t)
	if offered(t, c, gossipProtocols[0]) {
		t.Error("gossip is offered before the dialer's Challenge")
	}
	if err := wire.WriteFrame(stream, step(t, m, body).Respond); err != nil {
		t.Fatal(err)
	}
	stream, body = s.hear(t)
	// The Answer has arrived, the Pass has not been sent: from here on the dialer may open.
	if !offered(t, c, gossipProtocols[0]) {
		t.Error("gossip is refused after the Answer")
	}
	if err := wire.WriteFrame(stream, step(t, m, body).Respond); err != nil {
		t.Fatal(err)
	}
	said.until(t, "link_up")
	select {
	case <-s.gossip:
	case <-time.After(patience):
		t.Error("the node opens no gossip stream after the pass")
	}
	// One frame more is a violation.
	s.say(c, hello)
	if line := said.until(t, "refused"); line["code"] != "VIOLATION" || line["stage"] != "link" {
		t.Errorf("%v", line)
	}
	said.until(t, "link_down")
}

// say sends a frame that nobody answers.
func (s *stranger) say(c network.Conn, body []byte) {
	if stream, err := openStream(context.Background(), c, handshake.Protocol); err == nil {
		wire.WriteFrame(stream, body)
	}
}

func TestADialersGateOpensBeforeItsPassAndNotSooner(t *testing.T) {
	n, said := startNode(t)
	s := startStranger(t)
	s.SetStreamHandler(handshake.Protocol, func(stream network.Stream) { s.handshake <- stream })
	go n.Dial(t.Context(), s.address())
	m := handshake.Listen(s.local, []byte(n.ID()), handshake.System)
	stream, body := s.hear(t)
	c := stream.Conn()
	if err := wire.WriteFrame(stream, step(t, m, body).Respond); err != nil {
		t.Fatal(err)
	}
	stream, body = s.hear(t)
	next := step(t, m, body)
	if err := wire.WriteFrame(stream, next.Respond); err != nil {
		t.Fatal(err)
	}
	answer := step(t, m, s.ask(t, c, next.Request)).Request
	if offered(t, c, gossipProtocols[0]) || len(s.gossip) > 0 {
		t.Error("gossip is offered, or opened, before the listener's Answer")
	}
	if !step(t, m, s.ask(t, c, answer)).Passed {
		t.Error("not passed")
	}
	if !offered(t, c, gossipProtocols[0]) {
		t.Error("gossip is refused after the Pass")
	}
	said.until(t, "link_up")
}

func TestTwoNodesLinkAndTalk(t *testing.T) {
	a, saidA := startNode(t)
	b, saidB := startNode(t)
	if _, err := a.Dial(t.Context(), b.Addresses()[0]); err != nil {
		t.Fatal(err)
	}
	saidA.until(t, "link_up")
	saidB.until(t, "link_up")
	sent, err := a.Say("lobby", batch.Event{Name: "chat", Data: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	if s := <-sent; s.Err != nil || s.Links != 1 || s.Seq != 1 {
		t.Errorf("%+v", s)
	}
	if line := saidB.until(t, "message"); string(line["data"].([]byte)) != "hello" || line["author"] != a.ID().String() {
		t.Errorf("%v", line)
	}
}

// sayInSilence sends an event on a link that is up although its peer, b, has sent no subscriptions.
func sayInSilence(t *testing.T) (b *Node, saidB *lines, sent <-chan Sent) {
	t.Helper()
	a, saidA := startNode(t)
	b, saidB = startSilentNode(t)
	linked(t, a, b)
	saidA.until(t, "link_up")
	sent, err := a.Say("lobby", batch.Event{Name: "chat", Data: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	return b, saidB, sent
}

func TestWhatIsSaidBeforeASlowPeerHasSaidItsRoomsWaitsForIt(t *testing.T) {
	b, saidB, sent := sayInSilence(t)
	if err := b.Join("lobby"); err != nil {
		t.Fatal(err)
	}
	if s := <-sent; s.Err != nil || s.Links != 1 {
		t.Errorf("%+v", s)
	}
	saidB.until(t, "message")
}

func TestWhoSpeaksToNobodyIsToldSo(t *testing.T) {
	_, _, sent := sayInSilence(t)
	if s := <-sent; s.Err == nil {
		t.Errorf("%+v", s)
	}
}

func TestAnAddressWithoutAPeerIDIsDialledToo(t *testing.T) {
	a, _ := startNode(t)
	b, _ := startNode(t)
	l, err := a.Dial(t.Context(), b.listening()[0])
	if err != nil || l.id != b.ID() {
		t.Errorf("%v", err)
	}
}

func TestAnotherPeerThanTheNamedOneIsNotLinked(t *testing.T) {
	a, _ := startNode(t)
	b, _ := startNode(t)
	_, err := a.Dial(t.Context(), b.listening()[0].Encapsulate(ma.StringCast("/p2p/"+startStranger(t).ID().String())))
	if f, ok := err.(*Failure); !ok || f.Code != "WRONG_PEER" || f.Stage != "noise" {
		t.Errorf("%v", err)
	}
}
