package node

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"diatribe.invalid/peer/batch"
	"diatribe.invalid/peer/identity"
)

// maxWaiting is the maximum number of queued events of a room; further senders wait (backpressure).
const maxWaiting = 8192

// room is one that this node is in.
type room struct {
	node    *Node
	name    string
	topic   *pubsub.Topic
	nextSeq uint64
	queue   chan *saying
	// ahead is an event that did not fit into the batch before.
	ahead *saying

	// heads are this author's newest batches in the room; node.mu guards them.
	heads batch.Heads
}

// Sent is an event that is on its way.
type Sent struct {
	ID    string
	Seq   uint64
	Links int
	Err   error
}

type saying struct {
	event batch.Event
	sent  chan Sent
}

// Join joins a room.
func (n *Node) Join(name string) error {
	if err := batch.CheckRoom(name); err != nil {
		return err
	}
	n.mu.Lock()
	known, count := n.rooms[name] != nil, len(n.rooms)
	n.mu.Unlock()
	if known {
		return nil
	}
	if count >= maxRooms {
		return fmt.Errorf("a node is in at most %d rooms", maxRooms)
	}
	topic, err := n.pubsub.Join(batch.TopicOf(name))
	if err != nil {
		return err
	}
	r := &room{node: n, name: name, topic: topic, nextSeq: 1, queue: make(chan *saying, maxWaiting)}
	n.mu.Lock()
	n.rooms[name] = r
	n.mu.Unlock()
	// A relay is in the topic like a subscription, without a queue that drops messages that are not fetched in time.
	if _, err := topic.Relay(); err != nil {
		return err
	}
	go r.run()
	return nil
}

func (n *Node) inRoom(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rooms[name] != nil
}

// Say sends an event to everyone in a room. The channel yields the outcome; events leave in the order of the calls.
func (n *Node) Say(name string, event batch.Event) (<-chan Sent, error) {
	n.mu.Lock()
	r := n.rooms[name]
	n.mu.Unlock()
	switch {
	case r == nil:
		return nil, fmt.Errorf("this node is not in the room %s", name)
	case len(event.Data) > batch.MaxData:
		return nil, fmt.Errorf("the event has %d bytes of data, the limit is %d: send it in parts", len(event.Data), batch.MaxData)
	case len(event.Name) > batch.MaxName:
		return nil, fmt.Errorf("the event's name has %d bytes, the limit is %d", len(event.Name), batch.MaxName)
	}
	s := &saying{event, make(chan Sent, 1)}
	select {
	case r.queue <- s:
	case <-n.ctx.Done():
		return nil, n.ctx.Err()
	}
	return s.sent, nil
}

// run sends the queued events, a batch at a time.
func (r *room) run() {
	for {
		taken := r.take()
		if taken == nil {
			return
		}
		sent, err := r.send(taken)
		for i, s := range taken {
			s.sent <- Sent{sent.ID, sent.Seq + uint64(i), sent.Links, err}
		}
	}
}

// take waits for an event and yields it with all that are there, up to the size of a batch; a larger one goes alone.
func (r *room) take() (taken []*saying) {
	size := 0
	add := func(s *saying) bool {
		if size += s.event.Size(); len(taken) > 0 && (size > batch.MaxBatch || len(taken) == batch.MaxEvents) {
			r.ahead = s
			return false
		}
		taken = append(taken, s)
		return true
	}
	if r.ahead != nil {
		add(r.ahead)
		r.ahead = nil
	} else {
		select {
		case s := <-r.queue:
			add(s)
		case <-r.node.ctx.Done():
			return nil
		}
	}
	for {
		select {
		case s := <-r.queue:
			if !add(s) {
				return taken
			}
		default:
			return taken
		}
	}
}

func (r *room) send(taken []*saying) (Sent, error) {
	if err := r.writable(); err != nil {
		return Sent{}, err
	}
	r.node.mu.Lock()
	prev := r.heads.Prev()
	r.node.mu.Unlock()
	b := &batch.Batch{
		Instance: r.node.local.Instance, FirstSeq: r.nextSeq, SentAtMs: uint64(time.Now().UnixMilli()), Room: r.name, Prev: prev,
	}
	for _, s := range taken {
		b.Events = append(b.Events, s.event)
	}
	envelope := b.Seal(r.node.local.Identity, r.node.networkID)
	var messages pubsub.MessageBatch
	if err := r.topic.AddToBatch(r.node.ctx, &messages, envelope); err != nil {
		return Sent{}, err
	}
	to := &recipients{done: make(chan int, 1)}
	if err := r.node.pubsub.PublishBatch(&messages, func(o *pubsub.BatchPublishOptions) error { o.Strategy = to; return nil }); err != nil {
		return Sent{}, err
	}
	select {
	case links := <-to.done:
		if links == 0 {
			return Sent{}, r.nobody()
		}
		r.nextSeq += uint64(len(taken))
		r.node.mu.Lock()
		r.heads.Sent(b.ID, prev)
		r.node.mu.Unlock()
		return Sent{ID: hex.EncodeToString(b.ID[:]), Seq: b.FirstSeq, Links: links}, nil
	case <-r.node.ctx.Done():
		return Sent{}, r.node.ctx.Err()
	}
}

func (r *room) nobody() error {
	return fmt.Errorf("nobody is in the room %s: no link took the event", r.name)
}

// writable waits until somebody in the room can be written to and no queue is full. A new link
// may not have sent its subscriptions yet.
func (r *room) writable() error {
	for {
		full, changed := r.node.isFull(r.name)
		r.node.mu.Lock()
		here, settling := 0, false
		for _, l := range r.node.links {
			switch {
			case l.rooms[r.name] && l.ready:
				here++
			case !l.hasSubscriptions || l.rooms[r.name]:
				settling = true
			}
		}
		r.node.mu.Unlock()
		if here > 0 && !full {
			return nil
		}
		if here == 0 && !settling {
			return r.nobody()
		}
		select {
		case <-changed:
		case <-r.node.ctx.Done():
			return r.node.ctx.Err()
		}
	}
}

// deliver reports the events of a received batch.
func (n *Node) deliver(b *batch.Batch) {
	if bytes.Equal(b.Author, n.local.Identity.PublicKey) && !bytes.Equal(b.Instance, n.local.Instance) {
		n.mu.Lock()
		if r := n.rooms[b.Room]; r != nil {
			r.heads.Received(b.ID, b.Prev)
		}
		n.mu.Unlock()
	}
	author := peer.ID(identity.PeerIDOf(b.Author)).String()
	for i, event := range b.Events {
		n.tell("message", map[string]any{
			"id": hex.EncodeToString(b.ID[:]), "room": b.Room, "author": author, "seq": b.FirstSeq + uint64(i),
			"name": event.Name, "data": event.Data, "sent_at": b.SentAtMs, "backfill": false,
		})
	}
}
