"""Changes in py-libp2p 0.8.1 itself, because no subclass or option reaches them. Each with the reason.

Entry point: `apply`, once, before the first connection.
"""

import struct

import trio
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.exceptions import ParseError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, MAX_MESSAGE_SIZE, TYPE_DATA, YAMUX_HEADER_FORMAT, YamuxStream
from libp2p.transport.websocket.transport import WebsocketTransport
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

# The longest line of multistream-select.
MAX_LINE = 1024
WINDOW_POLL_S = 0.005


def apply():
    YamuxStream.write = _write
    WebsocketTransport._track_connection = _track_connection
    multiselect_communicator.read_delim = _read_delim


async def _write(stream, data):
    """libp2p/stream_muxer/yamux/yamux.py, YamuxStream.write: gives up when the peer opens no window for 5 s.

    A peer that is busy for 5 s is no error, and giving up in the middle of a message leaves a stream that is kept, but
    unusable. A caller that must not wait forever sets a deadline.
    """
    view = memoryview(data)
    while view:
        if stream.send_closed or stream.closed:
            raise MuxedStreamError("the stream is closed for sending")
        if stream.send_window <= 0:
            await trio.sleep(WINDOW_POLL_S)
            continue
        size = min(stream.send_window, MAX_MESSAGE_SIZE - HEADER_SIZE, len(view))
        stream.send_window -= size
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, size)
        await stream.conn._write_frame(header + view[:size])
        view = view[size:]


async def _track_connection(transport, connection):
    """libp2p/transport/websocket/transport.py, WebsocketTransport._track_connection: counts each dial and never
    forgets one (nothing calls _untrack_connection), so that after 1,000 dials, failed ones included, there are no more.
    """


async def _read_delim(reader):
    """libp2p/utils/varint.py, read_delim: reads a line of any length that a stranger announces into memory."""
    line = await read_varint_prefixed_bytes_limited(reader, MAX_LINE)
    if line[-1:] != b"\n":
        raise ParseError("a line of multistream-select has no end")
    return line[:-1]
