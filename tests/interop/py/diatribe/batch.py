"""Rooms and batches: valid room names, and the signed envelopes of a room.

Entry points: `seal` and `open_envelope`. The rule it keeps: a body is checked and hashed as received, and a
signed body has one encoding only.
"""

import re
import unicodedata
from collections import deque
from hashlib import sha256

from .identity import peer_id_bytes, public_key_of, verify
from .protobuf import Malformed, decode, encode, message_field, varint

MAX_EVENT_DATA = 1024 * 1024
MAX_EVENT_NAME = 256
MAX_EVENTS = 1024
# The largest data of a gossipsub message.
MAX_MESSAGE = MAX_EVENT_DATA + 1024
# A sender closes a batch of several events at this size, counted with EVENT_OVERHEAD.
MAX_BATCH = 256 * 1024
# Bytes that an event counts beside its own: the cost of its bookkeeping in each log.
EVENT_OVERHEAD = 64
# The most that keys and lengths add to the bytes of an event.
EVENT_FRAMING = 16
# How many batches a batch says it follows, and the bytes of their ids.
MAX_PREV = 4
ID_SIZE = 32
# How many batches are remembered as followed.
MAX_FOLLOWED = 1024

MAX_AHEAD_MS = 5 * 60 * 1000
MAX_SEQ = 2**53 - 1
SIGNED = b"diatribe-batch-v2"
ID_OF_GOOD = b"diatribe-batch-id-v2"
ID_OF_BAD = b"diatribe-bad-v2"
TOPIC = "/diatribe/1/"

# Unicode White_Space other than U+0020, control characters (Cc), '/', and invisible characters. Python's \s takes
# U+001C–U+001F for whitespace, which White_Space does not; they are control characters all the same.
_FORBIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f/\\xa0\\u1680\\u2000-\\u200b\\u200e\\u200f\\u2028-\\u202f\\u205f-\\u2069\\u3000\\ufeff]"
)

EVENT = {"name": (1, "string"), "data": (2, "bytes")}
BATCH = {
    "author": (1, "bytes"),
    "instance_id": (2, "bytes"),
    "first_seq": (3, "uint64"),
    "sent_at_ms": (4, "uint64"),
    "room": (5, "string"),
    "events": (6, EVENT),
    "prev": (7, "ids"),
}


