"""Protocol buffers, as much of them as the contract needs: fields in, fields out.

Written here and not taken from a library, because the contract defines malformed encodings exactly: varints that are not
minimal, field numbers and wire types that do not exist, groups, and known fields of another wire type. Unknown fields
are skipped, of a scalar field that is there twice the last counts.
"""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# A key is a field number below 2^29, and three bits of wire type.
MAX_KEY = 2**32 - 1
# The bytes of the largest varint.
MAX_VARINT = 10


class Malformed(Exception):
    """Bytes that chapter 4 of the contract calls malformed."""


def varint(value):
    """A minimal unsigned varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_field(tag, value):
    """A message inside another: it is written although it is empty."""
    return varint(tag << 3 | BYTES) + varint(len(value)) + value


def encode(schema, message):
    """A message in the order of its fields' numbers, zero values left out."""
    parts = []
    for name, (tag, kind) in schema.items():
        value = message[name]
        if isinstance(kind, dict):
            parts += [message_field(tag, encode(kind, item)) for item in value]
        elif kind == "ids":
            parts += [message_field(tag, item) for item in value]
        elif kind in ("uint32", "uint64"):
            parts += [varint(tag << 3 | VARINT) + varint(value)] if value else []
        else:
            value = value.encode() if kind == "string" else value
            parts += [message_field(tag, value)] if value else []
    return b"".join(parts)


def decode(schema, data):
    """Reads a message. `schema` maps names to (tag, kind): bytes, string, uint32, uint64, ids (a list of bytes), or the
    schema of a list of messages."""
    by_tag = {tag: (name, kind) for name, (tag, kind) in schema.items()}
    message = {name: _zero(kind) for name, (_, kind) in schema.items()}
    for tag, wire, value in fields(data):
        if tag not in by_tag:
            continue
        name, kind = by_tag[tag]
        if wire != (VARINT if kind in ("uint32", "uint64") else BYTES):
            raise Malformed(f"{name} has another wire type")
        if isinstance(kind, dict):
            message[name].append(decode(kind, value))
        elif kind == "ids":
            message[name].append(value)
        elif kind == "string":
            message[name] = _text(value)
        else:
            message[name] = value & 0xFFFFFFFF if kind == "uint32" else value
    return message


def fields(data):
    """All fields of a message in their order: (tag, wire, value); a value only for varints and bytes."""
    found = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        tag, wire, value = key >> 3, key & 7, None
        if tag == 0 or key > MAX_KEY:
            raise Malformed("a field has no such number")
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire == FIXED64:
            at += 8
        elif wire == FIXED32:
            at += 4
        elif wire == BYTES:
            length, start = _varint(data, at)
            at = start + length
            value = bytes(data[start:at])
        else:
            raise Malformed("a field is a group, or of an unknown wire type")
        if at > len(data):
            raise Malformed("a field is cut short")
        found.append((tag, wire, value))
    return found


def _zero(kind):
    if isinstance(kind, dict) or kind == "ids":
        return []
    return {"bytes": b"", "string": "", "uint32": 0, "uint64": 0}[kind]


def _text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a text is not UTF-8") from None


def _varint(data, at):
    """The value of the minimal varint at `at`, and where it ends."""
    value = 0
    for i, byte in enumerate(data[at:at + MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if byte == 0 and i > 0:
                raise Malformed("a varint is not minimal")
            if value >= 1 << 64:
                raise Malformed("a varint has more than 64 bits")
            return value, at + i + 1
    raise Malformed("a varint is cut short, or has more than 10 bytes")
