"""The identity of a node: Ed25519 keys, the PeerIds and sealing keys that follow from them, networks.

The rule it keeps: signatures are verified strictly, because Ed25519 libraries differ in the edge cases. S < L; the
key and R are canonical and not of small order; the equation holds without the cofactor. libsodium does all of that.
Of keys alone, before any signature, it has no check that fits: `crypto_core_ed25519_is_valid_point` also refuses keys
outside the prime-order subgroup, which the contract allows. So that is done here.
"""

import hmac
import re
import unicodedata
from hashlib import sha256

import base58
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

# The prefix of the 32 bytes of an Ed25519 key in libp2p's PublicKey message.
PUBLIC_KEY_HEAD = bytes.fromhex("08011220")
ZEROS = bytes(32)

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
# y of the eight points of small order.
_Y8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = {0, 1, _P - 1, _Y8, _P - _Y8}


class Identity:
    """A node's own keys, from the 32 bytes of its Ed25519 seed."""

    def __init__(self, seed):
        if len(seed) != 32:
            raise ValueError("a seed has 32 bytes")
        self.seed = seed
        self._signing = SigningKey(seed)
        self.key = bytes(self._signing.verify_key)
        self.public_key = PUBLIC_KEY_HEAD + self.key
        self.peer_id = peer_id_bytes(self.public_key)

    def sign(self, message):
        return self._signing.sign(message).signature

    @property
    def sealing_ikm(self):
        """The input of HPKE's DeriveKeyPair: the sealing key is a key of its own, not the Ed25519 key converted."""
        return hkdf(salt=b"diatribe", ikm=self.seed, info=b"x25519-encryption-v1", length=32)


def seed_of_passphrase(passphrase, salt=""):
    """The seed, and the salt as Argon2 gets it."""
    nfc = [unicodedata.normalize("NFC", text).encode() for text in (passphrase, salt)]
    argon2_salt = sha256(b"diatribe/identity/v1\0" + nfc[1]).digest()
    argon2 = Argon2id(salt=argon2_salt, length=32, iterations=3, lanes=1, memory_cost=262144)
    return argon2.derive(nfc[0]), argon2_salt


def public_key_of(protobuf):
    """The 32 bytes of a libp2p PublicKey message, if it is a key that the contract takes; else None."""
    if len(protobuf) != 36 or protobuf[:4] != PUBLIC_KEY_HEAD or not _is_good_point(protobuf[4:]):
        return None
    return protobuf[4:]


def peer_id_bytes(protobuf):
    """The bytes of the PeerId of a PublicKey message: an identity multihash."""
    return b"\0\x24" + protobuf


def peer_id_text(peer_id):
    return base58.b58encode(peer_id).decode()


def verify(key, message, signature):
    if len(signature) != 64 or not _is_good_point(key) or not _is_good_point(signature[:32]):
        return False
    try:
        VerifyKey(key).verify(message, signature)
        return True
    except BadSignatureError:
        return False


def _is_good_point(encoded):
    """Whether it is canonical, on the curve, and not of small order."""
    if len(encoded) != 32:
        return False
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    # Where x is 0 the point is of small order, so that its sign bit needs no look.
    if y >= _P or y in _SMALL_ORDER:
        return False
    # x² = u / v, and u / v is a square when u · v is.
    u, v = y * y - 1, _D * y * y + 1
    return pow(u * v, (_P - 1) // 2, _P) == 1


def hkdf(salt, ikm, info, length):
    """HKDF-SHA256."""
    prk = hmac.digest(salt, ikm, "sha256")
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def network_id(network_key):
    """The id of the network that has this key of 32 bytes, or of the open network (None)."""
    return ZEROS if network_key is None else sha256(b"diatribe/network/v1" + network_key).digest()


def parse_network_key(file):
    """Reads a network key file: 32 bytes, 64 hex digits and a newline, or libp2p's swarm.key."""
    key = file
    if len(file) != 32:
        found = re.fullmatch(rb"(?:/key/swarm/psk/1\.0\.0/\r?\n/base16/\r?\n)?([0-9a-fA-F]{64})\s*", file)
        if found is None:
            raise ValueError("a network key is 32 bytes, or 64 hex digits and a newline, or libp2p's swarm.key")
        key = bytes.fromhex(found[1].decode())
    if key == ZEROS:
        raise ValueError("a network key of zeros is no key: it stands for the open network. Make one of random bytes")
    return key
