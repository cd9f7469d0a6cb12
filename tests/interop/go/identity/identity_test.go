package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"strings"
	"testing"

	"diatribe.invalid/peer/vectors"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

type keys struct {
	Seed       vectors.Hex `json:"seed"`
	Public     vectors.Hex `json:"public_key_protobuf"`
	Private    vectors.Hex `json:"private_key_protobuf"`
	PeerID     string      `json:"peer_id"`
	PeerIDRaw  vectors.Hex `json:"peer_id_bytes"`
	SealingKey vectors.Hex `json:"x25519_public_key"`
}

type published struct {
	Passphrases []struct {
		Comment, Passphrase, Salt string
		ArgonSalt                 vectors.Hex `json:"argon2_salt"`
		keys
	}
	Seeds    []keys
	Networks []struct {
		Key vectors.Hex `json:"network_key"`
		ID  vectors.Hex `json:"network_id"`
	}
	Refused []struct {
		Comment string
		Key     vectors.Hex `json:"public_key_protobuf"`
	} `json:"refused_public_keys"`
	Signatures []struct {
		Comment            string
		Key                vectors.Hex `json:"public_key"`
		Message, Signature vectors.Hex
		Valid              bool
	}
}

func read(t *testing.T) (p published) {
	vectors.Read(t, "identity.json", &p)
	if len(p.Passphrases)*len(p.Seeds)*len(p.Networks)*len(p.Refused)*len(p.Signatures) == 0 {
		t.Fatal("a part of the vectors is empty")
	}
	return p
}

func (k keys) check(t *testing.T) {
	t.Helper()
	i, err := FromSeed(k.Seed)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2][]byte{
		"public key":  {i.PublicKey, k.Public},
		"private key": {i.PrivateKey(), k.Private},
		"PeerId":      {i.PeerID, k.PeerIDRaw},
		"sealing key": {i.Sealing.PublicKey().Bytes(), k.SealingKey},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %x, not %x", what, pair[0], pair[1])
		}
	}
	// libp2p itself makes the same of them.
	private, err := crypto.UnmarshalPrivateKey(i.PrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := peer.IDFromPrivateKey(private); err != nil || id.String() != k.PeerID || id != peer.ID(i.PeerID) {
		t.Errorf("libp2p's PeerId is %s, %v", id, err)
	}
}

func TestSeedsBecomeThePublishedKeys(t *testing.T) {
	for _, seed := range read(t).Seeds {
		seed.check(t)
	}
}

func TestPassphrasesBecomeThePublishedKeys(t *testing.T) {
	for _, p := range read(t).Passphrases {
		t.Run(p.Comment, func(t *testing.T) {
			salt, seed := SeedOf(p.Passphrase, p.Salt)
			if !bytes.Equal(salt, p.ArgonSalt) || !bytes.Equal(seed, p.Seed) {
				t.Fatalf("salt %x, seed %x", salt, seed)
			}
			p.keys.check(t)
		})
	}
}

func TestNetworkKeysHaveTheirIDs(t *testing.T) {
	for _, n := range read(t).Networks {
		if id := NetworkID(n.Key); !bytes.Equal(id, n.ID) {
			t.Errorf("%x has the id %x, not %x", []byte(n.Key), id, []byte(n.ID))
		}
	}
}

func TestNetworkKeyFilesHaveThreeForms(t *testing.T) {
	key := bytes.Repeat([]byte{0xa5}, 32)
	text := hex.EncodeToString(key)
	for _, file := range [][]byte{key, []byte(text + "\n"), []byte("/key/swarm/psk/1.0.0/\n/base16/\n" + text + "\n")} {
		if read, err := ParseNetworkKey(file); err != nil || !bytes.Equal(read, key) {
			t.Errorf("%q: %x, %v", file, read, err)
		}
	}
	for _, file := range []string{"", text[1:], text + "0", strings.Repeat("0", 64), string(make([]byte, 32)), "/key/swarm/psk/1.0.0/\n/bin/\n" + text} {
		if _, err := ParseNetworkKey([]byte(file)); err == nil {
			t.Errorf("%q is taken", file)
		}
	}
}

func TestPublicKeysThatNobodyMayHaveAreRefused(t *testing.T) {
	for _, r := range read(t).Refused {
		if _, err := PublicKeyOf(r.Key); err == nil {
			t.Error(r.Comment, "is taken")
		}
	}
}

func TestSignaturesAreVerifiedStrictly(t *testing.T) {
	for _, s := range read(t).Signatures {
		if Verify(s.Key, s.Message, s.Signature) != s.Valid {
			t.Errorf("%s: valid must be %v", s.Comment, s.Valid)
		}
	}
}

// The reason for Verify: it fails when the standard library agrees with every vector.
func TestTheStandardLibraryIsNotStrict(t *testing.T) {
	differ := 0
	for _, s := range read(t).Signatures {
		if ed25519.Verify(ed25519.PublicKey(s.Key), s.Message, s.Signature) != s.Valid {
			t.Logf("crypto/ed25519 says %v: %s", !s.Valid, s.Comment)
			differ++
		}
	}
	if differ == 0 {
		t.Error("crypto/ed25519 agrees with every vector: Verify is not needed")
	}
}
