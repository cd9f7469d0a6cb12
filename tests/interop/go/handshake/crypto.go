package handshake

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"time"
)

// d is the name that everything hashed, sealed and signed begins with.
const d = "diatribe-handshake-v2"

var zeros = make([]byte, 32)

// Entropy is all that is random in one round, and the time. Vectors fix it.
type Entropy struct {
	Nonce, Secret []byte
	// Tag is sent in a Hello in place of the tag of an older network key: 16 bytes.
	Tag []byte
	// ClockMs is Unix time in milliseconds.
	ClockMs uint64
	// Seal is HPKE in base mode, one message.
	Seal func(to, info, aad, text []byte) (enc, ciphertext []byte, err error)
}

// System is fresh randomness of the operating system.
func System() Entropy {
	random := make([]byte, 64+tagSize)
	rand.Read(random)
	return Entropy{
		Nonce: random[:32], Secret: random[32:64], Tag: random[64:], ClockMs: uint64(time.Now().UnixMilli()), Seal: seal,
	}
}

// hash is SHA-256 over the parts, each after its length.
func hash(parts ...[]byte) []byte {
	h := sha256.New()
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return h.Sum(nil)
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// confirmKeys is K: 32 bytes for Answer, 32 for Pass.
func confirmKeys(t5, kServer, kClient, networkKey []byte) []byte {
	k, err := hkdf.Key(sha256.New, join(kServer, kClient, networkKey), t5, d+"/confirm", 64)
	if err != nil {
		panic(err) // only for lengths that HKDF has not
	}
	return k
}

func seal(to, info, aad, text []byte) (enc, ciphertext []byte, err error) {
	key, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(to)
	if err != nil {
		return nil, nil, err
	}
	// An error here is a key of small order: the shared secret would be zero.
	enc, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info)
	if err != nil {
		return nil, nil, err
	}
	ciphertext, err = sender.Seal(aad, text)
	return enc, ciphertext, err
}

// open yields the secret that was sealed beside one's own nonce.
func open(key hpke.PrivateKey, info, aad, enc, ciphertext, nonce []byte) ([]byte, error) {
	recipient, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info)
	if err != nil {
		return nil, auth("what the peer sealed does not open")
	}
	text, err := recipient.Open(aad, ciphertext)
	if err != nil || len(text) != 64 {
		return nil, auth("what the peer sealed does not open")
	}
	if subtle.ConstantTimeCompare(text[:32], nonce) != 1 {
		return nil, auth("the peer did not return the nonce")
	}
	return text[32:], nil
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
