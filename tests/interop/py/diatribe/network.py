"""Connections: py-libp2p's swarm with websockets, noise and yamux, and the protocols that a peer may use before it has passed.

Entry points: `Network.dial`, `Network.listen` and `Network.on_connection`. The rule it keeps: protocols are negotiated
for each connection by itself, so that a gossip stream before the pass is answered `na`; and the actions of a
stranger affect its own connection only.
"""

import logging
import socket
from collections import OrderedDict

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH
from libp2p.io.exceptions import IncompleteReadError, IOException
from libp2p.io.utils import read_exactly
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX, Yamux
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.transport.websocket.transport import WebsocketConfig, WebsocketTransport
from multiaddr import Multiaddr

from . import workarounds
from .handshake import PROTOCOL as HANDSHAKE
from .protobuf import message_field, varint

PING = "/ipfs/ping/1.0.0"
PING_BYTES = 32

MAX_WEBSOCKET_MESSAGE = 1024 * 1024
MAX_CONNECTIONS = 256
# Inbound connections from TCP to yamux, and how long one may take.
MAX_HALF_OPEN = 64
UPGRADE_S = 5
# The peer's streams on a connection; each negotiates its protocol within this time.
MAX_STREAMS = 64
NEGOTIATE_S = 10
# How long a connection may take to close in good order.
CLOSE_S = 0.5

log = logging.getLogger("diatribe.network")
workarounds.apply()


class DialFailed(Exception):
    """A dial that failed before the handshake. `stage` and `code` are words of the contract's JSON lines."""

    def __init__(self, stage, reason, code=None):
        super().__init__(reason)
        self.stage, self.code = stage, code


class Unsupported(Exception):
    """The peer does not speak a protocol."""


class Connection:
    """A connection that noise has authenticated."""

    def __init__(self, network, swarm_conn):
        self.network = network
        self.swarm_conn = swarm_conn
        self.remote = swarm_conn.muxed_conn.peer_id
        self.websocket = swarm_conn.muxed_conn.websocket
        dialled = swarm_conn.muxed_conn.dialled
        self.dialer = dialled is not None
        self.address = dialled or _address_of(self.websocket)
        # Protocols that the peer may open here beside those that anybody may.
        self.gated = {}
        self.streams = 0
        # Takes the peer's handshake streams.
        self.on_handshake = None
        # The nursery of the tasks that live as long as the connection.
        self.nursery = None

    @property
    def peer_id(self):
        return self.remote.to_bytes()

    @property
    def id(self):
        return self.remote.to_base58()

    @property
    def closed(self):
        return self.swarm_conn.event_closed.is_set()

    async def wait_closed(self):
        await self.swarm_conn.event_closed.wait()

    async def open(self, *protocols):
        """Opens a stream for the first of the protocols that the peer speaks."""
        stream = await self.swarm_conn.new_stream()
        try:
            communicator = MultiselectCommunicator(stream)
            stream.set_protocol(await MultiselectClient().select_one_of(protocols, communicator, NEGOTIATE_S))
            return stream
        except BaseException as error:
            with trio.move_on_after(CLOSE_S, shield=True):
                await stream.reset()
            if isinstance(error, MultiselectClientError) and "not supported" in str(error):
                raise Unsupported(f"the peer does not speak {protocols[0]}") from None
            raise

    async def ping(self):
        """Whether the peer answers."""
        try:
            stream = await self.open(PING)
            await stream.write(bytes(PING_BYTES))
            answered = await read_exactly(stream, PING_BYTES) == bytes(PING_BYTES)
            await stream.close()
            return answered
        except Exception as error:
            log.debug("no ping with %s: %r", self.id, error)
            return False

    async def hang_up(self):
        """Closes the connection, also where the peer does not play along: a websocket waits for its answer for ever."""
        async def force():
            await trio.sleep(CLOSE_S)
            _socket_of(self.websocket).close()

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(force)
                try:
                    await self.swarm_conn.close()
                except Exception as error:
                    log.debug("closing a connection with %s: %r", self.id, error)
                nursery.cancel_scope.cancel()


