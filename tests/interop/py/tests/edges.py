"""Edges of the encoding, in hex: fields that may follow those of a well-formed message, and fields that may not."""

WELL_FORMED = {
    "nothing": "",
    "an unknown varint": "a00601",
    "an unknown fixed64": "a1060102030405060708",
    "an unknown string": "a20603616263",
    "an unknown string that is no message": "a206020b0b",
    "an unknown fixed32": "a50601020304",
    "field 2^29-1": "f8ffffff0f00",
    "an unknown varint of 64 bits": "a006ffffffffffffffffff01",
}
MALFORMED = {
    "a value in two bytes where one does": "a0068100",
    "a key in three bytes where two do": "a0860001",
    "a length in two bytes where one does": "a2068000",
    "a varint of 2^64": "a00680808080808080808002",
    "a varint of eleven bytes": "a0068080808080808080808001",
    "field 0": "0000",
    "field 2^29": "808080801000",
    "a key of 33 bits": "a08680801000",
    "an empty group": "a306a406",
    "a group 100 deep": "a306" * 100 + "a406" * 100,
    "the end of a group": "a406",
    "wire type 6": "a606",
    "wire type 7": "a706",
    "a length past the end": "a20601",
    "a length of 2^63": "a20680808080808080808001",
    "a fixed64 cut short": "a10601020304050607",
    "a fixed32 cut short": "a506010203",
    "a key and nothing": "a006",
}
