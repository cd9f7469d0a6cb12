package node

// gossipsub, set up as the contract says, and without its silent losses.
//
// Messages are checked in the hook that sees an RPC first and not in validators: those have a queue that drops messages
// does not fit, and workers that change the order. While one is checked nothing more is read, so that the sender is
// held up in the end. Delivery is by the tracer, because a subscription drops messages that are not fetched in time.

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"google.golang.org/protobuf/proto"

	"diatribe.invalid/peer/batch"
)

const (
	maxControl       = 256 << 10
	maxMessagesInRPC = 500
	maxTopics        = 32
	rememberIDs      = 300 * time.Second
	// queueLength is in RPCs: never the limit that is met, which is queueBytes.
	queueLength = 65_536
	// queueBytes is how much may wait for a peer before this node's own events are held up, and what it forwards.
	queueBytes = 4 << 20
	// holdMost is how long reading rests while a queue is full. Two that wait for each other must not do so for ever.
	holdMost = time.Second
	// notifyInterval is how long gossipsub may take to open its stream.
	notifyInterval = time.Second
	// maxKnown is the number of remembered ids of checked messages (dedup): copies from other peers are not checked again.
	maxKnown = 8192
)

type gossip struct {
	node *Node
	host *pubHost

	// The following belongs to gossipsub's own loop: inspector and tracer are called there.
	opened map[batch.ID]*batch.Batch
	known  map[batch.ID]bool
	order  []batch.ID

	mu sync.Mutex
	// given are the outbound streams that gossipsub has.
	given map[peer.ID]*outbound
}

func newGossip(n *Node) *gossip {
	return &gossip{
		node: n, host: &pubHost{Host: n.host, node: n, bus: eventbus.NewBus()},
		known: map[batch.ID]bool{}, given: map[peer.ID]*outbound{},
	}
}

func (g *gossip) start() (*pubsub.PubSub, error) {
	params := pubsub.DefaultGossipSubParams()
	// D_out should be 2, but here it must be less than half of D.
	params.D, params.Dlo, params.Dhi, params.Dout, params.Dscore = 4, 3, 5, 1, 3
	params.HistoryLength, params.HistoryGossip = 5, 3
	params.HeartbeatInterval, params.HeartbeatInitialDelay = time.Second, 100*time.Millisecond
	// The answer to IWANT is one RPC, however many were asked for: nobody is to know of more ids than go into one.
	params.MaxIHaveLength = maxMessagesInRPC
	features := func(feature pubsub.GossipSubFeature, id protocol.ID) bool {
		return pubsub.GossipSubDefaultFeatures(feature, id)
	}
	return pubsub.NewGossipSub(g.node.ctx, g.host,
		pubsub.WithGossipSubProtocols(gossipProtocols, features),
		pubsub.WithGossipSubParams(params),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(false),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { id := messageID(m); return string(id[:]) }),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithMaxControlMessageSize(maxControl),
		pubsub.WithPeerOutboundQueueSize(queueLength),
		pubsub.WithSeenMessagesTTL(rememberIDs),
		pubsub.WithSubscriptionFilter(&topics{g}),
		pubsub.WithAppSpecificRpcInspector(g.inspect),
		pubsub.WithRawTracer(&tracer{g}),
	)
}

// attach lets gossipsub know of a link, after it has let go of an earlier one with the same peer. n.mu is held.
func (g *gossip) attach(l *link) {
	g.mu.Lock()
	old := g.given[l.id]
	g.mu.Unlock()
	go func() {
		if old != nil {
			// gossipsub would take the new stream for the one that it still has.
			select {
			case <-old.gone:
			case <-time.After(streamLost):
			}
		}
		if l.ctx.Err() != nil {
			return
		}
		go g.host.handler(l.in)
		emitter, err := g.host.bus.Emitter(new(event.EvtPeerIdentificationCompleted))
		if err != nil {
			return
		}
		defer emitter.Close()
		// A single notification may be ignored for a peer that it still believes to have.
		for notify := true; notify; notify = sleep(l.ctx, notifyInterval) && !g.isReady(l) {
			emitter.Emit(event.EvtPeerIdentificationCompleted{Peer: l.id, Protocols: gossipProtocols})
		}
	}()
}

func (g *gossip) isReady(l *link) bool {
	g.node.mu.Lock()
	defer g.node.mu.Unlock()
	return l.ready
}

// inspect sees every RPC before gossipsub does. An error drops it.
func (g *gossip) inspect(from peer.ID, rpc *pubsub.RPC) error {
	l := g.node.linkOf(from)
	if l == nil {
		return errNotALink
	}
	g.opened = map[batch.ID]*batch.Batch{}
	if len(rpc.Publish) > maxMessagesInRPC {
		rpc.Publish = rpc.Publish[:maxMessagesInRPC]
	}
	taken := rpc.Publish[:0]
	for _, message := range rpc.Publish {
		ok, err := g.check(message)
		if err != nil {
			g.node.closeOffender(l.connection(), codeInvalidBatch, err.Error())
			return err
		}
		if ok {
			taken = append(taken, message)
		}
	}
	rpc.Publish = taken
	return nil
}

