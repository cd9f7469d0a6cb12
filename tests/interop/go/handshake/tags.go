package handshake

// How two nodes find out that they have the same network key, without telling it to anybody else: a Hello has a tag for
// each of the client's two keys, and the server looks which of them one of its own keys makes.

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

const (
	tagSize  = 16
	tagsSize = 2 * tagSize
	// keyNewer and keyOlder name the two tags of a Hello in a Challenge.
	keyNewer = 1
	keyOlder = 2
)

// tagOf is the tag of a network key: bound to both PeerIds, as noise authenticated them, and to the Hello's nonce.
func tagOf(networkKey, client, server, nonce []byte) []byte {
	key, err := hkdf.Key(sha256.New, networkKey, nil, "diatribe/handshake-tag/v1", 32)
	if err != nil {
		panic(err) // only for lengths that HKDF has not
	}
	return mac(key, join(client, server, nonce))[:tagSize]
}

// tags returns the tags of a Hello: random replaces the tag of a missing key.
func (l *Local) tags(server, nonce, random []byte) []byte {
	client, older := l.Identity.PeerID, random
	if l.OlderKey != nil {
		older = tagOf(l.OlderKey, client, server, nonce)
	}
	return join(tagOf(l.networkKey(), client, server, nonce), older)
}

// keyNamed returns the network key that a Challenge names, nil when this node has sent no tag of such a key.
func (l *Local) keyNamed(key uint32) []byte {
	if key == keyNewer {
		return l.networkKey()
	}
	return l.OlderKey
}

// commonKey returns the network key of this node's that has one of the tags in a Hello, and which of them. This node's
// newer key counts before its older one. An error is a *Refused.
func (l *Local) commonKey(tags, client, nonce []byte) (networkKey []byte, tag uint32, err error) {
	find := func(networkKey []byte) uint32 {
		own := tagOf(networkKey, client, l.Identity.PeerID, nonce)
		newer, older := hmac.Equal(own, tags[:tagSize]), hmac.Equal(own, tags[tagSize:])
		switch {
		case newer:
			return keyNewer
		case older:
			return keyOlder
		}
		return 0
	}
	if tag := find(l.networkKey()); tag != 0 {
		return l.networkKey(), tag, nil
	}
	if l.OlderKey != nil {
		if tag := find(l.OlderKey); tag != 0 {
			return l.OlderKey, tag, nil
		}
	}
	reason := "the network keys differ"
	switch {
	case l.NetworkKey == nil:
		reason += ": the peer has one, this node is on the open network"
	case find(zeros) != 0:
		reason += ": the peer is on the open network"
	}
	return nil, 0, &Refused{CodeNetwork, reason}
}
