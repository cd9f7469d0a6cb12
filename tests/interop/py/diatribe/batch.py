"""Rooms and batches: what a room may be called, and the signed envelopes that travel in it.

Entry points: `seal` and `open_envelope`. The rule it keeps: a body is checked and hashed as it came, and of one
signed body there is one spelling only.
"""

import re
import unicodedata
from hashlib import sha256

from .identity import peer_id_bytes, public_key_of, verify
from .protobuf import Malformed, decode, encode, message_field, varint

MAX_EVENT_DATA = 1024 * 1024
MAX_EVENT_NAME = 256
MAX_EVENTS = 4096
# The largest data of a gossipsub message.
MAX_MESSAGE = MAX_EVENT_DATA + 1024
# A sender closes a batch of several events at this size.
MAX_BATCH = 64 * 1024

MAX_AHEAD_MS = 5 * 60 * 1000
MAX_SEQ = 2**53 - 1
SIGNED = b"diatribe-batch-v1"
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
}


def room_fault(name):
    """What is wrong with the name of a room; None when nothing is."""
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
    """A message that is no batch; `offence` says whether whoever forwarded it could have known."""

    def __init__(self, kind, offence=True):
        super().__init__(f"the batch is refused: {kind}")
        self.kind, self.offence = kind, offence


def size_of(name, data):
    """How much an event adds to a batch."""
    return len(name.encode()) + len(data) + 16


def seal(identity, instance_id, first_seq, sent_at_ms, room, events):
    """Signs events, pairs of name and data: the envelope's bytes, its id, body and signature."""
    body = encode(BATCH, {
        "author": identity.public_key,
        "instance_id": instance_id,
        "first_seq": first_seq,
        "sent_at_ms": sent_at_ms,
        "room": room,
        "events": [{"name": name, "data": data} for name, data in events],
    })
    signature = identity.sign(SIGNED + sha256(body).digest())
    envelope = message_field(1, body) + message_field(2, signature)
    return envelope, sha256(envelope).digest(), body, signature


def open_envelope(data, room, now_ms):
    """Checks the data of a message in `room` and reads it. Raises a BatchError."""
    if len(data) > MAX_MESSAGE:
        raise BatchError("TooLarge")
    body, signature = _split(data)
    try:
        batch = decode(BATCH, body)
    except Malformed:
        raise BatchError("NotABatch") from None
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
    if not verify(key, SIGNED + sha256(body).digest(), signature):
        raise BatchError("Signature")
    if batch["sent_at_ms"] > now_ms + MAX_AHEAD_MS:
        raise BatchError("Ahead", offence=False)
    return batch | {"id": sha256(data).digest(), "author": peer_id_bytes(batch["author"])}


def _split(data):
    """The two parts of an envelope that is exactly `0a len body 12 40 signature`."""
    for size in range(1, 5):
        length = len(data) - 67 - size
        if length < 1:
            break
        head = b"\x0a" + varint(length)
        end = 1 + size + length
        if len(head) == 1 + size and data.startswith(head) and data[end:end + 2] == b"\x12\x40":
            return data[1 + size:end], data[end + 2:]
    raise BatchError("NotAnEnvelope")
