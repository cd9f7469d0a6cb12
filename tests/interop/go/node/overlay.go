package node

// The overlay as far as a plain, obedient node needs it: as a newcomer it joins; it obeys redirects, in both roles and
// at both ends of a handover; it gives the least answer to all other requests. It moves no links of its own: it splits none, takes
// none over (ProposeHandover) and drops none (DropRedundantLink).

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"diatribe.invalid/peer/wire"
)

const (
	exchangeTimeout = 5 * time.Second
	// handoverTimeout is how long F and C take part after they agreed.
	handoverTimeout = 12 * time.Second
	wantedLinks     = 2
	// maxMoved is how many links are remembered that were moved away from.
	maxMoved = 12
	// maxOverlayStreams is how many requests of a peer are answered at a time.
	maxOverlayStreams = 8
)

// handover is one in which this node takes part, as F or as C.
type handover struct {
	nonce  uint64
	from   *link
	to     contact
	role   uint32
	ctx    context.Context
	cancel context.CancelCauseFunc
	// attached is closed when the peer that was expected has sent its Attach.
	attached chan struct{}
}

type overlay struct {
	node *Node

	mu     sync.Mutex
	part   *handover
	budget *dialBudget
	// entry and joining are the node that was last asked to take this one in, and the nonce of that.
	entry   *link
	joining uint64
	// moved are links of which this node has reported that the new one is up: their end is no loss.
	moved map[*link]bool
}

var (
	errCancelled = errors.New("cancelled")
	errGaveUp    = errors.New("unreachable")
)

func newOverlay(n *Node) *overlay {
	return &overlay{node: n, budget: newDialBudget(time.Now()), moved: map[*link]bool{}}
}

// extra is the number of links above the maximum: one, during a handover.
func (o *overlay) extra() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.part != nil {
		return 1
	}
	return 0
}

