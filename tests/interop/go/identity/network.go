package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

var (
	swarmKey = regexp.MustCompile(`^/key/swarm/psk/1\.0\.0/\r?\n/base16/\r?\n([0-9a-fA-F]{64})\s*$`)
	hexKey   = regexp.MustCompile(`^([0-9a-fA-F]{64})\r?\n?$`)
)

// NetworkID is the id of the network that has this key of 32 bytes; of the open network when there is none.
func NetworkID(key []byte) []byte {
	if key == nil {
		return make([]byte, 32)
	}
	id := sha256.Sum256(join([]byte("diatribe/network/v1"), key))
	return id[:]
}

// ParseNetworkKey reads a network key file: 32 bytes, 64 hex digits and a newline, or libp2p's swarm.key.
func ParseNetworkKey(file []byte) ([]byte, error) {
	key := file
	if len(file) != 32 {
		found := swarmKey.FindSubmatch(file)
		if found == nil {
			found = hexKey.FindSubmatch(file)
		}
		if found == nil {
			return nil, errors.New("a network key file holds 32 bytes, or 64 hex digits and a newline, or libp2p's swarm.key")
		}
		var err error
		if key, err = hex.DecodeString(string(found[1])); err != nil {
			return nil, err
		}
	}
	if bytes.Equal(key, make([]byte, 32)) {
		return nil, errors.New("a network key of zeros is no key: it stands for the open network. Make one of random bytes")
	}
	return key, nil
}

// SeedOf makes a seed from a passphrase and a salt, and the Argon2 salt on the way. Both are brought into NFC.
func SeedOf(passphrase, salt string) (argonSalt, seed []byte) {
	sum := sha256.Sum256(join([]byte("diatribe/identity/v1"), []byte{0}, norm.NFC.Bytes([]byte(salt))))
	return sum[:], argon2.IDKey(norm.NFC.Bytes([]byte(passphrase)), sum[:], 3, 262_144, 1, 32)
}
