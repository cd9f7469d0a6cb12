package handshake

import (
	"bytes"
	"crypto/subtle"

	"diatribe.invalid/peer/identity"
)

// round is one of the two: hello, onChallenge, onPass for its client; onHello, onAnswer for its server. The checks
// run in the order of the contract, and bytes are hashed as received.
type round struct {
	local   *Local
	remote  []byte // the PeerId that noise authenticated
	number  uint32
	prev    []byte
	first   *core // the peer's Core of round 1, in round 2
	entropy Entropy

	peer *core
	key  []byte // the peer's Ed25519 key
	// networkKey is the one that both sides have: of the open network 32 zeros.
	networkKey []byte
	t          transcript
	// pass is the confirm that the client expects in the Pass.
	pass []byte
}

// transcript is T0 … T5, T_end and K.
type transcript struct{ t0, t1, t2, t3, t4, t5, end, k []byte }

// introduce encodes this side's Core: tags are a Hello's, key is a Challenge's.
func (r *round) introduce(tags []byte, key uint32) []byte {
	own := r.local.Identity
	return (&core{
		version: Version, round: r.number, publicKey: own.PublicKey, peerID: own.PeerID,
		encKey: own.Sealing.PublicKey().Bytes(), nonce: r.entropy.Nonce, instance: r.local.Instance, prev: r.prev,
		tags: tags, key: key, clockMs: r.entropy.ClockMs,
	}).encode()
}

func (r *round) begin(client, server []byte) {
	r.t.t0 = hash([]byte(d), []byte{byte(r.number)}, client, server, r.prev)
}

// admitHello checks the Core of a client, and returns the index of the tag that matches a network key of this node: checks
// 5 to 12.
func (r *round) admitHello(encoded []byte) (key uint32, err error) {
	c, err := decodeCore(encoded, kindHello)
	if err != nil {
		return 0, err
	}
	if r.networkKey, key, err = r.local.commonKey(c.tags, r.remote, c.nonce); err != nil {
		return 0, err
	}
	return key, r.admit(c)
}

// admitChallenge checks the Core of a server: checks 5 to 12. rest are fields of the Challenge with their lengths.
func (r *round) admitChallenge(encoded []byte, rest ...any) error {
	c, err := decodeCore(encoded, kindChallenge)
	if err == nil {
		err = lengths(rest...)
	}
	if err != nil {
		return err
	}
	if r.networkKey = r.local.keyNamed(c.key); r.networkKey == nil {
		return auth("the peer has found a network key that this node does not have")
	}
	return r.admit(c)
}

// admit checks a Core of either kind: checks 8 to 12.
func (r *round) admit(c *core) error {
	key, err := identity.PublicKeyOf(c.publicKey)
	own := r.local.Identity
	switch {
	case c.round != r.number:
		return auth("the peer is in another round")
	case !bytes.Equal(c.prev, r.prev):
		return auth("the peer goes on from another round 1")
	case err != nil:
		return auth(err.Error())
	case !bytes.Equal(identity.PeerIDOf(c.publicKey), c.peerID):
		return auth("the claimed id is not the key's")
	case !bytes.Equal(c.peerID, r.remote):
		return auth("the claimed id is not the connection's")
	case bytes.Equal(c.peerID, own.PeerID):
		return auth("the peer claims our id")
	case bytes.Equal(c.nonce, r.entropy.Nonce):
		return auth("the peer sent our nonce")
	case bytes.Equal(c.instance, r.local.Instance):
		return auth("the peer claims to be this very process")
	}
	if f := r.first; f != nil && !(bytes.Equal(c.publicKey, f.publicKey) && bytes.Equal(c.encKey, f.encKey) && bytes.Equal(c.instance, f.instance)) {
		return auth("the peer is not that of round 1")
	}
	r.peer, r.key = c, key
	return nil
}

// hello is the client's first frame.
func (r *round) hello() []byte {
	own := r.introduce(r.local.tags(r.remote, r.entropy.Nonce, r.entropy.Tag), 0)
	r.begin(r.local.Identity.PeerID, r.remote)
	r.t.t1 = hash(r.t.t0, []byte{1}, own)
	return encodeFrame(kindHello, own)
}

