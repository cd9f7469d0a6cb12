package node

import (
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

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
	kindTake
	kindLeave
	kindThin
)

const (
	kindContacts = 1 + iota
	kindJoined
	kindRedirected
	kindDone
	kindTaken
)

// What Joined, Redirect and Redirected say.
const (
	joinRefused, joinTaken, joinSplit, joinRoom                                       = 0, 1, 2, 3
	roleDial, roleExpect                                                              = 0, 1
	redirectAgreed, redirectBusy, redirectUnsuitable, redirectTooMany, redirectNoDial = 0, 1, 2, 3, 4
)

const (
	maxOverlayFrame = 8192
	maxAddresses    = 4
	maxContacts     = 8
	maxNamedLinks   = 8
)

var errKind = errors.New("a kind that is not known")

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
	for i, address := range addresses {
		if i < maxAddresses {
			w.Message(field, address.Bytes())
		}
	}
	return w
}

// decodeContact keeps the addresses that are an IP address, tcp and ws, with or without tls.
func decodeContact(message []byte) (contact, error) {
	var id []byte
	var c contact
	err := wire.Decode(message, wire.Schema{1: wire.Bytes(&id), 2: addressesInto(&c.addresses)})
	if err != nil {
		return c, err
	}
	c.id, err = peer.IDFromBytes(id)
	if err != nil {
		return c, wire.ErrMalformed
	}
	return c, nil
}

func addressesInto(to *[]ma.Multiaddr) wire.Slot {
	return wire.Message(func(encoded []byte) error {
		address, err := ma.NewMultiaddrBytes(encoded)
		if err == nil && len(*to) < maxAddresses && isWebsocket(address) {
			*to = append(*to, address)
		}
		return nil
	})
}

func contactsInto(to *[]contact, most int) wire.Slot {
	return wire.Message(func(message []byte) error {
		if len(*to) == most {
			return nil
		}
		c, err := decodeContact(message)
		if err == nil {
			*to = append(*to, c)
		}
		return err
	})
}

func isWebsocket(address ma.Multiaddr) bool {
	var shape string
	for _, part := range address {
		switch code := part.Protocol().Code; code {
		case ma.P_IP4, ma.P_IP6:
			shape += "ip "
		default:
			shape += part.Protocol().Name + " "
		}
	}
	return shape == "ip tcp ws " || shape == "ip tcp tls ws " || shape == "ip tcp wss "
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

func decodeRequest(body []byte) (*overlayMessage, error) {
	m := &overlayMessage{}
	schemas := map[int]wire.Schema{
		kindShuffle: {1: contactsInto(&m.contacts, 4)},
		kindJoin: {
			1: wire.Fixed64(&m.nonce), 2: wire.Uint32(&m.need), 4: wire.Bool(&m.dialable), 5: addressesInto(&m.addresses),
		},
		kindRedirect: {1: wire.Fixed64(&m.nonce), 2: wire.Uint32(&m.role), 3: wire.Message(func(message []byte) (err error) {
			m.to, err = decodeContact(message)
			return err
		})},
		kindAttach: {1: wire.Fixed64(&m.nonce)},
		kindReport: {1: wire.Fixed64(&m.nonce), 2: wire.Bool(&m.ok)},
		kindCancel: {1: wire.Fixed64(&m.nonce), 2: wire.Bool(&m.ok), 3: contactsInto(&m.contacts, maxContacts)},
		kindTake:   {1: wire.Bool(&m.ok)},
		kindLeave:  {1: contactsInto(&m.contacts, maxContacts)},
		kindThin:   {},
	}
	return m, m.decode(body, schemas)
}

func decodeResponse(body []byte) (*overlayMessage, error) {
	m := &overlayMessage{}
	return m, m.decode(body, map[int]wire.Schema{
		kindContacts:   {1: contactsInto(&m.contacts, maxContacts)},
		kindJoined:     {1: wire.Uint32(&m.answer), 2: contactsInto(&m.contacts, maxContacts)},
		kindRedirected: {1: wire.Uint32(&m.answer), 2: addressesInto(&m.addresses)},
		kindDone:       {1: wire.Bool(&m.ok)},
		kindTaken:      {1: wire.Bool(&m.ok)},
	})
}

func (m *overlayMessage) decode(body []byte, schemas map[int]wire.Schema) error {
	var last []byte
	for field, err := range wire.Fields(body) {
		if err != nil {
			return err
		}
		if _, known := schemas[field.Number]; !known {
			continue
		}
		if field.Type != 2 {
			return wire.ErrMalformed
		}
		if field.Number != m.kind {
			m.kind, last = field.Number, nil
		}
		last = append(last, field.Bytes...)
	}
	schema, known := schemas[m.kind]
	if !known {
		return errKind
	}
	return wire.Decode(last, schema)
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
