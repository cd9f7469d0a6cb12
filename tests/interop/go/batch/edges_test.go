package batch

// Valid and invalid bodies, each with a valid signature, so that nothing else is wrong with it.

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

func author(t *testing.T) *identity.Identity {
	t.Helper()
	own, err := identity.FromSeed(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// body returns a batch of one empty event with additional fields.
func body(own *identity.Identity, event []byte, more ...[]byte) []byte {
	w := (&wire.Writer{}).Bytes(1, own.PublicKey).Bytes(2, make([]byte, 16)[:16]).Uint(3, 1).Uint(4, 1000).Bytes(5, []byte("lobby"))
	return append(w.Message(6, event).Out, bytes.Join(more, nil)...)
}

func envelope(own *identity.Identity, networkID, body []byte) []byte {
	signature := own.Sign(toSign(networkID, sha256.Sum256(body)))
	return (&wire.Writer{}).Message(1, body).Message(2, signature).Out
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	decoded, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(text, err)
	}
	return decoded
}

// edges are fields after those of a well-formed message, in a batch or in an event.
var edges = []struct {
	what, field string
	wellFormed  bool
}{
	{"nothing", "", true},
	{"an unknown varint", "a00601", true},
	{"an unknown fixed64", "a1060102030405060708", true},
	{"an unknown string", "a20603616263", true},
	{"an unknown string that is no message", "a206020b0b", true},
	{"an unknown fixed32", "a50601020304", true},
	{"field 2^29-1", "f8ffffff0f00", true},
	{"an unknown varint of 64 bits", "a006ffffffffffffffffff01", true},
	{"a value in two bytes where one does", "a0068100", false},
	{"a key in three bytes where two do", "a0860001", false},
	{"a length in two bytes where one does", "a2068000", false},
	{"a varint of 2^64", "a00680808080808080808002", false},
	{"a varint of eleven bytes", "a0068080808080808080808001", false},
	{"field 0", "0000", false},
	{"field 2^29", "808080801000", false},
	{"a key of 33 bits", "a08680801000", false},
	{"an empty group", "a306a406", false},
	{"a group 100 deep", "", false},
	{"the end of a group", "a406", false},
	{"wire type 6", "a606", false},
	{"wire type 7", "a706", false},
	{"a length past the end", "a20601", false},
	{"a fixed32 cut short", "a506010203", false},
}

func TestWhatIsMalformedInABatchAndInAnEvent(t *testing.T) {
	own := author(t)
	for _, edge := range edges {
		field := unhex(t, edge.field)
		if edge.what == "a group 100 deep" {
			field = append(bytes.Repeat([]byte{0xa3, 0x06}, 100), bytes.Repeat([]byte{0xa4, 0x06}, 100)...)
		}
		for where, b := range map[string][]byte{
			"the batch": body(own, nil, field), "an event": body(own, field), "the second event": body(own, nil, (&wire.Writer{}).Message(6, field).Out),
		} {
			_, err := Open(envelope(own, open, b), "lobby", open, 1000)
			var refused *Error
			switch {
			case edge.wellFormed && err != nil:
				t.Errorf("%s in %s: %v", edge.what, where, err)
			case !edge.wellFormed && (!errors.As(err, &refused) || refused.Kind != "NotABatch" || !refused.Offence):
				t.Errorf("%s in %s: %v", edge.what, where, err)
			}
		}
	}
}

func TestWhatKnownFieldsMayLookLike(t *testing.T) {
	own := author(t)
	for what, c := range map[string]struct {
		event, more string
		wellFormed  bool
	}{
		"zeros that stand there":         {"0a001200", "", true},
		"a number twice":                 {"", "18051801", true},
		"a room twice":                   {"", "2a056f746865722a056c6f626279", true},
		"a name twice":                   {"0a01610a0162", "", true},
		"an event's fields turned round": {"120161" + "0a0162", "", true},
		"a number as bytes":              {"", "1a0101", false},
		"a room as a number":             {"", "2801", false},
		"an event as a number":           {"", "3001", false},
		"prev as a number":               {"", "3801", false},
		"data as a number":               {"1001", "", false},
		"a name as a fixed32":            {"0d01020304", "", false},
		"a name that is no UTF-8":        {"0a01ff", "", false},
		"a name that is a surrogate":     {"0a03eda080", "", false},
	} {
		_, err := Open(envelope(own, open, body(own, unhex(t, c.event), unhex(t, c.more))), "lobby", open, 1000)
		if (err == nil) != c.wellFormed {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPrevIsUpToFourIDs(t *testing.T) {
	own := author(t)
	prev := func(sizes ...int) []byte {
		w := &wire.Writer{}
		for i, size := range sizes {
			w.Message(7, bytes.Repeat([]byte{byte(i)}, size))
		}
		return w.Out
	}
	for what, c := range map[string]struct {
		field []byte
		count int
	}{
		"none":                        {prev(), 0},
		"one":                         {prev(32), 1},
		"four":                        {prev(32, 32, 32, 32), 4},
		"the same one twice":          {append(prev(32), prev(32)...), 1},
		"five":                        {prev(32, 32, 32, 32, 32), -1},
		"five, two of which alike":    {append(prev(32, 32, 32, 32), prev(32)...), -1},
		"one of 31 bytes":             {prev(31), -1},
		"one of 33 bytes":             {prev(33), -1},
		"an empty one":                {prev(0), -1},
		"a good one and an empty one": {prev(32, 0), -1},
	} {
		b, err := Open(envelope(own, open, body(own, nil, c.field)), "lobby", open, 1000)
		if (err == nil) != (c.count >= 0) || err == nil && len(b.Prev) != c.count {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestABatchIsOfOneNetwork(t *testing.T) {
	own, other := author(t), identity.NetworkID(make([]byte, 32))
	message := envelope(own, open, body(own, nil))
	var refused *Error
	if _, err := Open(message, "lobby", other, 1000); !errors.As(err, &refused) || refused.Kind != "Signature" {
		t.Error(err)
	}
	if _, err := Open(envelope(own, other, body(own, nil)), "lobby", other, 1000); err != nil {
		t.Error(err)
	}
}

func TestABatchHas1024Events(t *testing.T) {
	own := author(t)
	event := (&wire.Writer{}).Message(6, nil).Out
	for events, taken := range map[int]bool{1024: true, 1025: false, 4096: false} {
		_, err := Open(envelope(own, open, body(own, nil, bytes.Repeat(event, events-1))), "lobby", open, 1000)
		if (err == nil) != taken {
			t.Errorf("%d events: %v", events, err)
		}
	}
}

// The numbers are from a separate program, in another language.
func TestIDsAreOfTheRoomTheBodyAndTheSignature(t *testing.T) {
	signature := bytes.Repeat([]byte{9}, 64)
	good := (&wire.Writer{}).Message(1, []byte("body")).Message(2, signature).Out
	for what, c := range map[string]struct {
		topic string
		data  []byte
		id    string
	}{
		"a good form":                  {"/diatribe/1/lobby", good, "0f71479fb661a9321b5bdc3d39c97272af3b1ac5077efb4587da964991eb2f38"},
		"another room":                 {"/diatribe/1/kitchen", good, "594c76886ab135f9ee0bb6f93d9256c26dfed395ea6a085d1a70dd2b8b0c2d46"},
		"a topic that is no room":      {"/diatribe/1/a/b", good, "60e11c4e4e2a91d6b166a061a5be61e87134ca67200c87399eea2d441d1fc5c8"},
		"another topic":                {"lobby", good, "0d057107002692171fee10b63d02e3d625b149ee922b007b90876fde90db20ab"},
		"a byte after it":              {"/diatribe/1/lobby", append(bytes.Clone(good), 0), "c418a7d81bd89529465c8214fd24d1de69d8c8848625389525d3b5f07d8db0c7"},
		"nothing":                      {"/diatribe/1/lobby", nil, "8e8d4ca788e5c53169f2c04eac13c3a1542f123aabad5af6147ba3c9d94e3a91"},
		"one of the largest":           {"/diatribe/1/lobby", sized(MaxMessage, signature), "17e8ef7d3c80ccd7646a48956670ff3bff7ee1cf3cc057fac4d7a99513c7aaf2"},
		"one that is larger by a byte": {"/diatribe/1/lobby", sized(MaxMessage+1, signature), "2ac773a6cab68da6d925cdb931219ad4c03ce356cdd615c958e753400263a506"},
	} {
		if id := IDOf(c.topic, c.data); hex.EncodeToString(id[:]) != c.id {
			t.Errorf("%s: %x, not %s", what, id, c.id)
		}
	}
}

// sized is data of that many bytes in the form of an envelope. Its length takes three bytes.
func sized(size int, signature []byte) []byte {
	return (&wire.Writer{}).Message(1, make([]byte, size-1-3-66)).Message(2, signature).Out
}

func TestABatchFollowsTheNewestOfItsAuthor(t *testing.T) {
	id := func(n byte) ID { return ID{n} }
	var h Heads
	is := func(what string, want ...ID) {
		t.Helper()
		got := h.Prev()
		if len(got) != len(want) {
			t.Fatalf("%s: %v", what, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: %v", what, got)
			}
		}
	}
	is("the first one")
	h.Sent(id(1), h.Prev())
	is("the second one", id(1))
	h.Received(id(2), nil)
	is("another instance's", id(1), id(2))
	h.Received(id(3), []ID{id(2)})
	is("what follows that", id(1), id(3))
	h.Received(id(2), nil)
	is("what is followed already", id(1), id(3))
	h.Received(id(4), []ID{id(1), id(3)})
	is("what follows our own as well: that one is named all the same", id(1), id(4))
	h.Sent(id(5), h.Prev())
	is("the next one", id(5))
	h.Received(id(4), nil)
	is("what we have followed ourselves", id(5))
	for n := byte(10); n < 20; n++ {
		h.Received(id(n), nil)
	}
	is("the newest three", id(5), id(17), id(18), id(19))
	h.Sent(id(20), h.Prev())
	is("the next one again", id(20))

	h = Heads{}
	for n := byte(10); n < 20; n++ {
		h.Received(id(n), nil)
	}
	is("the newest four, before one's own first", id(16), id(17), id(18), id(19))
}