def room_fault(name):
    """Returns the fault of a room's name; None for a valid one."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "a room's name is UTF-8"
    if not 1 <= length <= 64:
        return "a room has a name of 1 to 64 bytes"
    if name != unicodedata.normalize("NFC", name):
        return "a room's name is in NFC"
    if _FORBIDDEN.search(name):
        return "a character is not allowed in a room's name"
    if name != name.strip(" "):
        return "a room's name neither begins nor ends with a space"
    return None


def topic_of(room):
    return TOPIC + room


def room_of(topic):
    """The room of a topic, if it is one."""
    room = topic.removeprefix(TOPIC)
    return room if topic.startswith(TOPIC) and room_fault(room) is None else None


class BatchError(Exception):
    """A message that is no batch; `offence` tells whether the forwarding peer could have known."""

    def __init__(self, kind, offence=True):
        super().__init__(f"the batch is refused: {kind}")
        self.kind, self.offence = kind, offence


def size_of(name, data):
    """How much an event adds to a batch."""
    return len(name.encode()) + len(data) + EVENT_FRAMING + EVENT_OVERHEAD


def id_of(topic, data):
    """The id of a message. One that is spelled like an envelope, on the topic of a room, has an id that no other
    message can have, valid or not; all others have ids of another kind."""
    room = room_of(topic)
    parts = _split(data) if room is not None and len(data) <= MAX_MESSAGE else None
    if parts is None:
        return sha256(ID_OF_BAD + topic.encode() + data).digest()
    return _good_id(room, sha256(parts[0]).digest(), parts[1])


def _good_id(room, body_hash, signature):
    room = room.encode()
    return sha256(ID_OF_GOOD + len(room).to_bytes(2, "big") + room + body_hash + signature).digest()


def seal(identity, network_id, instance_id, first_seq, sent_at_ms, room, events, prev=()):
    """Signs events, pairs of name and data, for the network that has this id: the envelope's bytes, its id, body and
    signature."""
    body = encode(BATCH, {
        "author": identity.public_key,
        "instance_id": instance_id,
        "first_seq": first_seq,
        "sent_at_ms": sent_at_ms,
        "room": room,
        "events": [{"name": name, "data": data} for name, data in events],
        "prev": prev,
    })
    body_hash = sha256(body).digest()
    signature = identity.sign(SIGNED + network_id + body_hash)
    envelope = message_field(1, body) + message_field(2, signature)
    return envelope, _good_id(room, body_hash, signature), body, signature


def open_envelope(data, room, network_id, now_ms):
    """Checks the data of a message in `room` of the network that has this id, and reads it. Raises a BatchError."""
    if len(data) > MAX_MESSAGE:
        raise BatchError("TooLarge")
    parts = _split(data)
    if parts is None:
        raise BatchError("NotAnEnvelope")
    body, signature = parts
    try:
        batch = decode(BATCH, body)
    except Malformed:
        raise BatchError("NotABatch") from None
    prev = batch["prev"]
    if any(len(id) != ID_SIZE for id in prev[:MAX_PREV]):
        raise BatchError("PrevLength")
    if len(prev) > MAX_PREV:
        raise BatchError("TooManyPrev")
    events = batch["events"]
    if not events:
        raise BatchError("NoEvents")
    if len(events) > MAX_EVENTS:
        raise BatchError("TooManyEvents")
    for event in events:
        if len(event["name"].encode()) > MAX_EVENT_NAME:
            raise BatchError("NameTooLong")
        if len(event["data"]) > MAX_EVENT_DATA:
            raise BatchError("EventTooLarge")
    key = public_key_of(batch["author"])
    if key is None:
        raise BatchError("Author")
    if len(batch["instance_id"]) != 16:
        raise BatchError("InstanceId")
    if batch["room"] != room:
        raise BatchError("OtherRoom")
    if batch["first_seq"] < 1 or batch["first_seq"] + len(events) - 1 > MAX_SEQ:
        raise BatchError("Numbering")
    body_hash = sha256(body).digest()
    if not verify(key, SIGNED + network_id + body_hash, signature):
        raise BatchError("Signature")
    if batch["sent_at_ms"] > now_ms + MAX_AHEAD_MS:
        raise BatchError("Ahead", offence=False)
    return batch | {
        "id": _good_id(room, body_hash, signature), "author": peer_id_bytes(batch["author"]), "prev": list(dict.fromkeys(prev))}


def _split(data):
    """The two parts of an envelope that is exactly `0a len body 12 40 signature`; None when it is not."""
    for size in range(1, 5):
        length = len(data) - 67 - size
        if length < 1:
            break
        head = b"\x0a" + varint(length)
        end = 1 + size + length
        if len(head) == 1 + size and data.startswith(head) and data[end:end + 2] == b"\x12\x40":
            return data[1 + size:end], data[end + 2:]
    return None


class Heads:
    """The newest batches of one author in one room that this instance of the author knows: those that no other one
    follows."""

    def __init__(self):
        # This instance's latest batch, none at first; those of other instances, the newest last.
        self._own, self._others = [], []
        # Batches that another one has named: one that arrives after its follower is no head.
        self._followed = deque(maxlen=MAX_FOLLOWED)

    def prev(self):
        """Returns the ids that the next batch of this instance follows: the batch before it, and the newest of other instances."""
        self._others = self._others[-(MAX_PREV - len(self._own)):]
        return self._own + self._others

    def sent(self, id, prev):
        """Notes the next batch of this instance, which has named `prev`."""
        self._follow(prev)
        self._own = [id]

    def received(self, id, prev):
        """Notes a batch of another instance."""
        self._follow(prev)
        if id not in self._followed and id not in self._others:
            self._others = [*self._others, id][-MAX_PREV:]

    def _follow(self, prev):
        self._followed.extend(prev)
        self._others = [id for id in self._others if id not in prev]
