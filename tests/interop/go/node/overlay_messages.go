package node

import (
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"

	"diatribe.invalid/peer/wire"
)

// The kinds of request and of response, by their field.
const (
	kindShuffle = 1 + iota
	kindJoin
	kindRedirect
	kindAttach
	kindReport
	kindCancel
	kindProposeHandover
	kindLeave
	kindDropRedundantLink
)

const (
	kindContacts = 1 + iota
	kindJoined
	kindRedirected
	kindDone
	kindHandoverReply
)

// The enum values of Joined, Redirect and Redirected.
const (
	joinRefused, joinAccepted, joinSplit, joinPending                                 = 0, 1, 2, 3
	roleDial, roleExpect                                                              = 0, 1
	redirectAgreed, redirectBusy, redirectUnsuitable, redirectTooMany, redirectNoDial = 0, 1, 2, 3, 4
)

const (
	maxOverlayFrame = 8192
	maxAddresses    = 2
	maxContacts     = 8
	maxShuffled     = 4
)

var (
	errKind   = errors.New("a kind that is not known")
	errNobody = errors.New("a redirect to nobody")
)

// contact is a peer, and where it listens.
type contact struct {
	id        peer.ID
	addresses []ma.Multiaddr
}

func (c contact) encode() []byte {
	w := (&wire.Writer{}).Bytes(1, []byte(c.id))
	return putAddresses(w, 2, c.addresses).Out
}

func putAddresses(w *wire.Writer, field int, addresses []ma.Multiaddr) *wire.Writer {
	for _, address := range addresses[:min(len(addresses), maxAddresses)] {
		w.Message(field, address.Bytes())
	}
	return w
}

// named is a contact as encoded on the wire.
type named struct {
	id        []byte
	addresses [][]byte
}

func (c *named) schema() wire.Schema {
	return wire.Schema{1: wire.Bytes(&c.id), 2: appendTo(&c.addresses)}
}

// contact returns the usable part of it. Without a PeerId there is none.
func (c *named) contact() (contact, bool) {
	id, err := peer.IDFromBytes(c.id)
	if err != nil {
		return contact{}, false
	}
	return contact{id, readAddresses(c.addresses, id)}, true
}

// readAddresses returns the addresses of a peer that count: the first ones that have the canonical form.
func readAddresses(encoded [][]byte, of peer.ID) (addresses []ma.Multiaddr) {
	for _, each := range encoded {
		if address, found := readAddress(each, of); found && len(addresses) < maxAddresses {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

func appendTo(to *[][]byte) wire.Slot {
	return wire.Message(func(value []byte) error { *to = append(*to, value); return nil })
}

// contactsInto reads all contacts, and keeps the first ones, of these those that have a PeerId.
func contactsInto(to *[]contact, most int) wire.Slot {
	read := 0
	return wire.Message(func(message []byte) error {
		var c named
		if err := wire.Decode(message, c.schema()); err != nil {
			return err
		}
		if contact, found := c.contact(); found && read < most {
			*to = append(*to, contact)
		}
		read++
		return nil
	})
}

// overlayMessage has the fields of all requests and responses.
type overlayMessage struct {
	kind      int
	nonce     uint64
	need      uint32
	role      uint32
	answer    uint32
	ok        bool // linked, keep, agreed, ok
	dialable  bool
	addresses []ma.Multiaddr
	contacts  []contact
	to        contact
}

// decodeRequest reads a request of the peer `from`. An error is an offence.
func decodeRequest(body []byte, from peer.ID) (*overlayMessage, error) {
	var to named
	m := &overlayMessage{}
	err := m.decode(body, from, func(addresses *[][]byte) map[int]wire.Schema {
		to = named{}
		return map[int]wire.Schema{
			kindShuffle: {1: contactsInto(&m.contacts, maxShuffled)},
			kindJoin: {
				1: wire.Fixed64(&m.nonce), 2: wire.Uint32(&m.need), 3: wire.Bytes(new([]byte)), 4: wire.Bool(&m.dialable),
				5: appendTo(addresses),
			},
			kindRedirect: {1: wire.Fixed64(&m.nonce), 2: wire.Uint32(&m.role), 3: wire.Message(func(message []byte) error {
				return wire.Decode(message, to.schema())
			})},
			kindAttach:            {1: wire.Fixed64(&m.nonce)},
			kindReport:            {1: wire.Fixed64(&m.nonce), 2: wire.Bool(&m.ok)},
			kindCancel:            {1: wire.Fixed64(&m.nonce), 2: wire.Bool(&m.ok), 3: contactsInto(&m.contacts, maxContacts)},
			kindProposeHandover:   {1: wire.Bool(&m.ok)},
			kindLeave:             {1: contactsInto(&m.contacts, maxContacts)},
			kindDropRedundantLink: {1: wire.Bytes(new([]byte))},
		}
	})
	if m.role != roleExpect {
		m.role = roleDial
	}
	if err != nil || m.kind != kindRedirect {
		return m, err
	}
	found := false
	if m.to, found = to.contact(); !found {
		return nil, errNobody
	}
	return m, nil
}

// decodeResponse reads a response of the peer `from`. An error is an offence.
func decodeResponse(body []byte, from peer.ID) (*overlayMessage, error) {
	m := &overlayMessage{}
	err := m.decode(body, from, func(addresses *[][]byte) map[int]wire.Schema {
		return map[int]wire.Schema{
			kindContacts:   {1: contactsInto(&m.contacts, maxContacts)},
			kindJoined:     {1: wire.Uint32(&m.answer), 2: contactsInto(&m.contacts, maxContacts)},
			kindRedirected: {1: wire.Uint32(&m.answer), 2: appendTo(addresses)},
			kindDone:       {1: wire.Bool(&m.ok)},
			kindHandoverReply: {
				1: wire.Bool(&m.ok), 2: wire.Fixed64(&m.nonce), 3: wire.Bytes(new([]byte)), 4: wire.Bool(&m.dialable),
				5: appendTo(addresses),
			},
		}
	})
	switch {
	case m.kind == kindJoined && m.answer > joinPending:
		m.answer = joinRefused
	case m.kind == kindRedirected && m.answer > redirectNoDial:
		m.answer = redirectBusy
	}
	return m, err
}

// decode reads a message of one kind. A kind that is there twice is one message with the fields of both, of two kinds
// the last one counts; each must be well-formed.
func (m *overlayMessage) decode(body []byte, from peer.ID, schemas func(addresses *[][]byte) map[int]wire.Schema) error {
	var addresses [][]byte
	known := schemas(&addresses)
	for field, err := range wire.Fields(body) {
		if err != nil {
			return err
		}
		if _, isKind := known[field.Number]; !isKind {
			continue
		}
		if field.Type != protowire.BytesType {
			return wire.ErrMalformed
		}
		if field.Number != m.kind {
			*m, addresses = overlayMessage{kind: field.Number}, nil
			known = schemas(&addresses)
		}
		if err := wire.Decode(field.Bytes, known[field.Number]); err != nil {
			return err
		}
	}
	if m.kind == 0 {
		return errKind
	}
	m.addresses = readAddresses(addresses, from)
	return nil
}

func encodeOverlay(kind int, w *wire.Writer) []byte {
	return (&wire.Writer{}).Message(kind, w.Out).Out
}

func putContacts(w *wire.Writer, field int, contacts []contact) *wire.Writer {
	for _, c := range contacts {
		w.Message(field, c.encode())
	}
	return w
}
