package batch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/vectors"
	"diatribe.invalid/peer/wire"
)

type published struct {
	Batches []struct {
		Comment   string
		Seed      vectors.Hex
		NetworkID vectors.Hex `json:"network_id"`
		Author    vectors.Hex
		Instance  vectors.Hex `json:"instance_id"`
		FirstSeq  uint64      `json:"first_seq"`
		SentAtMs  uint64      `json:"sent_at_ms"`
		Room      string
		Topic     string
		Prev      []vectors.Hex
		Events    []struct {
			Name string
			Data vectors.Hex
		}
		Body      vectors.Hex
		Signed    vectors.Hex `json:"signed_text"`
		Signature vectors.Hex
		Envelope  vectors.Hex
		ID        vectors.Hex
	}
	Accepted []received
	Refused  []received
	IDs      []struct {
		Comment, Topic string
		Data, ID       vectors.Hex
		DataBytes      int `json:"data_bytes"`
	} `json:"ids"`
	Rooms         []struct{ Room, Topic string }
	RefusedTopics []struct{ Comment, Topic string } `json:"refused_topics"`
}

type received struct {
	Comment, Error, Room string
	NetworkID            vectors.Hex `json:"network_id"`
	NowMs                uint64      `json:"now_ms"`
	PrevCount            int         `json:"prev_count"`
	Envelope, ID         vectors.Hex
}

// open is the id of the open network.
var open = make([]byte, 32)

func read(t *testing.T) (p published) {
	vectors.Read(t, "batch.json", &p)
	if len(p.Batches)*len(p.Accepted)*len(p.Refused)*len(p.IDs)*len(p.Rooms)*len(p.RefusedTopics) == 0 {
		t.Fatal("a part of the vectors is empty")
	}
	return p
}

func TestBatchesBecomeThePublishedEnvelopes(t *testing.T) {
	for _, v := range read(t).Batches {
		author, err := identity.FromSeed(v.Seed)
		if err != nil {
			t.Fatal(err)
		}
		b := Batch{Instance: v.Instance, FirstSeq: v.FirstSeq, SentAtMs: v.SentAtMs, Room: v.Room}
		for _, event := range v.Events {
			b.Events = append(b.Events, Event{event.Name, event.Data})
		}
		for _, id := range v.Prev {
			b.Prev = append(b.Prev, ID(id))
		}
		if envelope := b.Seal(author, v.NetworkID); !bytes.Equal(envelope, v.Envelope) || !bytes.Equal(b.ID[:], v.ID) {
			t.Errorf("%s: %x", v.Comment, envelope)
		}
		body, signature, found := split(v.Envelope)
		if !found || !bytes.Equal(body, v.Body) || !bytes.Equal(signature, v.Signature) {
			t.Errorf("%s: body %x, signature %x", v.Comment, body, signature)
		}
		if text := toSign(v.NetworkID, sha256.Sum256(body)); !bytes.Equal(text, v.Signed) {
			t.Errorf("%s: signs %x", v.Comment, text)
		}
		opened, err := Open(v.Envelope, v.Room, v.NetworkID, v.SentAtMs)
		if err != nil || len(opened.Events) != len(v.Events) || opened.FirstSeq != v.FirstSeq || !bytes.Equal(opened.Author, v.Author) {
			t.Errorf("%s: opened %+v, %v", v.Comment, opened, err)
		}
		if TopicOf(v.Room) != v.Topic {
			t.Error(v.Comment, TopicOf(v.Room))
		}
	}
}

func TestEnvelopesAreAccepted(t *testing.T) {
	for _, v := range read(t).Accepted {
		if b, err := Open(v.Envelope, v.Room, v.NetworkID, v.NowMs); err != nil || !bytes.Equal(b.ID[:], v.ID) || len(b.Prev) != v.PrevCount {
			t.Errorf("%s: %+v, %v", v.Comment, b, err)
		}
	}
}

func TestMessagesHaveTheirIDs(t *testing.T) {
	for _, v := range read(t).IDs {
		if v.DataBytes > 0 {
			// A body of bytes 78 with a length of three bytes, and a signature of zeros.
			body := bytes.Repeat([]byte{0x78}, v.DataBytes-1-3-66)
			v.Data = (&wire.Writer{}).Message(1, body).Message(2, make([]byte, 64)).Out
		}
		if id := IDOf(v.Topic, v.Data); !bytes.Equal(id[:], v.ID) {
			t.Errorf("%s: %x", v.Comment, id)
		}
	}
}

func TestEnvelopesAreRefusedByTheRuleTheyBreak(t *testing.T) {
	for _, v := range read(t).Refused {
		_, err := Open(v.Envelope, v.Room, v.NetworkID, v.NowMs)
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != v.Error || refused.Offence != (v.Error != "Ahead") {
			t.Errorf("%s: %v, not %s", v.Comment, err, v.Error)
		}
	}
}

func TestALengthThatWrapsAroundIsNoEnvelope(t *testing.T) {
	for size := range 80 {
		envelope := append([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, make([]byte, size)...)
		if _, err := Open(envelope, "lobby", open, 0); err == nil {
			t.Fatal("taken")
		}
	}
}

func TestRoomsHaveTheirTopics(t *testing.T) {
	p := read(t)
	for _, v := range p.Rooms {
		if room, found := RoomOf(v.Topic); !found || room != v.Room || TopicOf(v.Room) != v.Topic {
			t.Errorf("%q: %q, %v", v.Topic, room, found)
		}
	}
	for _, v := range p.RefusedTopics {
		if room, found := RoomOf(v.Topic); found {
			t.Errorf("%s: %q names the room %q", v.Comment, v.Topic, room)
		}
	}
}
