package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"diatribe.invalid/peer/identity"
	"diatribe.invalid/peer/vectors"
	"golang.org/x/crypto/chacha20poly1305"
)

type side struct {
	Seed     vectors.Hex
	Instance vectors.Hex `json:"instance_id"`
	PeerID   vectors.Hex `json:"peer_id_bytes"`
	Sealing  vectors.Hex `json:"sealing_key"`
}

type roundVector struct {
	Round                                int
	T0, T1, T2, T3, T4, T5, K            vectors.Hex
	TEnd                                 vectors.Hex `json:"T_end"`
	Prev, Hello, Challenge, Answer, Pass vectors.Hex
	Confirm                              vectors.Hex
	PassConfirm                          vectors.Hex `json:"pass_confirm"`
	Tags, Tag                            vectors.Hex
	RandomTag                            vectors.Hex `json:"random_tag"`
	Key                                  uint32
	ClockMsClient                        uint64      `json:"clock_ms_client"`
	ClockMsServer                        uint64      `json:"clock_ms_server"`
	NonceClient                          vectors.Hex `json:"nonce_client"`
	NonceServer                          vectors.Hex `json:"nonce_server"`
	KClient                              vectors.Hex `json:"k_client"`
	KServer                              vectors.Hex `json:"k_server"`
	IkmClient                            vectors.Hex `json:"hpke_ikm_client"`
	IkmServer                            vectors.Hex `json:"hpke_ikm_server"`
}

type handshakeVector struct {
	Name             string
	Dialer, Listener side
	NetworkKey       vectors.Hex `json:"network_key"`
	// NewerKey is the dialer's newer key; NetworkKey is then its older one.
	NewerKey vectors.Hex `json:"newer_network_key"`
	Rounds   []roundVector
}

type published struct {
	Handshakes []handshakeVector
	TwoKeys    handshakeVector `json:"two_keys"`
	Referrals  struct {
		Handshake               string
		Referrals, Proof, Frame vectors.Hex
	}
	Rejects []struct {
		Code  Code
		Frame vectors.Hex
		Name  string
	}
}

func read(t *testing.T) (p published) {
	vectors.Read(t, "handshake.json", &p)
	if len(p.Handshakes)*len(p.Rejects)*len(p.TwoKeys.Rounds)*len(p.Referrals.Frame) == 0 {
		t.Fatal("a part of the vectors is empty")
	}
	return p
}

func (s side) local(t *testing.T, networkKey []byte) *Local {
	own, err := identity.FromSeed(s.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(own.Sealing.PublicKey().Bytes(), s.Sealing) || !bytes.Equal(own.PeerID, s.PeerID) {
		t.Fatal("the keys are not the published ones")
	}
	return &Local{Identity: own, Instance: s.Instance, NetworkKey: networkKey}
}

// entropies returns the random inputs that the vectors fix for the dialer or the listener, by round.
func entropies(t *testing.T, rounds []roundVector, dialer bool) func() Entropy {
	next := 0
	return func() Entropy {
		r := rounds[next]
		next++
		if dialer == (r.Round == 1) {
			return Entropy{r.NonceClient, r.KClient, r.RandomTag, r.ClockMsClient, sealWith(t, r.IkmClient)}
		}
		return Entropy{r.NonceServer, r.KServer, nil, r.ClockMsServer, sealWith(t, r.IkmServer)}
	}
}

func TestBothSidesSayThePublishedFrames(t *testing.T) {
	p := read(t)
	for _, v := range append(p.Handshakes, p.TwoKeys) {
		t.Run(v.Name, func(t *testing.T) {
			dialer, listener := v.Dialer.local(t, v.NetworkKey), v.Listener.local(t, v.NetworkKey)
			if v.NewerKey != nil {
				dialer.NetworkKey, dialer.OlderKey = v.NewerKey, v.NetworkKey
			}
			d, hello := Dial(dialer, v.Listener.PeerID, entropies(t, v.Rounds, true))
			l := Listen(listener, v.Dialer.PeerID, entropies(t, v.Rounds, false))
			client, server := d, l
			for i, r := range v.Rounds {
				same(t, "hello", hello, r.Hello)
				step := receive(t, server, r.Hello)
				same(t, "challenge", step.Respond, r.Challenge)
				step = receive(t, client, r.Challenge)
				same(t, "answer", step.Request, r.Answer)
				if step.OpenInbound != (i == 1) {
					t.Error("the gate opens inbound before the listener's Answer, and only there")
				}
				clients, servers := client.round, server.round
				step = receive(t, server, r.Answer)
				same(t, "pass", step.Respond, r.Pass)
				if !step.Proved || step.OpenInbound != (i == 1) || step.Passed != (i == 1) {
					t.Errorf("after Answer %d: %+v", i+1, step)
				}
				hello = step.Request
				if last := receive(t, client, r.Pass); last.Passed != (i == 1) {
					t.Errorf("after Pass %d: %+v", i+1, last)
				}
				for who, round := range map[string]*round{"client": clients, "server": servers} {
					r.check(t, who, round)
				}
				client, server = server, client
			}
			if !bytes.Equal(d.PeerInstance(), v.Listener.Instance) || !bytes.Equal(l.PeerInstance(), v.Dialer.Instance) {
				t.Error("the instances are not the published ones")
			}
		})
	}
}

func (r roundVector) check(t *testing.T, who string, round *round) {
	t.Helper()
	same(t, who+" prev", round.prev, r.Prev)
	client, server := round.local.Identity.PeerID, round.remote
	if who == "server" {
		client, server = server, client
	}
	same(t, who+"'s tag", tagOf(round.networkKey, client, server, r.NonceClient), r.Tag)
	same(t, who+"'s tag in the Hello", r.Tags[(r.Key-1)*tagSize:][:tagSize], r.Tag)
	for i, pair := range [][2][]byte{
		{round.t.t0, r.T0}, {round.t.t1, r.T1}, {round.t.t2, r.T2}, {round.t.t3, r.T3}, {round.t.t4, r.T4},
		{round.t.t5, r.T5}, {round.t.end, r.TEnd}, {round.t.k, r.K}, {round.pass, r.PassConfirm},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s, round %d, value %d: %x, not %x", who, r.Round, i, pair[0], pair[1])
		}
	}
}

