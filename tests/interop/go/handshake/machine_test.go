package handshake

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/wire"
)

func newLocal(t *testing.T, networkKey []byte) *Local {
	random := make([]byte, 48)
	rand.Read(random)
	own, err := identity.FromSeed(random[:32])
	if err != nil {
		t.Fatal(err)
	}
	return &Local{Identity: own, Instance: random[32:], NetworkKey: networkKey}
}

// pair is a handshake between two fresh nodes, up to the listener's first frame.
func pair(t *testing.T, dialersKey, listenersKey []byte) (d, l *Machine, hello []byte) {
	dialer, listener := newLocal(t, dialersKey), newLocal(t, listenersKey)
	d, hello = Dial(dialer, listener.Identity.PeerID, System)
	return d, Listen(listener, dialer.Identity.PeerID, System), hello
}

// frames plays a whole handshake and returns all its frames: the even ones are requests.
func frames(t *testing.T, d, l *Machine, hello []byte) (said [][]byte) {
	client, server := d, l
	for range 2 {
		challenge := receive(t, server, hello).Respond
		answer := receive(t, client, challenge).Request
		last := receive(t, server, answer)
		said = append(said, hello, challenge, answer, last.Respond)
		hello = last.Request
		if hello == nil && server == l {
			t.Fatal("the listener does not go on to round 2")
		}
		receive(t, client, last.Respond)
		client, server = server, client
	}
	return said
}

func TestFreshNodesPass(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	for _, networkKey := range [][]byte{nil, key} {
		d, l, hello := pair(t, networkKey, networkKey)
		frames(t, d, l, hello)
		if d.Due() != "nothing" || l.Due() != "nothing" {
			t.Error("a frame is due after the end:", d.Due(), l.Due())
		}
	}
}

func TestNetworkKeysThatDifferAreNamed(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	for _, keys := range [][2][]byte{{key, nil}, {nil, key}, {key, bytes.Repeat([]byte{8}, 32)}} {
		_, l, hello := pair(t, keys[0], keys[1])
		_, err := l.Receive(hello)
		expect(t, err, CodeNetwork)
	}
}

func TestFramesThatAreNotDueEndIt(t *testing.T) {
	d, l, hello := pair(t, nil, nil)
	said := frames(t, d, l, hello)
	for due := range 8 {
		for which, body := range said {
			if which%4 == due%4 {
				continue
			}
			d, l, hello := pair(t, nil, nil)
			waiting, _ := walk(t, d, l, hello, due)
			_, err := waiting.Receive(body)
			var violation *Violation
			if !errors.As(err, &violation) {
				t.Errorf("frame %d where %d is due: %v", which, due, err)
			}
		}
	}
	for _, m := range []*Machine{d, l} {
		for _, body := range append(said, RejectFrame(CodeBusy)) {
			var violation *Violation
			if _, err := m.Receive(body); !errors.As(err, &violation) {
				t.Errorf("after the end: %v", err)
			}
		}
	}
}

// walk plays until frame number due, and yields the machine that waits for it, and the frame.
func walk(t *testing.T, d, l *Machine, frame []byte, due int) (*Machine, []byte) {
	client, server := d, l
	var next []byte
	for number := range due {
		switch number % 4 {
		case 0:
			frame = receive(t, server, frame).Respond
		case 1:
			frame = receive(t, client, frame).Request
		case 2:
			step := receive(t, server, frame)
			frame, next = step.Respond, step.Request
		default:
			receive(t, client, frame)
			frame = next
			client, server = server, client
		}
	}
	if due%2 == 0 {
		return server, frame
	}
	return client, frame
}

func TestARejectIsTakenByClientsOnly(t *testing.T) {
	d, l, _ := pair(t, nil, nil)
	var rejected *Rejected
	if _, err := d.Receive(RejectFrame(CodeDuplicateIdentity)); !errors.As(err, &rejected) || rejected.Code != CodeDuplicateIdentity {
		t.Error(err)
	}
	var violation *Violation
	if _, err := l.Receive(RejectFrame(CodeAuth)); !errors.As(err, &violation) {
		t.Error(err)
	}
}

func TestWhatIsNoFrameIsAuth(t *testing.T) {
	for _, body := range [][]byte{{}, {0xff}, {0x32, 0}, {0x08, 1}, {0x0a, 5, 1}, RejectFrame(1)[:2]} {
		_, l, _ := pair(t, nil, nil)
		_, err := l.Receive(body)
		expect(t, err, CodeAuth)
	}
}

func TestEveryFlippedBitOfAFrameIsNoticed(t *testing.T) {
	for due := range 8 {
		if due%4 == 0 {
			continue // a Hello's nonce is anything: it is noticed in the Challenge
		}
		for at := 0; ; at += 11 {
			d, l, hello := pair(t, nil, nil)
			waiting, frame := walk(t, d, l, hello, due)
			if at >= len(frame) {
				receive(t, waiting, frame) // as it was, it is taken
				break
			}
			frame[at] ^= 4
			if _, err := waiting.Receive(frame); err == nil {
				t.Errorf("frame %d, byte %d", due, at)
			}
		}
	}
}

