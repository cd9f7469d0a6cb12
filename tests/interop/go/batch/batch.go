// Package batch has the signed envelopes of a room, and the valid room names.
//
// Entry points: Seal and Open. The rule it keeps: a valid envelope has one encoding, and the checks run in
// the order of the contract.
package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

const (
	// MaxData, MaxName and MaxEvents are the limits of an event and of a batch.
	MaxData   = 1 << 20
	MaxName   = 256
	MaxEvents = 1024
	// MaxMessage is the largest envelope.
	MaxMessage = MaxData + 1024
	// MaxBatch is the size, counted with EventOverhead, at which a sender closes a batch of several events.
	MaxBatch = 256 << 10
	// EventOverhead is the number of bytes that an event counts beside its own: the cost of its bookkeeping in each log.
	EventOverhead = 64
	// MaxPrev is how many batches a batch says it follows.
	MaxPrev = 4

	// eventFraming is the most that keys and lengths add to the bytes of an event.
	eventFraming = 16
	maxAheadMs   = 5 * 60 * 1000
	maxSeq       = 1<<53 - 1

	signed   = "diatribe-batch-v2"
	idOfGood = "diatribe-batch-id-v2"
	idOfBad  = "diatribe-bad-v2"
)

// ID names a batch, and is the id of its message.
type ID [32]byte

// IDOf is the id of a message. One that is spelled like an envelope, on the topic of a room, has an id that no other
// message can have, valid or not; all others have ids of another kind.
func IDOf(topic string, data []byte) ID {
	if room, isRoom := RoomOf(topic); isRoom && len(data) <= MaxMessage {
		if body, signature, found := split(data); found {
			return idOf(room, sha256.Sum256(body), signature)
		}
	}
	h := sha256.New()
	h.Write([]byte(idOfBad))
	h.Write([]byte(topic))
	h.Write(data)
	return ID(h.Sum(nil))
}

func idOf(room string, body [32]byte, signature []byte) ID {
	h := sha256.New()
	h.Write([]byte(idOfGood))
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(room))))
	h.Write([]byte(room))
	h.Write(body[:])
	h.Write(signature)
	return ID(h.Sum(nil))
}

// Event is one message of an application.
type Event struct {
	Name string
	Data []byte
}

// Size is how much an event adds to a batch.
func (e Event) Size() int { return len(e.Name) + len(e.Data) + eventFraming + EventOverhead }

// Batch is one or more events of one author in one room.
type Batch struct {
	ID       ID
	Author   []byte // libp2p's PublicKey message
	Instance []byte
	FirstSeq uint64
	SentAtMs uint64
	Room     string
	Events   []Event
	// Prev are the newest batches of its own in this room that the author knew, each once.
	Prev []ID
}

// Error is a refused envelope: the broken rule, and whether the forwarding peer could have known.
type Error struct {
	Kind    string
	Offence bool
}

func (e *Error) Error() string { return fmt.Sprintf("the batch is refused: %s", e.Kind) }

func offence(kind string) error { return &Error{kind, true} }

// Seal signs the batch for the network that has this id, and returns its envelope.
func (b *Batch) Seal(author *identity.Identity, networkID []byte) []byte {
	w := &wire.Writer{}
	w.Bytes(1, author.PublicKey).Bytes(2, b.Instance).Uint(3, b.FirstSeq).Uint(4, b.SentAtMs).Bytes(5, []byte(b.Room))
	for _, event := range b.Events {
		w.Message(6, (&wire.Writer{}).Bytes(1, []byte(event.Name)).Bytes(2, event.Data).Out)
	}
	for _, id := range b.Prev {
		w.Message(7, id[:])
	}
	sum := sha256.Sum256(w.Out)
	signature := author.Sign(toSign(networkID, sum))
	b.Author, b.ID = author.PublicKey, idOf(b.Room, sum, signature)
	return (&wire.Writer{}).Message(1, w.Out).Message(2, signature).Out
}

// Open checks the data of a message in a room of the network with this id. Its errors are *Error.
func Open(envelope []byte, room string, networkID []byte, nowMs uint64) (*Batch, error) {
	if len(envelope) > MaxMessage {
		return nil, offence("TooLarge")
	}
	body, signature, found := split(envelope)
	if !found {
		return nil, offence("NotAnEnvelope")
	}
	sum := sha256.Sum256(body)
	b := &Batch{ID: idOf(room, sum, signature)}
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
	case !identity.Verify(key, toSign(networkID, sum), signature):
		return nil, offence("Signature")
	case b.SentAtMs > nowMs+maxAheadMs:
		return nil, &Error{"Ahead", false}
	}
	return b, nil
}

func (b *Batch) read(body []byte) error {
	tooMany, prev := false, 0
	err := wire.Decode(body, wire.Schema{
		1: wire.Bytes(&b.Author), 2: wire.Bytes(&b.Instance), 3: wire.Uint64(&b.FirstSeq), 4: wire.Uint64(&b.SentAtMs),
		5: wire.String(&b.Room),
		6: wire.Message(func(message []byte) error {
			var event Event
			err := wire.Decode(message, wire.Schema{1: wire.String(&event.Name), 2: wire.Bytes(&event.Data)})
			// A body can hold half a million empty events: events of a body that will be refused are checked, and not kept.
			if tooMany = tooMany || len(b.Events) == MaxEvents; !tooMany {
				b.Events = append(b.Events, event)
			}
			return err
		}),
		7: wire.Message(func(id []byte) error {
			switch prev++; {
			case prev > MaxPrev:
				return offence("TooManyPrev")
			case len(id) != len(ID{}):
				return offence("PrevLength")
			}
			if !slices.Contains(b.Prev, ID(id)) {
				b.Prev = append(b.Prev, ID(id))
			}
			return nil
		}),
	})
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return offence("NotABatch")
	case tooMany:
		return offence("TooManyEvents")
	}
	return nil
}

// split parses an envelope, exactly 0a len body 12 40 signature.
func split(envelope []byte) (body, signature []byte, found bool) {
	if len(envelope) < 1 || envelope[0] != 0x0a {
		return nil, nil, false
	}
	n, size := binary.Uvarint(envelope[1:])
	// The length is the number of remaining bytes, so it is minimal when it is encoded like that number.
	rest := len(envelope) - 1 - size - 66
	if size <= 0 || rest < 1 || n != uint64(rest) || !bytes.Equal(binary.AppendUvarint(nil, n), envelope[1:1+size]) {
		return nil, nil, false
	}
	body, tail := envelope[1+size:1+size+rest], envelope[1+size+rest:]
	return body, tail[2:], tail[0] == 0x12 && tail[1] == 0x40
}

func toSign(networkID []byte, body [32]byte) []byte {
	return slices.Concat([]byte(signed), networkID, body[:])
}