// The proof ties referrals to their handshake: a peer that follows referrals must check this.
func TestReferralsHaveTheirProof(t *testing.T) {
	p := read(t)
	for _, v := range p.Handshakes {
		if v.Name != p.Referrals.Handshake {
			continue
		}
		r := v.Rounds[0]
		same(t, "proof", mac(r.K[32:], hash(r.TEnd, []byte{5}, p.Referrals.Referrals)), p.Referrals.Proof)
		d, _ := Dial(v.Dialer.local(t, v.NetworkKey), v.Listener.PeerID, entropies(t, v.Rounds, true))
		receive(t, d, r.Challenge)
		var rejected *Rejected
		if _, err := d.Receive(p.Referrals.Frame); !errors.As(err, &rejected) || rejected.Code != CodeBusy {
			t.Error(err)
		}
		return
	}
	t.Fatal("no such handshake")
}

func TestRejectsAreThePublishedFrames(t *testing.T) {
	for _, v := range read(t).Rejects {
		same(t, v.Name, RejectFrame(v.Code), v.Frame)
		if v.Code.String() != v.Name {
			t.Errorf("%d is %s, not %s", v.Code, v.Code, v.Name)
		}
	}
	for _, unknown := range []Code{0, 7, 1 << 31} {
		if unknown.String() != "AUTH" {
			t.Error(unknown)
		}
	}
}

func receive(t *testing.T, m *Machine, body []byte) Step {
	t.Helper()
	step, err := m.Receive(body)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is\n%x, not\n%x", what, got, want)
	}
}

// sealWith seals with an ephemeral key made from ikm. crypto/hpke has no way to fix it, so this is RFC 9180 once more,
// base mode, first message; crypto/hpke opens its ciphertext in the test above.
func sealWith(t *testing.T, ikm []byte) func(to, info, aad, text []byte) ([]byte, []byte, error) {
	derived, err := hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(ikm)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := derived.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return func(to, info, aad, text []byte) ([]byte, []byte, error) {
		private, err := ecdh.X25519().NewPrivateKey(secret)
		if err != nil {
			return nil, nil, err
		}
		public, err := ecdh.X25519().NewPublicKey(to)
		if err != nil {
			return nil, nil, err
		}
		dh, err := private.ECDH(public)
		if err != nil {
			return nil, nil, err
		}
		enc := private.PublicKey().Bytes()
		kem, suite := []byte("KEM\x00\x20"), []byte("HPKE\x00\x20\x00\x01\x00\x03")
		shared := expand(kem, extract(kem, nil, "eae_prk", dh), "shared_secret", join(enc, to), 32)
		context := join([]byte{0}, extract(suite, nil, "psk_id_hash", nil), extract(suite, nil, "info_hash", info))
		prk := extract(suite, shared, "secret", nil)
		aead, err := chacha20poly1305.New(expand(suite, prk, "key", context, 32))
		if err != nil {
			return nil, nil, err
		}
		return enc, aead.Seal(nil, expand(suite, prk, "base_nonce", context, 12), text, aad), nil
	}
}

func extract(suite, salt []byte, label string, ikm []byte) []byte {
	prk, err := hkdf.Extract(sha256.New, join([]byte("HPKE-v1"), suite, []byte(label), ikm), salt)
	if err != nil {
		panic(err)
	}
	return prk
}

func expand(suite, prk []byte, label string, info []byte, n int) []byte {
	labeled := join(binary.BigEndian.AppendUint16(nil, uint16(n)), []byte("HPKE-v1"), suite, []byte(label), info)
	out, err := hkdf.Expand(sha256.New, prk, string(labeled), n)
	if err != nil {
		panic(err)
	}
	return out
}
