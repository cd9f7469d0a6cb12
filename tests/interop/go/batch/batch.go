// Package batch is what travels in a room: signed envelopes, and what a room may be called.
//
// Entry points: Seal and Open. The rule it keeps: an envelope that is taken has one spelling, and the checks stand in
// the order of the contract.
package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

const (
	// MaxData, MaxName and MaxEvents are the limits of an event and of a batch.
	MaxData   = 1 << 20
	MaxName   = 256
	MaxEvents = 4096
	// MaxMessage is the largest envelope.
	MaxMessage = MaxData + 1024
	// MaxBatch is the size at which a sender closes a batch of several events.
	MaxBatch = 64 << 10

	maxAheadMs = 5 * 60 * 1000
	maxSeq     = 1<<53 - 1
	signed     = "diatribe-batch-v1"
)

// ID is SHA-256 of an envelope: the batch's and the message's id.
type ID [32]byte

// IDOf is the id of an envelope.
func IDOf(envelope []byte) ID { return sha256.Sum256(envelope) }

// Event is what an application sends.
type Event struct {
	Name string
	Data []byte
}

// Size is how much an event adds to a batch.
func (e Event) Size() int { return len(e.Name) + len(e.Data) + 16 }

// Batch is what one author says in one room at one time.
type Batch struct {
	ID       ID
	Author   []byte // libp2p's PublicKey message
	Instance []byte
	FirstSeq uint64
	SentAtMs uint64
	Room     string
	Events   []Event
}

// Error is an envelope that is refused: which rule it breaks, and whether whoever forwarded it could have known.
type Error struct {
	Kind    string
	Offence bool
}

func (e *Error) Error() string { return fmt.Sprintf("the batch is refused: %s", e.Kind) }

func offence(kind string) error { return &Error{kind, true} }

// Seal signs the batch: its envelope.
func (b *Batch) Seal(author *identity.Identity) []byte {
	w := &wire.Writer{}
	w.Bytes(1, author.PublicKey).Bytes(2, b.Instance).Uint(3, b.FirstSeq).Uint(4, b.SentAtMs).Bytes(5, []byte(b.Room))
	for _, event := range b.Events {
		w.Message(6, (&wire.Writer{}).Bytes(1, []byte(event.Name)).Bytes(2, event.Data).Out)
	}
	envelope := (&wire.Writer{}).Message(1, w.Out).Message(2, author.Sign(toSign(w.Out))).Out
	b.Author, b.ID = author.PublicKey, IDOf(envelope)
	return envelope
}

// Open checks the data of a message that came in a room. Its errors are *Error.
func Open(envelope []byte, room string, nowMs uint64) (*Batch, error) {
	if len(envelope) > MaxMessage {
		return nil, offence("TooLarge")
	}
	body, signature, found := split(envelope)
	if !found {
		return nil, offence("NotAnEnvelope")
	}
	b := &Batch{ID: IDOf(envelope)}
	if err := b.read(body); err != nil {
		return nil, err
	}
	if len(b.Events) == 0 {
		return nil, offence("NoEvents")
	}
	for _, event := range b.Events {
		if len(event.Name) > MaxName {
			return nil, offence("NameTooLong")
		}
		if len(event.Data) > MaxData {
			return nil, offence("EventTooLarge")
		}
	}
	key, err := identity.PublicKeyOf(b.Author)
	switch {
	case err != nil:
		return nil, offence("Author")
	case len(b.Instance) != 16:
		return nil, offence("InstanceId")
	case b.Room != room:
		return nil, offence("OtherRoom")
	case b.FirstSeq < 1 || b.FirstSeq > maxSeq || b.FirstSeq+uint64(len(b.Events))-1 > maxSeq:
		return nil, offence("Numbering")
	case !identity.Verify(key, toSign(body), signature):
		return nil, offence("Signature")
	case b.SentAtMs > nowMs+maxAheadMs:
		return nil, &Error{"Ahead", false}
	}
	return b, nil
}

func (b *Batch) read(body []byte) error {
	tooMany := false
	err := wire.Decode(body, wire.Schema{
		1: wire.Bytes(&b.Author), 2: wire.Bytes(&b.Instance), 3: wire.Uint64(&b.FirstSeq), 4: wire.Uint64(&b.SentAtMs),
		5: wire.String(&b.Room),
		6: wire.Message(func(message []byte) error {
			// A body can hold half a million empty events: do not keep what will be refused.
			if tooMany = tooMany || len(b.Events) == MaxEvents; tooMany {
				return nil
			}
			var event Event
			err := wire.Decode(message, wire.Schema{1: wire.String(&event.Name), 2: wire.Bytes(&event.Data)})
			b.Events = append(b.Events, event)
			return err
		}),
	})
	switch {
	case err != nil:
		return offence("NotABatch")
	case tooMany:
		return offence("TooManyEvents")
	}
	return nil
}

// split takes apart what is exactly 0a len body 12 40 signature.
func split(envelope []byte) (body, signature []byte, found bool) {
	if len(envelope) < 1 || envelope[0] != 0x0a {
		return nil, nil, false
	}
	n, size := binary.Uvarint(envelope[1:])
	// The length is what is left, so that it is minimal when it is spelled like that number.
	rest := len(envelope) - 1 - size - 66
	if size <= 0 || rest < 1 || n != uint64(rest) || !bytes.Equal(binary.AppendUvarint(nil, n), envelope[1:1+size]) {
		return nil, nil, false
	}
	body, tail := envelope[1+size:1+size+rest], envelope[1+size+rest:]
	return body, tail[2:], tail[0] == 0x12 && tail[1] == 0x40
}

func toSign(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(signed), sum[:]...)
}