// ask sends a request over a link. A peer that does not speak the protocol is a plain link, and asked nothing again.
func (o *overlay) ask(l *link, kind int, w *wire.Writer) (*overlayMessage, error) {
	ctx, cancel := context.WithTimeout(l.ctx, exchangeTimeout)
	defer cancel()
	s, err := openStream(ctx, l.connection().raw, overlayProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err := wire.WriteFrame(s, encodeOverlay(kind, w)); err != nil {
		return nil, err
	}
	body, err := wire.ReadFrame(s, maxOverlayFrame)
	if err != nil {
		return nil, err
	}
	answer, err := decodeResponse(body, l.id)
	if err != nil {
		o.node.closeOffender(l.connection(), codeInvalidOverlay, "its overlay response is malformed: "+err.Error())
	}
	return answer, err
}

// join tells the entry node that this node is a newcomer.
func (o *overlay) join(l *link) {
	n, nonce := o.node, randomNonce()
	o.mu.Lock()
	o.entry, o.joining = l, nonce
	o.mu.Unlock()
	n.mu.Lock()
	others := len(n.links) - 1
	w := (&wire.Writer{}).Fixed64(1, nonce).Uint(2, uint64(max(0, wantedLinks-others)))
	for id := range n.links {
		if id != l.id {
			w.Message(3, []byte(id))
		}
	}
	n.mu.Unlock()
	own := o.own(l)
	answer, err := o.ask(l, kindJoin, putAddresses(w.Bool(4, len(own) > 0), 5, own))
	if err != nil || answer.kind != kindJoined || answer.answer != joinRefused {
		return
	}
	n.hangUp(l, "refused: the peer has no room for this node")
	o.try(l, answer.contacts)
}

// try dials contacts that a node with no room has named.
func (o *overlay) try(from *link, contacts []contact) {
	for _, c := range contacts {
		if c.id == o.node.id || o.node.linkOf(c.id) != nil {
			continue
		}
		addresses := o.mayDial(o.dialable(from, c.addresses))
		if len(addresses) == 0 {
			continue
		}
		if l, err := o.node.dialPeer(o.node.ctx, c.id, addresses); err == nil {
			o.join(l)
			return
		}
	}
}

// waitForWant returns when a link may be replaced: at once, but for one that was moved while there are enough others.
func (o *overlay) waitForWant(l *link) {
	o.mu.Lock()
	moved := o.moved[l]
	delete(o.moved, l)
	o.mu.Unlock()
	for moved {
		o.node.mu.Lock()
		enough, changed := len(o.node.links) >= wantedLinks, o.node.changed
		o.node.mu.Unlock()
		if !enough {
			return
		}
		select {
		case <-changed:
		case <-o.node.ctx.Done():
			return
		}
	}
}

// acceptOverlay answers one request of a link.
func (c *conn) acceptOverlay(s network.Stream) {
	defer s.Close()
	select {
	case <-c.passed:
	case <-c.ctx.Done():
		s.Reset()
		return
	}
	if c.overlays.Add(1) > maxOverlayStreams {
		c.overlays.Add(-1)
		s.Reset()
		return
	}
	defer c.overlays.Add(-1)
	s.SetDeadline(time.Now().Add(exchangeTimeout))
	body, err := wire.ReadFrame(s, maxOverlayFrame)
	var request *overlayMessage
	if err == nil {
		request, err = decodeRequest(body, c.id)
	}
	if err != nil {
		s.Reset()
		if errors.Is(err, wire.ErrNoFrame) || errors.Is(err, wire.ErrMalformed) || errors.Is(err, errKind) || errors.Is(err, errNobody) {
			c.node.closeOffender(c, codeInvalidOverlay, "its overlay request is malformed: "+err.Error())
		}
		return
	}
	c.touch()
	response, then := c.node.over.answer(c.link, request)
	if wire.WriteFrame(s, response) == nil && then != nil {
		go then()
	}
	if err := wire.ReadEnd(s); errors.Is(err, wire.ErrNoFrame) {
		c.node.closeOffender(c, codeInvalidOverlay, err.Error())
	}
}

// answer returns the response to a request, and the action after it was sent.
func (o *overlay) answer(l *link, r *overlayMessage) (response []byte, then func()) {
	n := o.node
	switch r.kind {
	case kindShuffle:
		return encodeOverlay(kindContacts, putContacts(&wire.Writer{}, 1, o.contacts(l))), nil
	case kindJoin:
		n.mu.Lock()
		l.dialable = o.scoped(l, r.addresses)
		full := len(n.links) > n.config.MaxLinks
		n.mu.Unlock()
		if full {
			return encodeOverlay(kindJoined, putContacts(&wire.Writer{}, 2, o.contacts(l))), nil
		}
		return encodeOverlay(kindJoined, (&wire.Writer{}).Uint(1, joinAccepted)), nil
	case kindRedirect:
		return o.redirect(l, r)
	case kindAttach:
		return done(o.attach(l, r.nonce)), nil
	case kindCancel:
		return done(true), func() { o.cancelled(l, r) }
	case kindLeave:
		n.mu.Lock()
		l.reason = "leaving: the peer stops"
		n.mu.Unlock()
		return done(true), nil
	case kindProposeHandover:
		return encodeOverlay(kindHandoverReply, &wire.Writer{}), nil
	case kindDropRedundantLink:
		return done(false), nil
	default: // Report: this node began no handover.
		return done(true), nil
	}
}

func done(ok bool) []byte { return encodeOverlay(kindDone, (&wire.Writer{}).Bool(1, ok)) }

// redirect agrees to a hint, or says why not.
func (o *overlay) redirect(l *link, r *overlayMessage) ([]byte, func()) {
	refuse := func(refusal uint64, outcome string) ([]byte, func()) {
		o.hint(l, r.to, r.role, outcome)
		return encodeOverlay(kindRedirected, (&wire.Writer{}).Uint(1, refusal)), nil
	}
	own := o.own(l)
	addresses := o.dialable(l, r.to.addresses)
	switch {
	case r.to.id == o.node.id:
		return refuse(redirectUnsuitable, "ourselves")
	case o.node.linkOf(r.to.id) != nil:
		return refuse(redirectUnsuitable, "already_linked")
	case r.role == roleDial && len(addresses) == 0:
		return refuse(redirectUnsuitable, "scope")
	case r.role == roleExpect && len(own) == 0:
		return refuse(redirectNoDial, "not_dialable")
	}
	h := &handover{nonce: r.nonce, from: l, to: r.to, role: r.role, attached: make(chan struct{})}
	h.to.addresses = addresses
	o.mu.Lock()
	busy := o.part != nil
	if !busy {
		o.part = h
		h.ctx, h.cancel = context.WithCancelCause(o.node.ctx)
	}
	o.mu.Unlock()
	if busy {
		return refuse(redirectBusy, "busy")
	}
	if r.role == roleDial {
		if h.to.addresses = o.mayDial(addresses); len(h.to.addresses) == 0 {
			o.end(h)
			return refuse(redirectTooMany, "too_many")
		}
	}
	w := putAddresses(&wire.Writer{}, 2, own)
	return encodeOverlay(kindRedirected, w), func() { o.take(h) }
}

// take carries out the agreed handover, and reports it to the coordinator and in a line.
func (o *overlay) take(h *handover) {
	defer o.end(h)
	late := time.AfterFunc(handoverTimeout, func() { h.cancel(errGaveUp) })
	defer late.Stop()
	outcome := "unreachable"
	if h.role == roleDial {
		outcome = o.dialTo(h)
	} else {
		select {
		case <-h.attached:
			outcome = "linked"
		case <-h.ctx.Done():
			outcome = context.Cause(h.ctx).Error()
		}
	}
	if outcome == "linked" {
		o.mu.Lock()
		if len(o.moved) > maxMoved {
			clear(o.moved)
		}
		o.moved[h.from] = true
		o.mu.Unlock()
		o.node.mu.Lock()
		if h.from.reason == "" {
			h.from.reason = "handover: the peer has moved the link to another"
		}
		o.node.mu.Unlock()
	}
	o.hint(h.from, h.to, h.role, outcome)
	if outcome != errCancelled.Error() {
		o.ask(h.from, kindReport, (&wire.Writer{}).Fixed64(1, h.nonce).Bool(2, outcome == "linked"))
	}
}

func (o *overlay) dialTo(h *handover) string {
	l, err := o.node.dialPeer(h.ctx, h.to.id, h.to.addresses)
	var f *Failure
	switch {
	case h.ctx.Err() != nil:
		return context.Cause(h.ctx).Error()
	case errors.As(err, &f) && f.Code == "WRONG_PEER":
		return "wrong_peer"
	case errors.As(err, &f) && f.Stage != "" && (f.Stage[0] == 'h' || f.Stage == "link"):
		return "rejected"
	case err != nil:
		return "unreachable"
	}
	answer, err := o.ask(l, kindAttach, (&wire.Writer{}).Fixed64(1, h.nonce))
	if err != nil || !answer.ok {
		if o.node.tooMany() {
			o.node.hangUp(l, "surplus: the peer did not agree to the handover")
		}
		return "rejected"
	}
	return "linked"
}

func (n *Node) tooMany() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links) > n.config.MaxLinks
}

