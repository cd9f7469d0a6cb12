"""One round of the handshake, as pure steps: bytes in, bytes out. `session.py` carries them over a connection.

Client: hello → on_challenge → on_pass. Server: on_hello → on_answer. The rule it keeps: the checks run in the order
of the contract, and bytes are hashed as received.
"""

import hmac
import os
import time
from hashlib import sha256

from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from .identity import ZEROS, hkdf, network_id, peer_id_bytes, public_key_of, verify
from .protobuf import BYTES, VARINT, Malformed, decode, encode, fields, message_field

PROTOCOL = "/diatribe/handshake/1.0.0"
# The largest frame, in bytes.
MAX_FRAME = 1024

VERSION = 2
D = b"diatribe-handshake-v2"
TAG = b"diatribe/handshake-tag/v1"
# Bytes of one tag. A Hello has two: that of the newer network key and that of the older one.
TAG_SIZE = 16
NEWER, OLDER = 1, 2

CODES = {"AUTH": 1, "VERSION": 2, "NETWORK": 3, "DUPLICATE_IDENTITY": 4, "BUSY": 5, "POLICY": 6}


def code_name(number):
    """The name of a code from the wire; one that is not known counts as AUTH."""
    return next((name for name, n in CODES.items() if n == number), "AUTH")


class Refused(Exception):
    """A failed check: the code, which is sent to the peer, and the reason, which is not."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


def _auth(reason):
    return Refused("AUTH", reason)


# --- frames

CORE = {
    "version": (1, "uint32"),
    "round": (2, "uint32"),
    "public_key": (4, "bytes"),
    "peer_id": (5, "bytes"),
    "enc_key": (6, "bytes"),
    "nonce": (7, "bytes"),
    "instance_id": (8, "bytes"),
    "features": (9, "uint64"),
    "prev": (10, "bytes"),
    "tags": (11, "bytes"),
    "key": (12, "uint32"),
    "clock_ms": (13, "uint64"),
}

FRAMES = {
    "hello": (1, {"core": (1, "bytes")}),
    "challenge": (2, {"core": (1, "bytes"), "enc": (2, "bytes"), "ciphertext": (3, "bytes"), "signature": (4, "bytes")}),
    "answer": (3, {"enc": (1, "bytes"), "ciphertext": (2, "bytes"), "signature": (3, "bytes"), "confirm": (4, "bytes")}),
    "pass": (4, {"confirm": (1, "bytes")}),
    # Referrals and their proof are for peers that follow them.
    "reject": (5, {"code": (1, "uint32"), "referrals": (2, "bytes"), "proof": (3, "bytes")}),
}

LENGTHS = {
    "public_key": 36, "peer_id": 38, "enc_key": 32, "nonce": 32, "instance_id": 16, "prev": 32,
    "enc": 32, "ciphertext": 80, "signature": 64, "confirm": 32,
}


def _check_lengths(message):
    for name, length in LENGTHS.items():
        if name in message and len(message[name]) != length:
            raise _auth(f"{name} has not {length} bytes")


def decode_frame(body):
    """Which frame a body is, and its fields."""
    kinds = {tag: (name, schema) for name, (tag, schema) in FRAMES.items()}
    kind, parts = None, b""
    try:
        for tag, wire, value in fields(body):
            if tag not in kinds:
                continue
            name, schema = kinds[tag]
            if wire != BYTES:
                raise Malformed(f"{name} has another wire type")
            decode(schema, value)
            # A message that is there twice is one message with the fields of both; another one replaces it. Each is
            # well-formed by itself.
            parts = parts + value if name == kind else value
            kind = name
        if kind is None:
            raise Malformed("the frame is of no known kind")
        return kind, decode(FRAMES[kind][1], parts)
    except Malformed as error:
        raise _auth(str(error)) from None


def encode_frame(kind, **message):
    tag, schema = FRAMES[kind]
    return message_field(tag, encode(schema, message))


def reject_frame(code):
    return encode_frame("reject", code=CODES[code], referrals=b"", proof=b"")


def _decode_core(core, of):
    """Reads the Core of a hello or a challenge: its version before anything else, so that a later version can be named."""
    try:
        version = 0
        for tag, wire, value in fields(core):
            if tag == 1 and wire == VARINT:
                version = value & 0xFFFFFFFF
        if version != VERSION:
            raise Refused("VERSION", f"the peer speaks version {version} of the handshake, this node {VERSION}")
        message = decode(CORE, core)
    except Malformed as error:
        raise _auth(str(error)) from None
    _check_lengths(message)
    # Tags are in a Hello only, the key that a server has found is in a Challenge only.
    if len(message["tags"]) != (2 * TAG_SIZE if of == "hello" else 0):
        raise _auth("tags has not its length")
    if message["key"] not in ((0,) if of == "hello" else (NEWER, OLDER)):
        raise _auth("the Core names a network key that does not exist")
    return message


# --- hashes, sealing and confirmation

def hash_of(*parts):
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def hmac_of(key, message):
    return hmac.digest(key, message, "sha256")


def tag_of(network_key, client, server, nonce):
    """The tag of a network key: bound to both PeerIds, as noise authenticated them, and to the Hello's nonce."""
    key = hkdf(salt=b"", ikm=network_key, info=TAG, length=32)
    return hmac_of(key, client + server + nonce)[:TAG_SIZE]


_suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)


def _seal(to, info, bound_to, text, ephemeral_ikm):
    ephemeral = None if ephemeral_ikm is None else _suite.kem.derive_key_pair(ephemeral_ikm)
    try:
        enc, context = _suite.create_sender_context(_suite.kem.deserialize_public_key(to), info, eks=ephemeral)
    except ValueError:
        # RFC 9180 §7.1.4: the shared secret would be zero.
        raise _auth("the peer's sealing key is of small order") from None
    return enc, context.seal(text, bound_to)


def _open(key, info, bound_to, frame, nonce):
    try:
        text = _suite.create_recipient_context(frame["enc"], key, info).open(frame["ciphertext"], bound_to)
    except Exception:
        raise _auth("what the peer sealed does not open") from None
    if len(text) != 64 or not hmac.compare_digest(text[:32], nonce):
        raise _auth("the peer did not return the nonce")
    return text[32:]


# --- identity

class Local:
    """The input of a node for every handshake."""

    def __init__(self, identity, network_key=None, instance_id=None, older_key=None):
        self.identity = identity
        # 32 zeros on the open network.
        self.network_key = network_key or ZEROS
        self.is_open = network_key is None
        # The network key before it: a network changes its key while nodes run.
        self.older_key = older_key
        # The network id in the signature of batches.
        self.network_id = network_id(network_key)
        self.instance_id = instance_id or os.urandom(16)
        pair = _suite.kem.derive_key_pair(identity.sealing_ikm)
        self.sealing = pair.private_key
        self.sealing_key = pair.public_key.to_public_bytes()


class Entropy:
    """Randomness of one round, and its time; the vectors fix all of it. HPKE makes its ephemeral key itself when there
    is none. `tag` is sent in a Hello in place of the tag of an older network key."""

    def __init__(self, nonce=None, secret=None, ephemeral=None, tag=None, clock_ms=None):
        self.nonce = nonce or os.urandom(32)
        self.secret = secret or os.urandom(32)
        self.ephemeral = ephemeral
        self.tag = tag or os.urandom(TAG_SIZE)
        self.clock_ms = int(time.time() * 1000) if clock_ms is None else clock_ms


