"""gossipsub behind the gate: py-libp2p's router, which learns of peers by the pass only.

Entry points: `Gossip.attach`, `detach`, `take` and `send`. The rule it keeps: messages arrive in their order, are validated
before they are forwarded, and are never larger than the receiver's limit.

py-libp2p's Pubsub starts a task for each message, which trio runs in any order; drops messages when a queue is
full; sends recent messages again to each new subscriber; and adds the node's signed record to each RPC. So reading,
writing and publishing are done here; topics, mesh, heartbeat and control messages are the library's.
"""

import logging

import trio
from google.protobuf.message import DecodeError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.pubsub.gossipsub import PROTOCOL_ID as V10, PROTOCOL_ID_V11 as V11, PROTOCOL_ID_V12 as V12, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue

from .batch import MAX_MESSAGE, id_of, room_of
from .protobuf import varint

# Named one by one: py-libp2p offers later ones, too. Its IDONTWANT of 1.2 would go out for every message, but only from
# where it publishes itself, which is not asked here.
PROTOCOLS = [V12, V11, V10]

MAX_RPC = MAX_MESSAGE + 128 * 1024
MAX_CONTROL = 256 * 1024
MAX_MESSAGES = 500
MAX_TOPICS = 32
READ_SIZE = 64 * 1024
SEEN_S = 300
# Maximum time that a peer's full queue may hold up the forwarding of a message (backpressure).
FORWARD_S = 5
# Two streams of a peer are written one after the other: this long after the first.
SETTLE_S = 0.1

log = logging.getLogger("diatribe.gossip")


class TooLarge(Exception):
    """An RPC over the limit."""


def message_id(message):
    return id_of(message.topicIDs[-1], message.data)


class Cache(MessageCache):
    """Recent messages by their id. The library's own id is from ‖ seqno: under StrictNoSign the same for all."""

    def put(self, msg):
        mid = message_id(msg)
        if mid not in self.msgs:
            self.msgs[mid] = msg
            self.history[0].append(CacheEntry(mid, msg.topicIDs))


class Router(GossipSub):
    """The mesh. The library's scoring, balancing and adaptation beyond gossipsub 1.1 are off."""

    def __init__(self):
        super().__init__(
            PROTOCOLS, degree=4, degree_low=3, degree_high=5, gossip_window=3, gossip_history=5,
            heartbeat_initial_delay=1, heartbeat_interval=1, do_px=False, adaptive_gossip_enabled=False,
            spam_protection_enabled=False, eclipse_protection_enabled=False)
        self.mcache = Cache(3, 5)

    async def _emit_control_msgs(self, peers_to_graft, peers_to_prune, peers_to_gossip):
        """Replaces the library's, which also sends the control messages of one peer to the next ones."""
        for peer in {*peers_to_graft, *peers_to_prune, *peers_to_gossip}:
            await self.emit_control_message(self.pack_control_msgs(
                [rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids) for topic, ids in peers_to_gossip.get(peer, {}).items()],
                [rpc_pb2.ControlGraft(topicID=topic) for topic in peers_to_graft.get(peer, [])],
                [rpc_pb2.ControlPrune(topicID=topic) for topic in peers_to_prune.get(peer, [])]), peer)

    async def emit_control_message(self, control_msg, to_peer):
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def _perform_opportunistic_grafting(self, topic, peers_to_graft):
        """By scores, which are all alike."""

    async def _maintain_mesh_quality(self, topic):
        """By scores, which are all alike."""


