"""A node: connections that become links by the handshake, and rooms on them.

    node = Node(seed, network_key, tell=print_line)
    async with node.running(listen=["/ip4/127.0.0.1/tcp/0/ws"], rooms=["lobby"]):
        await node.connect("/ip4/127.0.0.1/tcp/9000/ws")
        id, seq, links = await node.broadcast("lobby", "chat", b"hello")

`tell(type, fields)` hears link_up, link_down, refused and message. The rule it keeps: gossip knows a peer from the pass
of its first connection to the end of its last one, and of no other.
"""

import logging
import os
import time
from collections import deque
from contextlib import asynccontextmanager

import trio
from libp2p.tools.anyio_service import background_trio_service

from .batch import (MAX_BATCH, MAX_EVENT_DATA, MAX_EVENT_NAME, MAX_EVENTS, BatchError, Heads, open_envelope, room_fault,
                    seal, size_of, topic_of)
from .gossip import PROTOCOLS, Gossip
from .handshake import Local
from .identity import Identity, peer_id_text
from .network import DialFailed, Network
from .session import HandshakeFailure, Session

MAX_ROOMS = 32
MAX_LINKS = 64
MAX_CONNECTIONS_WITH_A_PEER = 2
# Inbound connections that wait for their handshake.
MAX_WAITING = 64
# Timeout for the subscriptions of a new link.
SUBSCRIPTION_GRACE_S = 0.5
# A sender waits longer for a peer that has not yet sent anything by gossip: its machine may be busy.
SUBSCRIPTION_TIMEOUT_S = 3
# Two connections that passed within this time were dialled at once from both ends.
SIMULTANEOUS_S = 20
# Delay before a duplicate connection is closed, so that data in flight on it arrives. This node already sends on the
# other one; a peer that still sends on both closes earlier.
DUPLICATE_CLOSE_DELAY_S = 4
PING_EVERY_S = 5
PING_WITHIN_S = 10
# A sign of life that is not older proves that a link is alive; else it must answer a probe.
LIFE_S = 8
PROBE_S = 2.5
# A link without a gossip stream in one direction for this long is renewed.
STREAM_LOST_S = 30
WATCH_S = 1
# Interval at which a waiting sender checks whether anybody has joined the room, or a queue has emptied.
POLL_S = 0.005

log = logging.getLogger("diatribe.node")


class Unsendable(Exception):
    """An event that could not be sent, and why."""


class Link:
    def __init__(self, connection, instance_id):
        self.connection, self.instance_id = connection, instance_id
        self.remote, self.id = connection.remote, connection.id
        self.others = []
        self.since = self.seen = self.received = self.written = trio.current_time()
        self.reported = self.has_subscriptions = False
        self.closing = None
        self.down = trio.Event()


class OwnRoom:
    def __init__(self):
        self.next_seq = 1
        self.queue = deque()
        self.wake = trio.Event()
        # This author's newest batches in the room.
        self.heads = Heads()


class Event:
    def __init__(self, name, data):
        self.name, self.data = name, data
        self.done = trio.Event()
        self.result = self.error = None


