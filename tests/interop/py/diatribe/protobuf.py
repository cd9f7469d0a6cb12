"""Protocol buffers, as much of them as the contract needs: fields in, fields out.

Written here and not taken from a library, because the contract is exact about what a parser takes: fields with
another wire type are refused, unknown ones are skipped, of a field that is there twice the last counts.
"""

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

# Nested groups that a stranger may make us skip.
MAX_GROUPS = 100


class Malformed(Exception):
    """Bytes that are no protocol buffer, or not the one expected."""


def varint(value):
    """A minimal unsigned varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_field(tag, value):
    """A message inside another: it stands there although it is empty."""
    return varint(tag << 3 | BYTES) + varint(len(value)) + value


def encode(schema, message):
    """A message in the order of its fields' numbers, zero values left out."""
    parts = []
    for name, (tag, kind) in schema.items():
        value = message[name]
        if isinstance(kind, dict):
            parts += [message_field(tag, encode(kind, item)) for item in value]
        elif kind in ("uint32", "uint64"):
            parts += [varint(tag << 3 | VARINT) + varint(value)] if value else []
        else:
            value = value.encode() if kind == "string" else value
            parts += [message_field(tag, value)] if value else []
    return b"".join(parts)


def decode(schema, data):
    """Reads a message. `schema` maps names to (tag, kind): bytes, string, uint32, uint64, or the schema of a list."""
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
        tag, wire, start = _key(data, at)
        at = _skip(data, start, wire, tag, MAX_GROUPS)
        if at > len(data):
            raise Malformed("a field is cut short")
        value = None
        if wire == VARINT:
            value = _varint(data, start)[0]
        elif wire == BYTES:
            value = bytes(data[_varint(data, start)[1]:at])
        found.append((tag, wire, value))
    return found


def _zero(kind):
    if isinstance(kind, dict):
        return []
    return {"bytes": b"", "string": "", "uint32": 0, "uint64": 0}[kind]


def _text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a text is not UTF-8") from None


def _varint(data, at):
    """The value of the varint at `at`, and where it ends."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise Malformed("a varint is cut short")
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                raise Malformed("a varint has more than 64 bits")
            return value, at + i + 1
    raise Malformed("a varint has more than 10 bytes")


def _key(data, at):
    value, end = _varint(data, at)
    if value >> 3 == 0 or value > 0xFFFFFFFF:
        raise Malformed("a field has no such number")
    return value >> 3, value & 7, end


def _skip(data, at, wire, tag, groups):
    """Where a field's value ends."""
    if wire == VARINT:
        return _varint(data, at)[1]
    if wire == FIXED64:
        return at + 8
    if wire == FIXED32:
        return at + 4
    if wire == BYTES:
        length, start = _varint(data, at)
        if length > len(data) - start:
            raise Malformed("a field is cut short")
        return start + length
    if wire == GROUP:
        if groups == 0:
            raise Malformed("groups are nested too deeply")
        while True:
            inner, inner_wire, at = _key(data, at)
            if inner_wire == GROUP_END:
                if inner != tag:
                    raise Malformed("a group ends that has not begun")
                return at
            at = _skip(data, at, inner_wire, inner, groups - 1)
    raise Malformed("a field has an unknown wire type")