class Gossip(Pubsub):
    """`check(peer, room, message)` decides whether a message is delivered and forwarded; `on_rooms(peer)` is called
    when a peer has sent its subscriptions."""

    def __init__(self, host, check, on_rooms):
        self.router = Router()
        notifees = list(host.get_network().notifees)
        super().__init__(
            host, self.router, seen_ttl=SEEN_S, strict_signing=False, msg_id_constructor=message_id,
            max_inbound_rpc_size=MAX_RPC, max_subscriptions_per_peer=MAX_TOPICS)
        # Pubsub wants to hear of every connection, and takes streams from everybody. Not before the pass.
        host.get_network().notifees[:] = notifees
        self.check, self.on_rooms = check, on_rooms
        # Numbers of inbound streams by peer, and the task that writes to it.
        self.inbound = {}
        self._writers = {}
        self._opening = set()

    async def run(self):
        await self.manager.wait_finished()

    def attach(self, connection):
        """Writes to the peer on this connection from now on."""
        if connection not in self._opening:
            connection.nursery.start_soon(self._write, connection)

    def detach(self, peer):
        """The last link of the peer is gone."""
        self._forget_all_subscriptions(peer)
        if self.peers.pop(peer, None) is not None:
            self.peer_queues.pop(peer).close()
            self.router.remove_peer(peer)

    def writes_on(self, peer):
        """The connection on which the peer is written to, if there is any."""
        return self._writers.get(peer)

    def recipients(self, topic):
        """Returns the peers in the topic that can be written to."""
        return [peer for peer in self.peer_topics.get(topic, ()) if peer in self.peers]

    def has_room(self, peer):
        queue = self.peer_queues.get(peer)
        return queue is None or len(queue) < queue._queue.max_size // 2

    def send(self, topic, data):
        """Queues a message of this node for all peers in the topic; returns their number."""
        message = rpc_pb2.Message(data=data, topicIDs=[topic])
        self.seen_messages.add(message_id(message))
        self.router.mcache.put(message)
        peers = self.recipients(topic)
        for peer in peers:
            self.router.send_rpc(peer, rpc_pb2.RPC(publish=[message]))
        return len(peers)

    # --- writing

    def get_hello_packet(self):
        return rpc_pb2.RPC(subscriptions=[
            rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in self.topic_ids])

    def _build_announce_rpc(self, topic_id, subscribe):
        subscription = rpc_pb2.RPC.SubOpts(subscribe=subscribe, topicid=topic_id)
        return rpc_pb2.RPC(subscriptions=[subscription]), subscription

    async def _write(self, connection):
        peer = connection.remote
        stream = await self._open(connection)
        if stream is None:
            return
        before, self._writers[peer] = self._writers.get(peer), connection
        try:
            if before is not None:
                # The data on the old stream shall arrive first.
                await trio.sleep(SETTLE_S)
            if peer not in self.peers:
                self.router.add_peer(peer, stream.get_protocol())
                self.peer_queues[peer] = RpcQueue(max_message_size=MAX_RPC)
                self.peers[peer] = stream
                for topic in [topic for topic, peers in self.peer_topics.items() if peer in peers]:
                    await self.router.on_peer_subscribed(peer, topic)
            self.peers[peer] = stream
            await self._drain(connection, stream, self.peer_queues[peer])
        except Exception as error:
            log.debug("the gossip stream to %s ended: %r", connection.id, error)
        finally:
            if self._writers.get(peer) is connection:
                del self._writers[peer]

    async def _open(self, connection):
        """Returns a gossip stream on which the subscriptions were sent; None when it cannot be opened."""
        self._opening.add(connection)
        try:
            stream = await connection.open(*PROTOCOLS)
            await _write_rpc(stream, self.get_hello_packet())
            return stream
        except Exception as error:
            log.debug("no gossip stream to %s: %r", connection.id, error)
            return None
        finally:
            self._opening.discard(connection)

    async def _drain(self, connection, stream, queue):
        """Writes the queue until another connection takes over."""
        while self._writers.get(connection.remote) is connection:
            if len(queue) == 0 and not queue.closed:
                await queue._notify.wait()
                continue
            rpc = await queue.pop()
            if rpc is None:
                await stream.close()
                return
            try:
                await _write_rpc(stream, rpc)
            except BaseException:
                # Another stream sends it again; a receiver that has it knows the message's id (dedup).
                queue._queue._non_priority.appendleft(rpc)
                raise

    # --- reading

    async def take(self, stream):
        """Reads a stream that a peer opened, on a connection with an open gate."""
        peer = stream.muxed_conn.peer_id
        self.inbound[peer] = self.inbound.get(peer, 0) + 1
        buffer = bytearray()
        try:
            while True:
                buffer += await stream.read(READ_SIZE)
                for rpc in _split(buffer):
                    await self._on_rpc(peer, rpc)
        except StreamEOF:
            await stream.close()
        except (TooLarge, DecodeError) as error:
            # The contract does not call it an offence: it ends this stream, and in the end the link is renewed.
            log.debug("a gossip stream of %s cannot be read: %r", peer, error)
            await stream.reset()
        finally:
            self.inbound[peer] -= 1
            if self.inbound[peer] == 0:
                del self.inbound[peer]

    async def _on_rpc(self, peer, data):
        rpc = rpc_pb2.RPC.FromString(data)
        await self._on_subscriptions(peer, rpc.subscriptions)
        for message in rpc.publish[:MAX_MESSAGES]:
            await self._on_message(peer, message)
        if rpc.HasField("control") and rpc.control.ByteSize() <= MAX_CONTROL:
            await self.router.handle_rpc(rpc_pb2.RPC(control=self._of_own_topics(rpc.control)), peer)

    def _of_own_topics(self, control):
        """The router keeps notes of every topic that a peer names."""
        return rpc_pb2.ControlMessage(
            iwant=control.iwant, **{
                kind: [each for each in getattr(control, kind) if each.topicID in self.topic_ids]
                for kind in ("ihave", "graft", "prune")})

    async def _on_subscriptions(self, peer, subscriptions):
        # A topic that is not UTF-8 is bytes here.
        rooms = [each for each in subscriptions if isinstance(each.topicid, str) and room_of(each.topicid) is not None]
        own = {topic for topic, peers in self.peer_topics.items() if peer in peers}
        after = own | {each.topicid for each in rooms if each.subscribe}
        if len(subscriptions) == 0 or len(after) > MAX_TOPICS:
            return
        for each in rooms:
            if not each.subscribe:
                self._forget_subscription(peer, each.topicid)
                if each.topicid in self.router.mesh:
                    self.router.mesh[each.topicid].discard(peer)
            elif each.topicid not in own:
                self.peer_topics.setdefault(each.topicid, set()).add(peer)
                if peer in self.peers:
                    await self.router.on_peer_subscribed(peer, each.topicid)
        self.on_rooms(peer)

    async def _on_message(self, peer, message):
        # StrictNoSign: a message in which any of these is present, be it empty, is dropped. That is no offence.
        signed = any(message.HasField(name) for name in ("from_id", "seqno", "signature", "key"))
        if signed or not message.topicIDs or message.topicIDs[-1] not in self.topic_ids:
            return
        topic = message.topicIDs[-1]
        # Unknown fields are not forwarded.
        message = rpc_pb2.Message(data=message.data, topicIDs=[topic])
        if self.seen_messages.has(message_id(message)) or not await self.check(peer, room_of(topic), message.data):
            return
        self.seen_messages.add(message_id(message))
        self.router.mcache.put(message)
        others = [other for other in self.router.mesh.get(topic, ()) if other != peer]
        if others:
            with trio.move_on_after(FORWARD_S):
                while not all(self.has_room(other) for other in others):
                    await trio.sleep(0.005)
            for other in others:
                self.router.send_rpc(other, rpc_pb2.RPC(publish=[message]))


def _split(buffer):
    """Extracts the complete RPCs from the read buffer."""
    while True:
        length = size = 0
        for i, byte in enumerate(buffer[:4]):
            length |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                size = i + 1
                break
        if length > MAX_RPC or (size == 0 and len(buffer) >= 4):
            raise TooLarge(f"an RPC is over the limit of {MAX_RPC} bytes")
        if size == 0 or len(buffer) < size + length:
            return
        rpc = bytes(memoryview(buffer)[size:size + length])
        del buffer[:size + length]
        yield rpc


async def _write_rpc(stream, rpc):
    body = rpc.SerializeToString()
    await stream.write(varint(len(body)) + body)
