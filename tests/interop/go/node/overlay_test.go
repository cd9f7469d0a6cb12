package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"diatribe.invalid/peer/wire"
)

// linked dials, and yields the dialer's link.
func linked(t *testing.T, from, to *Node) *link {
	t.Helper()
	l, err := from.Dial(t.Context(), to.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// linkTo waits for the listener's side of a link.
func linkTo(t *testing.T, n *Node, id peer.ID) *link {
	t.Helper()
	late := time.After(patience)
	for {
		n.mu.Lock()
		l, changed := n.links[id], n.changed
		n.mu.Unlock()
		if l != nil {
			return l
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s has no link with %s within %s", n.ID(), id, patience)
		}
	}
}

func redirectTo(nonce uint64, role uint64, c contact) *wire.Writer {
	return (&wire.Writer{}).Fixed64(1, nonce).Uint(2, role).Message(3, c.encode())
}

func ask(t *testing.T, n *Node, l *link, kind int, w *wire.Writer) *overlayMessage {
	t.Helper()
	answer, err := n.over.ask(l, kind, w)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestARedirectIsObeyedAtBothEnds(t *testing.T) {
	e, _ := startNode(t)
	f, saidF := startNode(t)
	c, saidC := startNode(t)
	linked(t, f, e)
	linked(t, c, e)
	toF, toC := linkTo(t, e, f.ID()), linkTo(t, e, c.ID())
	if a := ask(t, e, toC, kindRedirect, redirectTo(7, roleExpect, contact{id: f.ID()})); a.answer != redirectAgreed || len(a.addresses) == 0 {
		t.Fatalf("%+v", a)
	}
	if a := ask(t, e, toF, kindRedirect, redirectTo(7, roleDial, contact{c.ID(), c.listening()})); a.answer != redirectAgreed {
		t.Fatalf("%+v", a)
	}
	if line := saidF.until(t, "hint"); line["outcome"] != "linked" || line["to"] != c.ID().String() || line["from"] != e.ID().String() {
		t.Errorf("F: %v", line)
	}
	if line := saidC.until(t, "hint"); line["outcome"] != "linked" || line["to"] != f.ID().String() {
		t.Errorf("C: %v", line)
	}
	linkTo(t, c, f.ID())
}

func TestHintsThatBreakARuleAreRefused(t *testing.T) {
	e, _ := startNode(t)
	f, _ := startNode(t)
	other, _ := startNode(t)
	linked(t, f, e)
	linked(t, other, e)
	l := linkTo(t, e, f.ID())
	nowhere := contact{other.ID(), []ma.Multiaddr{ma.StringCast("/dns4/localhost/tcp/1/ws"), ma.StringCast("/ip4/127.0.0.1/tcp/1")}}
	for what, hint := range map[string]struct {
		c       contact
		role    uint64
		refusal uint32
	}{
		"itself":               {contact{f.ID(), f.listening()}, roleDial, redirectUnsuitable},
		"a peer that it has":   {contact{e.ID(), e.listening()}, roleDial, redirectUnsuitable},
		"no address that fits": {nowhere, roleDial, redirectUnsuitable},
	} {
		if a := ask(t, e, l, kindRedirect, redirectTo(1, hint.role, hint.c)); a.answer != hint.refusal {
			t.Errorf("%s: %+v", what, a)
		}
	}
	if a := ask(t, e, l, kindRedirect, redirectTo(1, roleExpect, contact{id: other.ID()})); a.answer != redirectAgreed {
		t.Errorf("%+v", a)
	}
	if a := ask(t, e, l, kindRedirect, redirectTo(2, roleDial, contact{other.ID(), other.listening()})); a.answer != redirectBusy {
		t.Errorf("a second one at a time: %+v", a)
	}
	if a := ask(t, e, l, kindAttach, (&wire.Writer{}).Fixed64(1, 1)); a.ok {
		t.Error("an Attach of somebody else is agreed to")
	}
}

func TestOneDialAnAddressAMinute(t *testing.T) {
	e, _ := startNode(t)
	f, saidF := startNode(t)
	other, _ := startNode(t)
	linked(t, f, e)
	l := linkTo(t, e, f.ID())
	// Nobody with this id is there: the first dial is in vain, and the second one is not made.
	nobody := contact{startStranger(t).ID(), other.listening()}
	if a := ask(t, e, l, kindRedirect, redirectTo(1, roleDial, nobody)); a.answer != redirectAgreed {
		t.Fatalf("%+v", a)
	}
	if line := saidF.until(t, "hint"); line["outcome"] != "wrong_peer" {
		t.Errorf("%v", line)
	}
	answer := ask(t, e, l, kindRedirect, redirectTo(2, roleDial, nobody))
	for answer.answer == redirectBusy { // the first one is being reported
		answer = ask(t, e, l, kindRedirect, redirectTo(2, roleDial, nobody))
	}
	if answer.answer != redirectTooMany {
		t.Errorf("%+v", answer)
	}
}

func TestWhatItTakesNoPartInIsAnswered(t *testing.T) {
	e, _ := startNode(t)
	f, _ := startNode(t)
	linked(t, f, e)
	l := linkTo(t, e, f.ID())
	empty := func() *wire.Writer { return &wire.Writer{} }
	if a := ask(t, e, l, kindProposeHandover, empty()); a.kind != kindHandoverReply || a.ok {
		t.Errorf("ProposeHandover: %+v", a)
	}
	if a := ask(t, e, l, kindDropRedundantLink, empty()); a.kind != kindDone || a.ok {
		t.Errorf("DropRedundantLink: %+v", a)
	}
	if a := ask(t, e, l, kindJoin, empty()); a.kind != kindJoined || a.answer != joinAccepted {
		t.Errorf("Join: %+v", a)
	}
	if a := ask(t, e, l, kindShuffle, empty()); a.kind != kindContacts {
		t.Errorf("Shuffle: %+v", a)
	}
	for _, kind := range []int{kindReport, kindCancel, kindLeave} {
		if a := ask(t, e, l, kind, empty()); a.kind != kindDone || !a.ok {
			t.Errorf("%d: %+v", kind, a)
		}
	}
}

func TestContactsAreAtTheirOwnHost(t *testing.T) {
	e, _ := startNode(t)
	a, _ := startNode(t)
	b, _ := startNode(t)
	linked(t, a, e)
	linked(t, b, e)
	toE := linkTo(t, a, e.ID())
	elsewhere := ma.StringCast("/ip4/8.8.8.8/tcp/9000/ws")
	named := putAddresses((&wire.Writer{}).Bool(4, true), 5, []ma.Multiaddr{elsewhere, a.listening()[0]})
	if answer := ask(t, a, toE, kindJoin, named); answer.answer != joinAccepted {
		t.Fatalf("%+v", answer)
	}
	answer := ask(t, b, linkTo(t, b, e.ID()), kindShuffle, &wire.Writer{})
	if len(answer.contacts) != 1 || len(answer.contacts[0].addresses) != 1 || !answer.contacts[0].addresses[0].Equal(a.listening()[0]) {
		t.Errorf("%+v", answer.contacts)
	}
}
