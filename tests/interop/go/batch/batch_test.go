package batch

import (
	"bytes"
	"errors"
	"testing"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/vectors"
)

type published struct {
	Batches []struct {
		Comment  string
		Seed     vectors.Hex
		Author   vectors.Hex
		Instance vectors.Hex `json:"instance_id"`
		FirstSeq uint64      `json:"first_seq"`
		SentAtMs uint64      `json:"sent_at_ms"`
		Room     string
		Topic    string
		Events   []struct {
			Name string
			Data vectors.Hex
		}
		Body      vectors.Hex
		Signature vectors.Hex
		Envelope  vectors.Hex
		ID        vectors.Hex
	}
	Accepted []struct {
		Comment, Room string
		NowMs         uint64 `json:"now_ms"`
		Envelope, ID  vectors.Hex
	}
	Refused []struct {
		Comment, Error, Room string
		NowMs                uint64 `json:"now_ms"`
		Envelope             vectors.Hex
	}
	Rooms         []struct{ Room, Topic string }
	RefusedTopics []struct{ Comment, Topic string } `json:"refused_topics"`
}

func read(t *testing.T) (p published) {
	vectors.Read(t, "batch.json", &p)
	if len(p.Batches)*len(p.Accepted)*len(p.Refused)*len(p.Rooms)*len(p.RefusedTopics) == 0 {
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
		if envelope := b.Seal(author); !bytes.Equal(envelope, v.Envelope) || !bytes.Equal(b.ID[:], v.ID) {
			t.Errorf("%s: %x", v.Comment, envelope)
		}
		body, signature, found := split(v.Envelope)
		if !found || !bytes.Equal(body, v.Body) || !bytes.Equal(signature, v.Signature) {
			t.Errorf("%s: body %x, signature %x", v.Comment, body, signature)
		}
		opened, err := Open(v.Envelope, v.Room, v.SentAtMs)
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
		if b, err := Open(v.Envelope, v.Room, v.NowMs); err != nil || !bytes.Equal(b.ID[:], v.ID) {
			t.Errorf("%s: %v", v.Comment, err)
		}
	}
}

func TestEnvelopesAreRefusedByTheRuleTheyBreak(t *testing.T) {
	for _, v := range read(t).Refused {
		_, err := Open(v.Envelope, v.Room, v.NowMs)
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != v.Error || refused.Offence != (v.Error != "Ahead") {
			t.Errorf("%s: %v, not %s", v.Comment, err, v.Error)
		}
	}
}

func TestALengthThatWrapsAroundIsNoEnvelope(t *testing.T) {
	for size := range 80 {
		envelope := append([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, make([]byte, size)...)
		if _, err := Open(envelope, "lobby", 0); err == nil {
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
