// Package identity has the identity of a node: Ed25519 keys, and the PeerIds and sealing keys that follow from them.
//
// Entry points: FromSeed, PublicKeyOf and Verify. The rule it keeps: signatures are verified strictly, because Ed25519
// libraries differ in the edge cases. S < L; the key and R are canonical and not of small order; the equation holds
// without the cofactor. crypto/ed25519 checks neither the key nor R, so only its signing is used.
package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"errors"

	"filippo.io/edwards25519"
)

// The prefixes of the 32 bytes of an Ed25519 key in libp2p's PublicKey and PrivateKey messages, and before the
// PublicKey message in a PeerId.
var (
	publicKeyHead  = []byte{0x08, 0x01, 0x12, 0x20}
	privateKeyHead = []byte{0x08, 0x01, 0x12, 0x40}
	peerIDHead     = []byte{0x00, 0x24}
)

// ErrKey is the error of PublicKeyOf for every invalid input.
var ErrKey = errors.New("the key is no Ed25519 key, not canonical, or of small order")

// Identity is a node's own keys.
type Identity struct {
	// PublicKey is libp2p's PublicKey message, 36 bytes.
	PublicKey []byte
	// PeerID is the PeerId's 38 bytes.
	PeerID []byte
	// Sealing is the X25519 key to which others seal: a key of its own, not the Ed25519 key converted.
	Sealing hpke.PrivateKey

	key ed25519.PrivateKey
}

// FromSeed makes the keys from the 32 bytes of an Ed25519 seed.
func FromSeed(seed []byte) (*Identity, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("a seed has 32 bytes")
	}
	ikm, err := hkdf.Key(sha256.New, seed, []byte("diatribe"), "x25519-encryption-v1", 32)
	if err != nil {
		return nil, err
	}
	sealing, err := hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(ikm)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	public := join(publicKeyHead, key[32:])
	return &Identity{PublicKey: public, PeerID: PeerIDOf(public), Sealing: sealing, key: key}, nil
}

// Sign signs a message with the Ed25519 key.
func (i *Identity) Sign(message []byte) []byte { return ed25519.Sign(i.key, message) }

// PrivateKey is libp2p's PrivateKey message: the contents of a key file.
func (i *Identity) PrivateKey() []byte { return join(privateKeyHead, i.key) }

// PublicKeyOf yields the 32 bytes of a PublicKey message, when it is a key that the contract takes.
func PublicKeyOf(message []byte) ([]byte, error) {
	if len(message) != 36 || !bytes.Equal(message[:4], publicKeyHead) || point(message[4:]) == nil {
		return nil, ErrKey
	}
	return bytes.Clone(message[4:]), nil
}

// PeerIDOf yields the bytes of the PeerId of a PublicKey message: an identity multihash.
func PeerIDOf(message []byte) []byte { return join(peerIDHead, message) }

// Verify says whether a signature holds, by the strict rules, under a key of 32 bytes.
func Verify(key, message, signature []byte) bool {
	if len(key) != 32 || len(signature) != 64 {
		return false
	}
	a, r := point(key), point(signature[:32])
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(signature[32:])
	if a == nil || r == nil || err != nil {
		return false
	}
	digest := sha512.Sum512(join(signature[:32], key, message))
	k, err := new(edwards25519.Scalar).SetUniformBytes(digest[:])
	if err != nil {
		return false
	}
	// R = S·B − k·A
	expected := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, a.Negate(a), s)
	return expected.Equal(r) == 1
}

// point decodes a point that is canonical and not of small order; otherwise it yields nil.
func point(encoded []byte) *edwards25519.Point {
	p, err := new(edwards25519.Point).SetBytes(encoded)
	if err != nil {
		return nil
	}
	// SetBytes also takes encodings that are not canonical: they encode to others.
	if !bytes.Equal(p.Bytes(), encoded) {
		return nil
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil
	}
	return p
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