// attach agrees to the nonce that is outstanding, from the peer that was named.
func (o *overlay) attach(l *link, nonce uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.part
	if h == nil || h.role != roleExpect || h.nonce != nonce || h.to.id != l.id {
		return false
	}
	select {
	case <-h.attached:
		return false
	default:
		close(h.attached)
		return true
	}
}

func (o *overlay) cancelled(l *link, r *overlayMessage) {
	o.mu.Lock()
	h := o.part
	if h != nil && h.from == l && h.nonce == r.nonce {
		h.cancel(errCancelled)
	}
	newcomer := l == o.entry && r.nonce == o.joining
	o.mu.Unlock()
	// keep is meant for C; F's link with E stays.
	if newcomer && !r.ok {
		o.node.hangUp(l, "aborted: the peer has no room for this node")
		o.try(l, r.contacts)
	}
}

func (o *overlay) end(h *handover) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.part == h {
		o.part = nil
	}
	h.cancel(nil)
}

func (o *overlay) hint(from *link, to contact, role uint32, outcome string) {
	var address any
	if role == roleDial && len(to.addresses) > 0 {
		address = to.addresses[0].String()
	}
	if to.id != "" {
		o.node.tell("hint", map[string]any{"from": from.id.String(), "to": to.id.String(), "address": address, "outcome": outcome})
	}
}

// mayDial returns the addresses that may be dialled on another's word, and counts them.
func (o *overlay) mayDial(addresses []ma.Multiaddr) []ma.Multiaddr {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.budget.take(time.Now(), addresses)
}

// contacts returns links of this node, except the requesting one: peers that have passed the handshake, at the addresses at
// which they were dialled, or that they gave for themselves on the host of their connection.
func (o *overlay) contacts(asker *link) (found []contact) {
	o.node.mu.Lock()
	defer o.node.mu.Unlock()
	for _, l := range o.node.links {
		addresses := l.ownHost(l.dialable)
		if l.current.dialer {
			addresses = canonicals([]ma.Multiaddr{l.current.raw.RemoteMultiaddr()})
		}
		addresses = o.scoped(asker, addresses)
		if l != asker && len(addresses) > 0 && len(found) < maxContacts {
			found = append(found, contact{l.id, addresses})
		}
	}
	return found
}

// ownHost returns those of the addresses that are of the host at the other end of the link. node.mu is held.
func (l *link) ownHost(addresses []ma.Multiaddr) (kept []ma.Multiaddr) {
	remote, known := socketOf(l.current.raw.RemoteMultiaddr())
	for _, address := range addresses {
		if to, found := socketOf(address); known && found && hostOf(to.Addr()) == hostOf(remote.Addr()) {
			kept = append(kept, address)
		}
	}
	return kept
}

// own returns the listen addresses of this node that may be named over a link.
func (o *overlay) own(l *link) []ma.Multiaddr {
	o.node.mu.Lock()
	defer o.node.mu.Unlock()
	return o.scoped(l, canonicals(o.node.listening()))
}

// dialable are the addresses that a link may name.
func (o *overlay) dialable(l *link, addresses []ma.Multiaddr) []ma.Multiaddr {
	o.node.mu.Lock()
	defer o.node.mu.Unlock()
	return o.scoped(l, addresses)
}

// scoped returns those of the addresses, in canonical form, that have the link's scope or a wider one: at most two, those
// of its own scope first. node.mu is held.
func (o *overlay) scoped(l *link, addresses []ma.Multiaddr) (kept []ma.Multiaddr) {
	least := scopeOfLink(l.current.raw.RemoteMultiaddr())
	for s := least; s <= public; s++ {
		for _, address := range addresses {
			if to, known := socketOf(address); known && scopeOf(to.Addr()) == s {
				kept = append(kept, address)
			}
		}
	}
	return kept[:min(len(kept), maxAddresses)]
}

func randomNonce() uint64 {
	nonce := make([]byte, 8)
	rand.Read(nonce)
	return binary.LittleEndian.Uint64(nonce)
}
