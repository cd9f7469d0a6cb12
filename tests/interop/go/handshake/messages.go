package handshake

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"diatribe.invalid/peer/wire"
)

// The five kinds of frame, by their field in Frame.
const (
	kindHello = 1 + iota
	kindChallenge
	kindAnswer
	kindPass
	kindReject
)

var kindNames = map[int]string{0: "nothing", kindHello: "Hello", kindChallenge: "Challenge", kindAnswer: "Answer", kindPass: "Pass", kindReject: "Reject"}

// core is the identity that a side claims in one round.
type core struct {
	version, round                             uint32
	publicKey, peerID, encKey, nonce, instance []byte
	features                                   uint64
	prev                                       []byte
	// tags are in a Hello, key is in a Challenge.
	tags    []byte
	key     uint32
	clockMs uint64
}

func (c *core) encode() []byte {
	w := &wire.Writer{}
	w.Uint(1, uint64(c.version)).Uint(2, uint64(c.round)).Bytes(4, c.publicKey).Bytes(5, c.peerID)
	w.Bytes(6, c.encKey).Bytes(7, c.nonce).Bytes(8, c.instance).Uint(9, c.features).Bytes(10, c.prev)
	return w.Bytes(11, c.tags).Uint(12, uint64(c.key)).Uint(13, c.clockMs).Out
}

// decodeCore reads the Core of a Hello or of a Challenge. It looks at the version before anything else, so that a later
// one is recognized even if it changed the rest.
func decodeCore(encoded []byte, kind int) (*core, error) {
	var version uint32
	for field, err := range wire.Fields(encoded) {
		if err != nil {
			return nil, auth("the Core is malformed")
		}
		if field.Number == 1 && field.Type == protowire.VarintType {
			version = uint32(field.Value)
		}
	}
	if version != Version {
		return nil, &Refused{CodeVersion, fmt.Sprintf("the peer speaks version %d of the handshake, this node %d", version, Version)}
	}
	c := &core{}
	err := wire.Decode(encoded, wire.Schema{
		1: wire.Uint32(&c.version), 2: wire.Uint32(&c.round), 4: wire.Bytes(&c.publicKey), 5: wire.Bytes(&c.peerID), 6: wire.Bytes(&c.encKey), 7: wire.Bytes(&c.nonce), 8: wire.Bytes(&c.instance),
		9: wire.Uint64(&c.features), 10: wire.Bytes(&c.prev), 11: wire.Bytes(&c.tags), 12: wire.Uint32(&c.key),
		13: wire.Uint64(&c.clockMs),
	})
	if err != nil {
		return nil, auth("the Core is malformed")
	}
	tags, keys := tagsSize, []uint32{0}
	if kind == kindChallenge {
		tags, keys = 0, []uint32{1, 2}
	}
	if !slices.Contains(keys, c.key) {
		return nil, auth("the Core names a network key that does not exist")
	}
	return c, lengths(c.tags, tags, c.publicKey, 36, c.peerID, 38, c.encKey, 32, c.nonce, 32, c.instance, 16, c.prev, 32)
}

// frame is any of the five, with the fields that its kind has.
type frame struct {
	kind                                      int
	core, enc, ciphertext, signature, confirm []byte
	code                                      uint32
}

// decodeFrame reads a body. A kind that is there twice is one message with the fields of both, of two kinds the last
// one counts: the ordinary rules of protocol buffers. Each must be well-formed by itself.
func decodeFrame(body []byte) (*frame, error) {
	f := &frame{}
	schemas := map[int]wire.Schema{
		kindHello:     {1: wire.Bytes(&f.core)},
		kindChallenge: {1: wire.Bytes(&f.core), 2: wire.Bytes(&f.enc), 3: wire.Bytes(&f.ciphertext), 4: wire.Bytes(&f.signature)},
		kindAnswer:    {1: wire.Bytes(&f.enc), 2: wire.Bytes(&f.ciphertext), 3: wire.Bytes(&f.signature), 4: wire.Bytes(&f.confirm)},
		kindPass:      {1: wire.Bytes(&f.confirm)},
		// A peer that follows referrals reads them and their proof; here they need only be fields of bytes.
		kindReject: {1: wire.Uint32(&f.code), 2: wire.Bytes(new([]byte)), 3: wire.Bytes(new([]byte))},
	}
	for field, err := range wire.Fields(body) {
		if err != nil {
			return nil, auth("the frame is malformed")
		}
		schema, known := schemas[field.Number]
		if !known {
			continue
		}
		if field.Number != f.kind {
			*f = frame{kind: field.Number}
		}
		if field.Type != protowire.BytesType || wire.Decode(field.Bytes, schema) != nil {
			return nil, auth("the frame is malformed")
		}
	}
	if f.kind == 0 {
		return nil, auth("the frame is of no known kind")
	}
	return f, nil
}

func encodeFrame(kind int, fields ...[]byte) []byte {
	w := &wire.Writer{}
	for i, field := range fields {
		w.Bytes(i+1, field)
	}
	return (&wire.Writer{}).Message(kind, w.Out).Out
}

// RejectFrame returns the response of a server that refuses.
func RejectFrame(code Code) []byte {
	return (&wire.Writer{}).Message(kindReject, (&wire.Writer{}).Uint(1, uint64(code)).Out).Out
}

// lengths takes fields, each followed by the length that it must have.
func lengths(pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		if len(pairs[i].([]byte)) != pairs[i+1].(int) {
			return auth("a field has not its length")
		}
	}
	return nil
}