// The fields of a Hello are checked in the order of the contract: each of these breaks one rule, and the one with two names
// the first.
func TestWhatAHelloClaimsIsChecked(t *testing.T) {
	zero := make([]byte, 32)
	for what, change := range map[string]struct {
		with func(*core, *Local)
		code Code
	}{
		"nothing":                      {func(*core, *Local) {}, 0},
		"the version":                  {func(c *core, _ *Local) { c.version = 3 }, CodeVersion},
		"version 1":                    {func(c *core, _ *Local) { c.version = 1 }, CodeVersion},
		"no version":                   {func(c *core, _ *Local) { c.version = 0 }, CodeVersion},
		"the version and a length":     {func(c *core, _ *Local) { c.version, c.nonce = 3, nil }, CodeVersion},
		"a length and the network":     {func(c *core, _ *Local) { c.tags, c.instance = zero, zero[:15] }, CodeAuth},
		"the network and the round":    {func(c *core, _ *Local) { c.tags, c.round = zero, 2 }, CodeNetwork},
		"the tags of another nonce":    {func(c *core, _ *Local) { c.nonce = zero }, CodeNetwork},
		"no tags":                      {func(c *core, _ *Local) { c.tags = nil }, CodeAuth},
		"one tag":                      {func(c *core, _ *Local) { c.tags = c.tags[:16] }, CodeAuth},
		"the tag in the second place":  {func(c *core, _ *Local) { c.tags = join(zero[:16], c.tags[:16]) }, 0},
		"a key of a Challenge":         {func(c *core, _ *Local) { c.key = 1 }, CodeAuth},
		"a clock that is wrong":        {func(c *core, _ *Local) { c.clockMs = 1<<64 - 1 }, 0},
		"no clock":                     {func(c *core, _ *Local) { c.clockMs = 0 }, 0},
		"the round":                    {func(c *core, _ *Local) { c.round = 2 }, CodeAuth},
		"prev":                         {func(c *core, _ *Local) { c.prev = bytes.Repeat([]byte{1}, 32) }, CodeAuth},
		"a key of small order":         {func(c *core, _ *Local) { c.publicKey = append(bytes.Clone(c.publicKey[:4]), zero...) }, CodeAuth},
		"another key":                  {func(c *core, l *Local) { c.publicKey = l.Identity.PublicKey }, CodeAuth},
		"another id":                   {func(c *core, l *Local) { c.peerID = l.Identity.PeerID }, CodeAuth},
		"the listener's instance":      {func(c *core, l *Local) { c.instance = l.Instance }, CodeAuth},
		"a sealing key of small order": {func(c *core, _ *Local) { c.encKey = zero }, CodeAuth},
	} {
		dialer, listener := newLocal(t, nil), newLocal(t, nil)
		c, err := decodeCore(helloCore(t, dialer, listener), kindHello)
		if err != nil {
			t.Fatal(err)
		}
		change.with(c, listener)
		l := Listen(listener, dialer.Identity.PeerID, System)
		_, err = l.Receive(encodeFrame(kindHello, c.encode()))
		if change.code != 0 {
			expect(t, err, change.code, what)
		} else if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// helloCore is the Core of a Hello of round 1.
func helloCore(t *testing.T, dialer, listener *Local) []byte {
	t.Helper()
	r := &round{local: dialer, remote: listener.Identity.PeerID, number: 1, prev: zeros, entropy: System()}
	f, err := decodeFrame(r.hello())
	if err != nil {
		t.Fatal(err)
	}
	return f.core
}

// Fields that only the Core of a Challenge has, signed by the server itself.
func TestWhatAChallengeClaimsIsChecked(t *testing.T) {
	for key, code := range map[uint32]Code{0: CodeAuth, 1: 0, 2: CodeAuth, 3: CodeAuth} {
		for _, tags := range [][]byte{nil, make([]byte, tagsSize)} {
			client, l, _ := pair(t, nil, nil)
			r := l.round
			r.begin(r.remote, r.local.Identity.PeerID)
			r.t.t1 = client.round.t.t1
			own := r.introduce(tags, key)
			r.t.t2 = hash(r.t.t1, []byte{2}, own)
			to := client.local.Identity.Sealing.PublicKey().Bytes()
			enc, ciphertext, err := seal(to, []byte(d+"/s2c"), r.t.t2, join(client.round.entropy.Nonce, r.entropy.Secret))
			if err != nil {
				t.Fatal(err)
			}
			signature := r.local.Identity.Sign(join([]byte(d+"/server/"), hash(r.t.t2, enc, ciphertext)))
			_, err = client.Receive(encodeFrame(kindChallenge, own, enc, ciphertext, signature))
			switch {
			case code == 0 && tags == nil:
				if err != nil {
					t.Errorf("key %d: %v", key, err)
				}
			default:
				expect(t, err, CodeAuth, "a key or tags")
			}
		}
	}
}

func TestTheOpenNetworkIsToldFromAClosedOne(t *testing.T) {
	key := bytes.Repeat([]byte{9}, 32)
	for _, c := range []struct {
		dialers, listeners []byte
		reason             string
	}{
		{nil, key, "the network keys differ: the peer is on the open network"},
		{key, nil, "the network keys differ: the peer has one, this node is on the open network"},
		{key, bytes.Repeat([]byte{8}, 32), "the network keys differ"},
	} {
		_, l, hello := pair(t, c.dialers, c.listeners)
		if _, err := l.Receive(hello); err == nil || err.Error() != c.reason {
			t.Error(err)
		}
	}
}

func TestTheTagsOfTwoHellosDiffer(t *testing.T) {
	dialer, listener := newLocal(t, nil), newLocal(t, nil)
	seen := map[string]bool{}
	for range 2 {
		c, err := decodeCore(helloCore(t, dialer, listener), kindHello)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(c.tags[:tagSize])], seen[string(c.tags[tagSize:])] = true, true
	}
	if len(seen) != 4 {
		t.Error("the tags of two Hellos are alike")
	}
}

func TestARejectMayHaveReferrals(t *testing.T) {
	d, _, _ := pair(t, nil, nil)
	inner := (&wire.Writer{}).Uint(1, uint64(CodeBusy)).Bytes(2, []byte("whom to ask")).Bytes(3, make([]byte, 32)).Out
	var rejected *Rejected
	if _, err := d.Receive((&wire.Writer{}).Message(kindReject, inner).Out); !errors.As(err, &rejected) || rejected.Code != CodeBusy {
		t.Error(err)
	}
}

func TestEachOfTwoKindsMustBeWellFormed(t *testing.T) {
	_, l, hello := pair(t, nil, nil)
	// Together these two are one well-formed Hello, but neither is one by itself.
	core := hello[2:]
	if hello[1] >= 0x80 {
		core = hello[3:]
	}
	split := (&wire.Writer{}).Message(kindHello, core[:1]).Message(kindHello, core[1:]).Out
	_, err := l.Receive(split)
	expect(t, err, CodeAuth)
	// A kind that another one replaces is read all the same.
	_, l, hello = pair(t, nil, nil)
	_, err = l.Receive(append((&wire.Writer{}).Message(kindPass, []byte{0x0b}).Out, hello...))
	expect(t, err, CodeAuth)
}

func TestALaterVersionIsNamedWhateverElseItSays(t *testing.T) {
	_, l, _ := pair(t, nil, nil)
	// Field 2 is a string there, field 1 is there twice, and the last one counts.
	core := (&wire.Writer{}).Uint(1, 2).Bytes(2, []byte("two")).Uint(1, 1<<32+7).Out
	_, err := l.Receive(encodeFrame(kindHello, core))
	expect(t, err, CodeVersion)
	// A group, field 2^29, a value in two bytes where one does, a length past the end: they are malformed in any version.
	for _, more := range []string{"\x9b\x06\x9c\x06", "\x80\x80\x80\x80\x10\x00", "\x10\x81\x00", "\x12\x02x"} {
		_, l, _ := pair(t, nil, nil)
		_, err := l.Receive(encodeFrame(kindHello, []byte("\x08\x03"+more)))
		expect(t, err, CodeAuth, more)
	}
}

func TestRoundTwoIsTheSamePeer(t *testing.T) {
	d, l, hello := pair(t, nil, nil)
	walk(t, d, l, hello, 4)
	other := newLocal(t, nil)
	other.Identity = l.local.Identity // the same key in another process
	forged := &round{local: other, remote: l.remote, number: 2, prev: d.round.prev, entropy: System()}
	_, err := d.Receive(forged.hello())
	expect(t, err, CodeAuth)
}

func TestUnknownFieldsAreHashedWhereTheyStand(t *testing.T) {
	dialer, listener := newLocal(t, nil), newLocal(t, nil)
	own := helloCore(t, dialer, listener)
	l := Listen(listener, dialer.Identity.PeerID, System)
	receive(t, l, encodeFrame(kindHello, (&wire.Writer{Out: own}).Uint(99, 1).Out))
	if bytes.Equal(l.round.t.t1, hash(l.round.t.t0, []byte{1}, own)) {
		t.Error("the unknown field is not in T1")
	}
}

func expect(t *testing.T, err error, code Code, what ...string) {
	t.Helper()
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("%v: %v, not %s", what, err, code)
	}
}