// check decides whether a message is accepted. An error is an offence of the forwarding peer.
func (g *gossip) check(message *pb.Message) (bool, error) {
	// StrictNoSign: a message in which any of these is present, be it empty, is dropped. That is no offence.
	if message.From != nil || message.Seqno != nil || message.Signature != nil || message.Key != nil {
		return false, nil
	}
	name, isRoom := batch.RoomOf(message.GetTopic())
	if !isRoom || !g.node.inRoom(name) {
		return false, nil
	}
	// Unknown fields are not forwarded.
	message.ProtoReflect().SetUnknown(nil)
	if g.known[messageID(message)] {
		return true, nil
	}
	b, err := g.node.open(message, name)
	var refused *batch.Error
	if errors.As(err, &refused) && !refused.Offence {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	g.opened[b.ID] = b
	g.remember(b.ID)
	return true, nil
}

func messageID(message *pb.Message) batch.ID {
	return batch.IDOf(message.GetTopic(), message.GetData())
}

// open reads a message of a room.
func (n *Node) open(message *pb.Message, room string) (*batch.Batch, error) {
	return batch.Open(message.GetData(), room, n.networkID, uint64(time.Now().UnixMilli()))
}

func (g *gossip) remember(id batch.ID) {
	if len(g.order) == maxKnown {
		delete(g.known, g.order[0])
		g.order = g.order[1:]
	}
	g.known[id] = true
	g.order = append(g.order, id)
}

// holdBack waits while more is queued for any peer than should be.
func (g *gossip) holdBack(ctx context.Context) {
	deadline := time.After(holdMost)
	for {
		full, changed := g.node.isFull("")
		if !full {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// isFull says whether too much is queued for a link that is in the room, or for any link when none is named.
func (n *Node) isFull(name string) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		if l.queued > queueBytes && (name == "" || l.rooms[name]) {
			return true, n.changed
		}
	}
	return false, n.changed
}

func (g *gossip) unqueue(l *link, size int) {
	g.node.mu.Lock()
	defer g.node.mu.Unlock()
	was := l.queued
	l.queued -= size
	if was > queueBytes && l.queued <= queueBytes {
		g.node.wake()
	}
}

// topics says which subscriptions count.
type topics struct{ *gossip }

func (topics) CanSubscribe(topic string) bool { _, isRoom := batch.RoomOf(topic); return isRoom }

func (t topics) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	l := t.node.linkOf(from)
	if l == nil {
		return nil, errNotALink
	}
	t.node.mu.Lock()
	rooms := map[string]bool{}
	for name := range l.rooms {
		rooms[name] = true
	}
	kept := pubsub.FilterSubscriptions(subs, t.CanSubscribe)
	for _, sub := range kept {
		name := strings.TrimPrefix(sub.GetTopicid(), batch.TopicOf(""))
		if sub.GetSubscribe() {
			rooms[name] = true
		} else {
			delete(rooms, name)
		}
	}
	tooMany := len(rooms) > maxTopics
	if !tooMany {
		l.rooms = rooms
		t.node.wake()
	}
	t.node.mu.Unlock()
	if tooMany {
		return nil, pubsub.ErrTooManySubscriptions
	}
	t.node.subscribed(l)
	return kept, nil
}

// tracer gets gossipsub's events about messages and streams.
type tracer struct{ *gossip }

// DeliverMessage is called once for a message of others.
func (t *tracer) DeliverMessage(message *pubsub.Message) {
	b := t.opened[messageID(message.Message)]
	if b == nil {
		name, _ := batch.RoomOf(message.GetTopic())
		opened, err := t.node.open(message.Message, name)
		if err != nil {
			return
		}
		b = opened
	}
	t.node.deliver(b)
}

func (t *tracer) OnNewOutboundStream(id peer.ID, _ protocol.ID) {
	t.node.mu.Lock()
	defer t.node.mu.Unlock()
	if l := t.node.links[id]; l != nil {
		l.ready = true
		t.node.wake()
	}
}

func (t *tracer) OnClosedOutboundStream(id peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if out := t.given[id]; out != nil {
		close(out.gone)
		delete(t.given, id)
	}
}

func (t *tracer) SendRPC(rpc *pubsub.RPC, id peer.ID) {
	t.node.mu.Lock()
	defer t.node.mu.Unlock()
	if l := t.node.links[id]; l != nil {
		l.queued += proto.Size(&rpc.RPC)
	}
}

func (t *tracer) Join(string)                                          {}
func (t *tracer) Leave(string)                                         {}
func (t *tracer) Graft(peer.ID, string)                                {}
func (t *tracer) Prune(peer.ID, string)                                {}
func (t *tracer) ValidateMessage(*pubsub.Message)                      {}
func (t *tracer) RejectMessage(*pubsub.Message, string)                {}
func (t *tracer) DuplicateMessage(*pubsub.Message)                     {}
func (t *tracer) ThrottlePeer(peer.ID)                                 {}
func (t *tracer) RecvRPC(*pubsub.RPC)                                  {}
func (t *tracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t *tracer) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (t *tracer) UndeliverableMessage(*pubsub.Message)                 {}

// recipients is a scheduler that counts the recipients of a message, and reports when it was passed to all of them.
type recipients struct {
	rpcs []struct {
		to  peer.ID
		rpc *pubsub.RPC
	}
	done chan int
}

func (r *recipients) AddRPC(to peer.ID, _ string, rpc *pubsub.RPC) {
	r.rpcs = append(r.rpcs, struct {
		to  peer.ID
		rpc *pubsub.RPC
	}{to, rpc})
}

func (r *recipients) All() iter.Seq2[peer.ID, *pubsub.RPC] {
	return func(yield func(peer.ID, *pubsub.RPC) bool) {
		for _, pending := range r.rpcs {
			if !yield(pending.to, pending.rpc) {
				return
			}
		}
		r.done <- len(r.rpcs)
	}
}
