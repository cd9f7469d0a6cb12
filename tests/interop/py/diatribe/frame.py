"""One frame on a stream: a minimal unsigned varint n, 1 ≤ n ≤ limit, then n bytes, then nothing."""

from libp2p.network.stream.exceptions import StreamEOF

from .protobuf import varint


class NoFrame(Exception):
    """Bytes that are no frame."""


async def write_frame(stream, body):
    """Writes the only frame of this direction, and half-closes."""
    await stream.write(varint(len(body)) + body)
    await stream.close_write()


async def read_frame(stream, limit):
    """Reads the only frame of this direction. Bytes after the frame that are there already are a violation."""
    data = b""
    while True:
        head = frame_length(data, limit)
        if head is not None:
            size, length = head
            if len(data) > size + length:
                raise NoFrame("bytes follow the frame")
            if len(data) == size + length:
                return data[size:]
        try:
            # One byte more than the frame may have, so that surplus bytes are noticed.
            data += await stream.read(limit + 3 - len(data))
        except StreamEOF:
            raise NoFrame("the stream ended before the frame did") from None


def frame_length(data, limit):
    """The size of the varint and the length it says; None when more bytes are needed."""
    value = 0
    for i, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value == 0 and i == 0:
                raise NoFrame("the frame is empty")
            if byte == 0:
                raise NoFrame("the frame's length is not a minimal varint")
            if value > limit:
                raise NoFrame(f"the frame's length of {value} bytes is over the limit of {limit}")
            return i + 1, value
        if 1 << 7 * (i + 1) > limit:
            raise NoFrame(f"the frame is over the limit of {limit} bytes")
    return None