class Node:
    def __init__(self, seed=None, network_key=None, trust=(), deny=(), tell=lambda type, fields: None):
        self.identity = Identity(seed or os.urandom(32))
        self.id = peer_id_text(self.identity.peer_id)
        self.local = Local(self.identity, network_key)
        self.trust, self.deny, self.tell = trust, deny, tell
        self.links = {}
        self._rooms = {}
        self._waiting = 0

    @asynccontextmanager
    async def running(self, listen=(), rooms=()):
        self.network = Network(self.identity.seed)
        self.network.on_connection = self._on_connection
        self.gossip = Gossip(self.network.host, self._check, self._on_rooms)
        self.network.advertise(PROTOCOLS)
        async with (background_trio_service(self.network), background_trio_service(self.gossip),
                    background_trio_service(self.gossip.router), trio.open_nursery() as self.nursery):
            for room in rooms:
                await self._join(room)
            for address in listen:
                await self.network.listen_on(address)
            self.nursery.start_soon(self._watch)
            try:
                yield self
            finally:
                with trio.CancelScope(shield=True):
                    await self.hang_up_all()
                self.nursery.cancel_scope.cancel()

    async def hang_up_all(self):
        async with trio.open_nursery() as nursery:
            for connection in self.network.connections_now():
                nursery.start_soon(connection.hang_up)

    async def _join(self, room):
        fault = room_fault(room)
        if fault is not None:
            raise ValueError(f"{room!r} is no room: {fault}")
        if room in self._rooms:
            return
        if len(self._rooms) >= MAX_ROOMS:
            raise ValueError(f"a node is in at most {MAX_ROOMS} rooms")
        self._rooms[room] = OwnRoom()
        await self.gossip.subscribe(topic_of(room))
        self.nursery.start_soon(self._speak, room)

    async def connect(self, address):
        """Dials, and returns the link when it is proved. Raises DialFailed or HandshakeFailure."""
        connection = await self.network.dial(address)
        link = self.links.get(connection.id)
        if link is not None:
            await connection.hang_up()
            return link
        await connection.judged.wait()
        link = self.links.get(connection.id)
        if link is None:
            raise connection.failure or DialFailed("link", "the link was lost at once")
        return link

    # --- connections

    def _on_connection(self, connection):
        connection.judged = trio.Event()
        connection.failure = None
        connection.session = Session(
            connection, self.local, lambda core: self._judge(connection, core), lambda: self._open_gate(connection))
        self.nursery.start_soon(self._hold, connection)

    async def _hold(self, connection):
        """A connection from its beginning to its end."""
        same = [other for other in self.network.connections_now() if other.remote == connection.remote]
        if len(same) > MAX_CONNECTIONS_WITH_A_PEER or (self._waiting >= MAX_WAITING and not connection.dialer):
            await connection.hang_up()
            connection.judged.set()
            return
        self._waiting += 1
        try:
            core = await connection.session.run()
        except HandshakeFailure as error:
            self._on_failed(connection, error)
            return
        finally:
            self._waiting -= 1
        async with trio.open_nursery() as connection.nursery:
            self._on_passed(connection, core["instance_id"])
            connection.judged.set()
            await connection.wait_closed()
            connection.nursery.cancel_scope.cancel()
        self._on_closed(connection)

    def _open_gate(self, connection):
        connection.gated = dict.fromkeys(PROTOCOLS, self.gossip.take)

    async def _judge(self, connection, core):
        """The code with which a peer that has proved its key is refused, if it is."""
        if connection.id in self.deny or (self.trust and connection.id not in self.trust):
            return "POLICY"
        link = self.links.get(connection.id)
        if link is None:
            return "BUSY" if len(self.links) >= MAX_LINKS else None
        if link.instance_id != core["instance_id"]:
            if await self._is_alive(link):
                return "DUPLICATE_IDENTITY"
            await self._end(link, "it did not answer, and its identity has come anew")
        return None

    async def _is_alive(self, link):
        if trio.current_time() - link.seen < LIFE_S:
            return True
        with trio.move_on_after(PROBE_S):
            return await link.connection.ping()
        return False

    def _on_failed(self, connection, error):
        connection.failure = error
        connection.judged.set()
        if connection.id not in self.links:
            self.gossip.detach(connection.remote)
        # The dialer reports its own failures, once for several in a row. A peer that is linked already may close
        # a second connection at once: that is no failure.
        if not connection.dialer and (error.code is not None or connection.id not in self.links):
            self.tell_refused(connection.address, error, connection.id)

    def tell_refused(self, address, error, peer_id=None):
        peer = {} if peer_id is None else {"peer_id": peer_id}
        self.tell("refused", {**peer, "address": address, "stage": error.stage, "code": error.code, "reason": str(error)})

    def _on_passed(self, connection, instance_id):
        link = self.links.get(connection.id)
        if link is None:
            link = self.links[connection.id] = Link(connection, instance_id)
            self.gossip.attach(connection)
            self.nursery.start_soon(self._settle, link)
            self.nursery.start_soon(self._keep_alive, link)
            if any(connection.remote in peers for peers in self.gossip.peer_topics.values()):
                # The gate was open before the pass was there, and the peer quick.
                link.has_subscriptions = True
                self._rise(link)
            return
        now = trio.current_time()
        crossed = link.connection.dialer != connection.dialer and now - link.since < SIMULTANEOUS_S
        # Of two connections that crossed, the one dialled by the smaller PeerId stays; else the newer one.
        if crossed and connection.dialer != (self.identity.peer_id < connection.peer_id):
            link.others.append(connection)
            loser = connection
        else:
            loser = link.connection
            link.others.append(loser)
            link.connection, link.since = connection, now
            self.gossip.attach(connection)
        loser.nursery.start_soon(self._retire, loser)

    async def _retire(self, connection):
        await trio.sleep(DUPLICATE_CLOSE_DELAY_S)
        self.nursery.start_soon(connection.hang_up)

    async def _settle(self, link):
        await trio.sleep(SUBSCRIPTION_GRACE_S)
        self._rise(link)

    def _rise(self, link):
        """Reports a link once the peer has sent its subscriptions."""
        if link.reported or link.down.is_set():
            return
        link.reported = True
        self.tell("link_up", {
            "peer_id": link.id,
            "address": link.connection.address,
            "direction": "dialer" if link.connection.dialer else "listener",
            "links": len(self.links),
        })

    def _on_closed(self, connection):
        link = self.links.get(connection.id)
        if link is None:
            return
        if connection in link.others:
            link.others.remove(connection)
        elif link.connection is connection:
            heirs = [other for other in link.others if not other.closed]
            if heirs:
                link.connection = heirs[0]
                link.others.remove(heirs[0])
                self.gossip.attach(heirs[0])
                return
            self._rise(link)
            del self.links[connection.id]
            link.down.set()
            self.gossip.detach(connection.remote)
            reason = link.closing or "the peer closed the link, or it was lost"
            self.tell("link_down", {"peer_id": link.id, "reason": reason, "links": len(self.links)})

    async def _end(self, link, reason):
        link.closing = link.closing or reason
        for connection in [link.connection, *link.others]:
            self.nursery.start_soon(connection.hang_up)
        await link.down.wait()

    async def _keep_alive(self, link):
        while not link.down.is_set():
            with trio.move_on_after(PING_WITHIN_S):
                if await link.connection.ping():
                    link.seen = trio.current_time()
            if trio.current_time() - link.seen > PING_EVERY_S + PING_WITHIN_S:
                await self._end(link, f"it did not answer a ping for {PING_WITHIN_S} s")
            with trio.move_on_after(PING_EVERY_S):
                await link.down.wait()

    async def _watch(self):
        """A gossip stream that died is opened anew; in the end the link is given up."""
        while True:
            await trio.sleep(WATCH_S)
            now = trio.current_time()
            for link in list(self.links.values()):
                if self.gossip.writes_on(link.remote) is not None:
                    link.written = now
                elif not link.connection.closed:
                    self.gossip.attach(link.connection)
                if link.remote in self.gossip.inbound:
                    link.received = now
                if now - min(link.written, link.received) > STREAM_LOST_S and link.closing is None:
                    self.nursery.start_soon(self._end, link, "its gossip stream died; a new link is needed")

    # --- rooms

    def _on_rooms(self, peer):
        link = self.links.get(peer.to_base58())
        if link is not None:
            link.seen = trio.current_time()
            link.has_subscriptions = True
            self._rise(link)

    def _accuse(self, peer, code, reason):
        """Tells which rule a peer broke, and closes the link."""
        link = self.links.get(peer.to_base58())
        if link is not None and link.closing is None:
            self.tell("refused", {
                "peer_id": link.id, "address": link.connection.address, "stage": "link", "code": code, "reason": reason})
            self.nursery.start_soon(self._end, link, reason)

    async def _check(self, peer, room, data):
        """Whether a message is taken and forwarded."""
        try:
            batch = open_envelope(data, room, self.local.network_id, time.time() * 1000)
        except BatchError as error:
            if error.offence:
                # Nodes validate before they forward: the forwarding peer broke the rule.
                self._accuse(peer, "INVALID_BATCH", str(error))
            return False
        link = self.links.get(peer.to_base58())
        if link is not None:
            link.seen = trio.current_time()
        if batch["author"] == self.identity.peer_id and batch["instance_id"] != self.local.instance_id:
            self._rooms[room].heads.received(batch["id"], batch["prev"])
        for i, event in enumerate(batch["events"]):
            self.tell("message", {
                "id": batch["id"].hex(),
                "room": room,
                "author": peer_id_text(batch["author"]),
                "seq": batch["first_seq"] + i,
                "name": event["name"],
                "data": event["data"],
                "sent_at": batch["sent_at_ms"],
                "backfill": False,
            })
        return True

    async def broadcast(self, room, name, data):
        """Sends an event to everyone in a room: the batch's id, the event's number and how many links took it."""
        own = self._rooms.get(room)
        if own is None:
            raise Unsendable(f"this node is not in the room {room}")
        if len(data) > MAX_EVENT_DATA:
            raise Unsendable(f"the event has {len(data)} bytes of data, the limit is {MAX_EVENT_DATA}: send it in parts")
        if len(name.encode()) > MAX_EVENT_NAME:
            raise Unsendable(f"an event's name has at most {MAX_EVENT_NAME} bytes")
        event = Event(name, data)
        own.queue.append(event)
        own.wake.set()
        await event.done.wait()
        if event.error is not None:
            raise event.error
        return event.result

    async def _speak(self, room):
        """Sends the queue, a batch at a time: events that queue up meanwhile form the next one."""
        own = self._rooms[room]
        while True:
            await own.wake.wait()
            own.wake = trio.Event()
            while own.queue:
                try:
                    await self._writable(room)
                except Unsendable as error:
                    while own.queue:
                        event = own.queue.popleft()
                        event.error = error
                        event.done.set()
                    break
                self._send(room, own)
                await trio.lowlevel.checkpoint()

    def _send(self, room, own):
        events = _take_batch(own.queue)
        prev = own.heads.prev()
        data, id, _, _ = seal(
            self.identity, self.local.network_id, self.local.instance_id, own.next_seq, int(time.time() * 1000), room,
            [(event.name, event.data) for event in events], prev)
        own.heads.sent(id, prev)
        links = self.gossip.send(topic_of(room), data)
        for i, event in enumerate(events):
            event.result = (id.hex(), own.next_seq + i, links)
            event.done.set()
        own.next_seq += len(events)

    async def _writable(self, room):
        """Waits until somebody in the room can be written to, and nobody's queue is full."""
        topic = topic_of(room)
        while True:
            peers = self.gossip.recipients(topic)
            if peers and all(map(self.gossip.has_room, peers)):
                return
            # A new link has not sent its subscriptions yet, or has no stream yet.
            settling = self.gossip.peer_topics.get(topic) or any(map(_is_settling, self.links.values()))
            if not settling:
                raise Unsendable(f"nobody is in the room {room}: no link took the event")
            await trio.sleep(POLL_S)


def _is_settling(link):
    return not link.has_subscriptions and trio.current_time() - link.since < SUBSCRIPTION_TIMEOUT_S


def _take_batch(queue):
    """The next events that travel together: all that are there, up to the size of a batch; a larger one goes alone."""
    taken, size = [], 0
    while queue and len(taken) < MAX_EVENTS:
        size += size_of(queue[0].name, queue[0].data)
        if taken and size > MAX_BATCH:
            break
        taken.append(queue.popleft())
    return taken