class Round:
    """One round between this node and the peer that noise authenticated, with the PeerId `remote` (38 bytes).

    `prev` is T_end of round 1 and `first` the peer's Core in round 1; neither is given in round 1.
    """

    def __init__(self, local, remote, number, prev=ZEROS, first=None, entropy=None):
        self.local, self.remote, self.number, self.prev, self.first = local, remote, number, prev, first
        self.entropy = entropy or Entropy()
        # The values that the vectors name, for the tests.
        self.steps = {}

    def hello(self):
        """The client's first frame."""
        client = self.local.identity.peer_id
        newer, older = (
            key and tag_of(key, client, self.remote, self.entropy.nonce) for key in (self.local.network_key, self.local.older_key))
        core = self._core(tags=newer + (older or self.entropy.tag))
        self.t1 = hash_of(self._t0(client, self.remote), b"\1", core)
        return encode_frame("hello", core=core)

    def on_challenge(self, frame):
        """The client takes a Challenge: the peer's Core, and the Answer."""
        core = _decode_core(frame["core"], "challenge")
        _check_lengths(frame)
        self.network_key = self.local.network_key if core["key"] == NEWER else self.local.older_key
        if self.network_key is None:
            raise _auth("the peer has found a network key that this node does not have")
        key = self._check(core)
        t2 = hash_of(self.t1, b"\2", frame["core"])
        t3 = hash_of(t2, frame["enc"], frame["ciphertext"])
        if not verify(key, D + b"/server/" + t3, frame["signature"]):
            raise _auth("the signature does not hold")
        k_server = _open(self.local.sealing, D + b"/s2c", t2, frame, self.entropy.nonce)
        t4 = hash_of(t3, frame["signature"])

        k_client = self.entropy.secret
        enc, ciphertext = _seal(core["enc_key"], D + b"/c2s", t4, core["nonce"] + k_client, self.entropy.ephemeral)
        t5 = hash_of(t4, b"\3", enc, ciphertext)
        signature = self.local.identity.sign(D + b"/client/" + t5)
        k = self._k(t5, k_server, k_client)
        confirm = hmac_of(k[:32], hash_of(t5, signature))
        self.end = hash_of(t5, b"\4", signature, confirm)
        self.expected = hmac_of(k[32:], self.end)
        self.steps.update(T1=self.t1, T2=t2, T3=t3, T4=t4, T5=t5, K=k, confirm=confirm, T_end=self.end)
        return core, encode_frame("answer", enc=enc, ciphertext=ciphertext, signature=signature, confirm=confirm)

    def on_pass(self, frame):
        """The client takes a Pass: T_end."""
        _check_lengths(frame)
        if not hmac.compare_digest(frame["confirm"], self.expected):
            raise _auth("the pass does not hold")
        return self.end

    def on_hello(self, frame):
        """The server takes a Hello: the Challenge."""
        self.peer = _decode_core(frame["core"], "hello")
        self.network_key, tag = self._common_key(self.peer)
        self.key = self._check(self.peer)
        core = self._core(key=tag)
        t1 = hash_of(self._t0(self.remote, self.local.identity.peer_id), b"\1", frame["core"])
        t2 = hash_of(t1, b"\2", core)
        text = self.peer["nonce"] + self.entropy.secret
        enc, ciphertext = _seal(self.peer["enc_key"], D + b"/s2c", t2, text, self.entropy.ephemeral)
        t3 = hash_of(t2, enc, ciphertext)
        signature = self.local.identity.sign(D + b"/server/" + t3)
        self.t4 = hash_of(t3, signature)
        self.steps.update(T1=t1, T2=t2, T3=t3, T4=self.t4)
        return encode_frame("challenge", core=core, enc=enc, ciphertext=ciphertext, signature=signature)

    def on_answer(self, frame):
        """The server takes an Answer: the peer's Core, T_end, and the Pass."""
        _check_lengths(frame)
        t5 = hash_of(self.t4, b"\3", frame["enc"], frame["ciphertext"])
        if not verify(self.key, D + b"/client/" + t5, frame["signature"]):
            raise _auth("the signature does not hold")
        k_client = _open(self.local.sealing, D + b"/c2s", self.t4, frame, self.entropy.nonce)
        k = self._k(t5, self.entropy.secret, k_client)
        confirm = hmac_of(k[:32], hash_of(t5, frame["signature"]))
        if not hmac.compare_digest(frame["confirm"], confirm):
            raise _auth("the confirmation does not hold")
        end = hash_of(t5, b"\4", frame["signature"], confirm)
        self.steps.update(T5=t5, K=k, confirm=confirm, T_end=end)
        return self.peer, end, encode_frame("pass", confirm=hmac_of(k[32:], end))

    def _core(self, tags=b"", key=0):
        local = self.local
        return encode(CORE, {
            "version": VERSION,
            "round": self.number,
            "public_key": local.identity.public_key,
            "peer_id": local.identity.peer_id,
            "enc_key": local.sealing_key,
            "nonce": self.entropy.nonce,
            "instance_id": local.instance_id,
            "features": 0,
            "prev": self.prev,
            "tags": tags,
            "key": key,
            "clock_ms": self.entropy.clock_ms,
        })

    def _common_key(self, core):
        """The network key of this node's that has one of the tags in a Hello, and which of them. The newer key counts
        before the older one."""
        def tag_in(network_key):
            own = tag_of(network_key, self.remote, self.local.identity.peer_id, core["nonce"])
            tags = ((NEWER, core["tags"][:TAG_SIZE]), (OLDER, core["tags"][TAG_SIZE:]))
            found = [which for which, tag in tags if hmac.compare_digest(own, tag)]
            return found[0] if found else None

        for network_key in (self.local.network_key, self.local.older_key):
            tag = network_key and tag_in(network_key)
            if tag is not None:
                return network_key, tag
        reason = "the network keys differ"
        if self.local.is_open:
            reason += ": the peer has one, this node is on the open network"
        elif tag_in(ZEROS) is not None:
            reason += ": the peer is on the open network"
        raise Refused("NETWORK", reason)

    def _t0(self, client, server):
        t0 = hash_of(D, bytes([self.number]), client, server, self.prev)
        self.steps["T0"] = t0
        return t0

    def _k(self, t5, k_server, k_client):
        return hkdf(salt=t5, ikm=k_server + k_client + self.network_key, info=D + b"/confirm", length=64)

    def _check(self, core):
        """Runs the checks of both sides on the other's Core; returns its key."""
        local, first = self.local, self.first
        if core["round"] != self.number:
            raise _auth("the peer is in another round")
        if core["prev"] != self.prev:
            raise _auth("the peer goes on from another round 1")
        key = public_key_of(core["public_key"])
        if key is None:
            raise _auth("the peer's key is no Ed25519 key, not canonical, or of small order")
        if core["peer_id"] != peer_id_bytes(core["public_key"]):
            raise _auth("the claimed id is not the key's")
        if core["peer_id"] != self.remote:
            raise _auth("the claimed id is not the connection's")
        if core["peer_id"] == local.identity.peer_id:
            raise _auth("the peer claims our id")
        if core["nonce"] == self.entropy.nonce:
            raise _auth("the peer sent our nonce")
        if core["instance_id"] == local.instance_id:
            raise _auth("the peer claims to be this very process")
        for name in ("public_key", "enc_key", "instance_id"):
            if first is not None and core[name] != first[name]:
                raise _auth(f"{name} is not that of round 1")
        return key