// onHello yields the server's Challenge.
func (r *round) onHello(f *frame) ([]byte, error) {
	key, err := r.admitHello(f.core)
	if err != nil {
		return nil, err
	}
	own := r.introduce(nil, key)
	r.begin(r.remote, r.local.Identity.PeerID)
	r.t.t1 = hash(r.t.t0, []byte{1}, f.core)
	r.t.t2 = hash(r.t.t1, []byte{2}, own)
	enc, ciphertext, err := r.entropy.Seal(r.peer.encKey, []byte(d+"/s2c"), r.t.t2, join(r.peer.nonce, r.entropy.Secret))
	if err != nil {
		return nil, auth("the peer's sealing key is of small order")
	}
	r.t.t3 = hash(r.t.t2, enc, ciphertext)
	signature := r.local.Identity.Sign(join([]byte(d+"/server/"), r.t.t3))
	r.t.t4 = hash(r.t.t3, signature)
	return encodeFrame(kindChallenge, own, enc, ciphertext, signature), nil
}

// onChallenge yields the client's Answer.
func (r *round) onChallenge(f *frame) ([]byte, error) {
	if err := r.admitChallenge(f.core, f.enc, 32, f.ciphertext, 80, f.signature, 64); err != nil {
		return nil, err
	}
	r.t.t2 = hash(r.t.t1, []byte{2}, f.core)
	r.t.t3 = hash(r.t.t2, f.enc, f.ciphertext)
	if !identity.Verify(r.key, join([]byte(d+"/server/"), r.t.t3), f.signature) {
		return nil, auth("the signature does not hold")
	}
	kServer, err := open(r.local.Identity.Sealing, []byte(d+"/s2c"), r.t.t2, f.enc, f.ciphertext, r.entropy.Nonce)
	if err != nil {
		return nil, err
	}
	r.t.t4 = hash(r.t.t3, f.signature)
	enc, ciphertext, err := r.entropy.Seal(r.peer.encKey, []byte(d+"/c2s"), r.t.t4, join(r.peer.nonce, r.entropy.Secret))
	if err != nil {
		return nil, auth("the peer's sealing key is of small order")
	}
	r.t.t5 = hash(r.t.t4, []byte{3}, enc, ciphertext)
	signature := r.local.Identity.Sign(join([]byte(d+"/client/"), r.t.t5))
	confirm := r.finish(kServer, r.entropy.Secret, signature)
	return encodeFrame(kindAnswer, enc, ciphertext, signature, confirm), nil
}

// onAnswer yields the server's Pass.
func (r *round) onAnswer(f *frame) ([]byte, error) {
	if err := lengths(f.enc, 32, f.ciphertext, 80, f.signature, 64, f.confirm, 32); err != nil {
		return nil, err
	}
	r.t.t5 = hash(r.t.t4, []byte{3}, f.enc, f.ciphertext)
	if !identity.Verify(r.key, join([]byte(d+"/client/"), r.t.t5), f.signature) {
		return nil, auth("the signature does not hold")
	}
	kClient, err := open(r.local.Identity.Sealing, []byte(d+"/c2s"), r.t.t4, f.enc, f.ciphertext, r.entropy.Nonce)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(r.finish(r.entropy.Secret, kClient, f.signature), f.confirm) != 1 {
		return nil, auth("the confirmation does not hold")
	}
	return encodeFrame(kindPass, r.pass), nil
}

// onPass is the client's last check.
func (r *round) onPass(f *frame) error {
	if subtle.ConstantTimeCompare(f.confirm, r.pass) != 1 {
		return auth("the pass does not hold")
	}
	return nil
}

// finish yields the Answer's confirm, and leaves T_end and the pass behind.
func (r *round) finish(kServer, kClient, signature []byte) []byte {
	r.t.k = confirmKeys(r.t.t5, kServer, kClient, r.networkKey)
	confirm := mac(r.t.k[:32], hash(r.t.t5, signature))
	r.t.end = hash(r.t.t5, []byte{4}, signature, confirm)
	r.pass = mac(r.t.k[32:], r.t.end)
	return confirm
}