class Network(Swarm):
    """The node's interface to libp2p. `on_connection` is called with each new Connection, before its first stream."""

    def __init__(self, seed):
        keys = create_new_key_pair(seed)
        own_id = ID.from_pubkey(keys.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(own_id, keys)
        upgrader = TransportUpgrader(
            OrderedDict({NOISE: NoiseTransport(keys, noise_privkey=create_noise_key().private_key)}),
            OrderedDict({YAMUX: Yamux}),
            NEGOTIATE_S,
        )
        websockets = WebsocketTransport(
            upgrader, WebsocketConfig(handshake_timeout=UPGRADE_S, max_message_size=MAX_WEBSOCKET_MESSAGE))
        config = ConnectionConfig(
            max_connections=MAX_CONNECTIONS, high_watermark=MAX_CONNECTIONS, low_watermark=0, min_connections=0)
        super().__init__(own_id, peerstore, upgrader, [websockets], connection_config=config)
        self.host = BasicHost(self)
        # The host asks everybody for identify and believes the answer, in a task that takes the program down with it
        # when it fails. Nothing here depends on a peer's identify: this node answers it, and never asks.
        self.notifees.clear()
        self.set_stream_handler(self._on_stream)
        self._open = {
            IDENTIFY: self._answer_identify,
            IDENTIFY_PUSH: _discard,
            PING: _answer_pings,
            HANDSHAKE: self._on_handshake,
        }
        self._advertised = list(self._open)
        self.on_connection = lambda connection: None
        self._connections_of = {}
        self._half_open = 0

    def advertise(self, protocols):
        """Returns the answer to identify. It is the same before and after a pass, so that it reveals nothing."""
        self._advertised = [*self._open, *protocols]

    async def _answer_identify(self, stream):
        """py-libp2p's own names every address of this node to strangers. Here none is named, nor the peer's."""
        public_key = self.peerstore.pubkey(self.self_id).serialize()
        answer = message_field(1, public_key)
        for protocol in self._advertised:
            answer += message_field(3, protocol.encode())
        answer += message_field(5, b"/diatribe/1.0.0") + message_field(6, b"diatribe-py/1")
        await stream.write(varint(len(answer)) + answer)
        await stream.close()

    @property
    def addresses(self):
        """Where the node can be dialled."""
        return [str(address) for address in self.host.get_addrs()]

    async def listen_on(self, address):
        """Listens, or raises a ValueError that says why not."""
        try:
            listened = await self.listen(Multiaddr(address))
        except Exception as error:
            raise ValueError(f"cannot listen on {address}: {error}") from error
        if not listened:
            raise ValueError(f"cannot listen on {address}: it is taken, or no /ip4|ip6/…/tcp/…/ws address of this machine")

    async def dial(self, address):
        """A Connection. Raises DialFailed."""
        try:
            maddr = Multiaddr(address)
            named = address.rpartition("/p2p/")[2] if "/p2p/" in address else None
            expected = ID.from_base58(named) if named else None
        except Exception as error:
            raise DialFailed("address", f"{address} is no multiaddr: {error}") from error
        transport = self.transport_manager.transport_for_dialing(maddr)
        if transport is None:
            raise DialFailed("address", f"{address} is no websocket address: /ip4|ip6|dns/…/tcp/…/ws")
        await self.event_background_nursery_created.wait()
        try:
            raw = await transport.dial(maddr)
        except Exception as error:
            raise DialFailed(_stage_of(error), f"{address} does not answer: {_cause_of(error)}") from error
        try:
            with trio.fail_after(UPGRADE_S):
                connection = await self._secure(raw, expected, address)
        except DialFailed:
            await _close(raw)
            raise
        except trio.TooSlowError:
            await _close(raw)
            raise DialFailed("noise", f"{address} took longer than {UPGRADE_S} s", "TIMEOUT") from None
        except BaseException:
            await _close(raw)
            raise
        return connection

    async def _secure(self, raw, expected, address):
        """From a websocket that was dialled to a Connection."""
        try:
            # The upgrader insists on an expected PeerId, noise does not.
            secured = await self.upgrader.security_multistream.secure_outbound(raw, expected)
        except PeerIDMismatchesPubkey as error:
            raise DialFailed("noise", f"another peer than the expected one answers at {address}", "WRONG_PEER") from error
        except Exception as error:
            raise DialFailed("noise", f"no noise handshake with {address}: {error!r}") from error
        remote = secured.get_remote_peer()
        if remote == self.self_id:
            raise DialFailed("noise", f"this node itself answers at {address}", "OWN_ID")
        try:
            return await self._add(await self.upgrader.upgrade_connection(secured, remote), raw.stream, address)
        except Exception as error:
            raise DialFailed("yamux", f"no yamux with {address}: {error!r}") from error

    async def _handle_inbound_connection(self, read_write_closer, maddr):
        """Takes the place of the swarm's: that one never lets go of a connection, so that some 250 are the last."""
        raw = RawConnection(read_write_closer, False)
        if self._half_open >= MAX_HALF_OPEN:
            await _close(raw)
            return
        self._half_open += 1
        try:
            with trio.fail_after(UPGRADE_S):
                secured = await self.upgrader.upgrade_security(raw, False)
                if secured.get_remote_peer() == self.self_id:
                    raise ConnectionError("a peer with this node's own id")
                muxed = await self.upgrader.upgrade_connection(secured, secured.get_remote_peer())
                connection = await self._add(muxed, read_write_closer, None)
        except Exception as error:
            log.debug("an inbound connection came to nothing: %r", error)
            await _close(raw)
            return
        finally:
            self._half_open -= 1
        await connection.wait_closed()

    async def _add(self, muxed, websocket, dialled):
        muxed.websocket, muxed.dialled = websocket, dialled
        swarm_conn = await self.add_conn(muxed, "inbound" if dialled is None else "outbound")
        return self._connection_of(swarm_conn)

    def _connection_of(self, swarm_conn):
        connection = self._connections_of.get(swarm_conn)
        if connection is None:
            connection = self._connections_of[swarm_conn] = Connection(self, swarm_conn)
            self.on_connection(connection)
        return connection

    def connections_now(self):
        return list(self._connections_of.values())

    def remove_conn(self, swarm_conn):
        self._connections_of.pop(swarm_conn, None)
        super().remove_conn(swarm_conn)
        # A websocket that the peer closed counts as closed, so that the socket below it would stay open.
        _socket_of(swarm_conn.muxed_conn.websocket).close()

    def _schedule_auto_connect(self):
        """The swarm would dial peers that it has heard of, up to half of its most connections: not here."""

    async def run(self):
        self.auto_connector.maybe_connect = trio.lowlevel.checkpoint
        await super().run()

    # --- streams

    async def _on_stream(self, stream):
        """Accepts a stream that the peer opened. An exception here would end all streams of the connection, and more."""
        try:
            connection = self._connection_of(stream.swarm_conn)
            if connection.streams >= MAX_STREAMS:
                await stream.reset()
                return
            connection.streams += 1
            try:
                protocols = Multiselect(self._open | connection.gated)
                protocol, handler = await protocols.negotiate(MultiselectCommunicator(stream), NEGOTIATE_S)
                stream.set_protocol(protocol)
                await handler(stream)
            finally:
                connection.streams -= 1
        except Exception as error:
            log.debug("a stream ended: %r", error)
            await stream.reset()

    async def _on_handshake(self, stream):
        await self._connection_of(stream.swarm_conn).on_handshake(stream)


async def _answer_pings(stream):
    """py-libp2p's own gives up after 10 s without a ping, and takes two streams a peer, not a connection."""
    try:
        while True:
            await stream.write(await read_exactly(stream, PING_BYTES))
    except (IncompleteReadError, IOException):
        await stream.close()


async def _discard(stream):
    """Ignores a peer's identify-push."""
    await stream.close()


async def _close(raw):
    with trio.move_on_after(CLOSE_S, shield=True):
        try:
            await raw.close()
        except Exception as error:
            log.debug("closing: %r", error)


def _socket_of(websocket):
    stream = websocket._ws_connection._stream
    return getattr(stream, "transport_stream", stream).socket


def _address_of(websocket):
    """Returns the source address of an inbound connection."""
    host, port = _socket_of(websocket).getpeername()[:2]
    return f"/{'ip6' if ':' in host else 'ip4'}/{host.split('%')[0]}/tcp/{port}/ws"


def _causes(error):
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from (inner for each in error.exceptions for inner in _causes(each))
        error = error.__cause__ or error.__context__


def _stage_of(error):
    """At which stage a dial failed before noise."""
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "resolve"
    return "tcp" if any(isinstance(cause, OSError) for cause in causes) else "websocket"


def _cause_of(error):
    return next((str(cause) for cause in _causes(error) if isinstance(cause, OSError)), str(error))
