"""Strangers before the gate, on real connections."""

import os
import unittest
from contextlib import asynccontextmanager

import trio
from libp2p.tools.anyio_service import background_trio_service

from diatribe.batch import seal, topic_of
from diatribe.frame import read_frame, write_frame
from diatribe.gossip import PROTOCOLS
from diatribe.handshake import MAX_FRAME, PROTOCOL, Local, Round, decode_frame, encode_frame, reject_frame
from diatribe.identity import Identity
from diatribe.network import Network, Unsupported
from diatribe.node import Node
from diatribe.protobuf import fields, message_field, varint
from diatribe.session import HandshakeFailure

LISTEN = "/ip4/127.0.0.1/tcp/0/ws"
PATIENCE_S = 30


class Told(list):
    """The events of a node."""

    def __call__(self, type, fields):
        self.append({"type": type, **fields})

    async def until(self, type, **fields):
        with trio.fail_after(PATIENCE_S):
            while True:
                for line in self:
                    if line["type"] == type and fields.items() <= line.items():
                        return line
                await trio.sleep(0.01)


@asynccontextmanager
async def own(listen=(LISTEN,), **options):
    told = Told()
    node = Node(tell=told, **options)
    async with node.running(listen, ["lobby"]):
        yield node, told


class Stranger:
    """A libp2p program that runs the part of the handshake that a test chooses."""

    def __init__(self, network, local):
        self.network, self.local = network, local
        self.requests, self.next_request = trio.open_memory_channel(8)
        self.gossip = 0
        network.on_connection = self.on_connection

    def on_connection(self, connection):
        async def on_handshake(stream):
            self.requests.send_nowait((stream, await read_frame(stream, MAX_FRAME)))

        async def on_gossip(stream):
            self.gossip += 1
            await trio.sleep_forever()

        connection.on_handshake = on_handshake
        connection.gated = dict.fromkeys(PROTOCOLS, on_gossip)

    async def ask(self, connection, body):
        stream = await connection.open(PROTOCOL)
        await write_frame(stream, body)
        return decode_frame(await read_frame(stream, MAX_FRAME))[1]

    async def pass_round_1(self, connection):
        """Runs the handshake as dialer; returns T_end and the peer's Core."""
        round = Round(self.local, connection.peer_id, 1)
        core, answer = round.on_challenge(await self.ask(connection, round.hello()))
        return round.on_pass(await self.ask(connection, answer)), core

    async def until_answer_of_round_2(self, connection):
        """As dialer; the peer's Answer is verified, the Pass not yet sent: its stream and the Pass."""
        end, core = await self.pass_round_1(connection)
        round = Round(self.local, connection.peer_id, 2, end, core)
        stream, hello = await self.next_request.receive()
        await write_frame(stream, round.on_hello(decode_frame(hello)[1]))
        stream, answer = await self.next_request.receive()
        return stream, round.on_answer(decode_frame(answer)[1])[2]


@asynccontextmanager
async def stranger(listen=False):
    seed = os.urandom(32)
    network = Network(seed)
    async with background_trio_service(network):
        if listen:
            await network.listen_on(LISTEN)
        yield Stranger(network, Local(Identity(seed)))


async def closed(connection, within=PATIENCE_S):
    with trio.fail_after(within):
        await connection.wait_closed()


class Strangers(unittest.TestCase):
    def test_a_peer_without_the_handshake_gets_no_gossip_and_is_gone_after_3_s(self):
        async def main():
            async with own() as (node, told), stranger() as other:
                connection = await other.network.dial(node.network.addresses[0])
                begin = trio.current_time()
                for protocol in (*PROTOCOLS, "/diatribe/overlay/1.0.0", "/diatribe/sync/1.0.0"):
                    with self.assertRaises(Unsupported):
                        await connection.open(protocol)
                self.assertTrue(await connection.ping())
                await closed(connection)
                self.assertGreater(trio.current_time() - begin, 2.5, "not before its time")
                self.assertEqual((await told.until("refused"))["code"], "TIMEOUT")
                self.assertEqual((other.gossip, node.gossip.peers, node.gossip.peer_topics), (0, {}, {}))
                self.assertEqual(node.gossip.router.peer_protocol, {})

        trio.run(main)

    def test_identify_names_no_address(self):
        async def main():
            async with own() as (node, _), stranger() as other:
                connection = await other.network.dial(node.network.addresses[0])
                stream = await connection.open("/ipfs/id/1.0.0")
                said = fields(await read_frame(stream, 8192))
                self.assertEqual({tag for tag, _, _ in said}, {1, 3, 5, 6})
                self.assertEqual(next(value for tag, _, value in said if tag == 1), node.identity.public_key)

        trio.run(main)

    def test_gossip_is_spoken_in_three_versions(self):
        async def main():
            async with own() as (node, told), stranger() as other:
                connection = await other.network.dial(node.network.addresses[0])
                stream, passed = await other.until_answer_of_round_2(connection)
                for version in ("/meshsub/1.4.0", "/meshsub/1.3.0", "/floodsub/1.0.0"):
                    with self.assertRaises(Unsupported):
                        await connection.open(version)
                for version in ("/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0"):
                    await connection.open(version)
                await write_frame(stream, passed)
                await told.until("link_up")

        trio.run(main)

    def test_a_peer_that_is_asked_and_does_not_speak_the_handshake_is_named(self):
        async def main():
            async with own(listen=()) as (node, _), stranger(listen=True) as other:
                other.network._open.pop(PROTOCOL)
                with self.assertRaisesRegex(HandshakeFailure, "does not speak") as caught:
                    await node.connect(other.network.addresses[0])
                self.assertEqual(caught.exception.stage, "handshake_1")

        trio.run(main)

    def test_frames_out_of_turn_close_the_connection_without_a_word(self):
        async def main():
            async with own() as (node, told), stranger() as other:
                for frame in (encode_frame("pass", confirm=bytes(32)), reject_frame("AUTH")):
                    told.clear()
                    connection = await other.network.dial(node.network.addresses[0])
                    stream = await connection.open(PROTOCOL)
                    await write_frame(stream, frame)
                    await closed(connection, 3)
                    self.assertEqual((await told.until("refused"))["code"], "VIOLATION")
                # A second request while none is due.
                told.clear()
                connection = await other.network.dial(node.network.addresses[0])
                await other.pass_round_1(connection)
                await write_frame(await connection.open(PROTOCOL), Round(other.local, connection.peer_id, 1).hello())
                await closed(connection, 3)
                self.assertEqual((await told.until("refused"))["code"], "VIOLATION")

        trio.run(main)

    def test_what_is_no_frame_of_a_known_kind_is_rejected_with_auth(self):
        async def main():
            async with own() as (node, told), stranger() as other:
                connection = await other.network.dial(node.network.addresses[0])
                self.assertEqual((await other.ask(connection, message_field(15, b"later")))["code"], 1)
                await closed(connection, 3)
                self.assertEqual((await told.until("refused"))["code"], "AUTH")

        trio.run(main)

    def test_the_gate_of_a_listener_is_open_when_its_answer_is_sent(self):
        async def main():
            async with own() as (node, told), stranger() as other:
                connection = await other.network.dial(node.network.addresses[0])
                stream, passed = await other.until_answer_of_round_2(connection)
                gossip = await connection.open(*PROTOCOLS)
                self.assertEqual((other.gossip, node.links), (0, {}), "it opens none before the Pass")
                await write_frame(stream, passed)
                await told.until("link_up")
                with trio.fail_after(PATIENCE_S):
                    while other.gossip == 0:
                        await trio.sleep(0.01)
                # Nothing of a message in which a field of signed messages is present is taken, be it ever so genuine
                # inside; and it is no offence. Nor is the same data on another topic, which takes no id away.
                def message(seq, room="lobby", more=b""):
                    data = seal(other.local.identity, other.local.network_id, other.local.instance_id, seq, 0, "lobby",
                                [("chat", b"hello")])[0]
                    return message_field(2, data) + message_field(4, topic_of(room).encode()) + more

                async def publish(message):
                    rpc = message_field(2, message)
                    await gossip.write(varint(len(rpc)) + rpc)

                for tag in (1, 3, 5, 6):
                    for i, value in enumerate((other.local.identity.peer_id, b"")):
                        await publish(message(10 * tag + i, more=message_field(tag, value)))
                        await publish(message(1, more=message_field(tag, value)))
                        await publish(message_field(2, b"nothing of the kind") + message_field(4, topic_of("lobby").encode())
                                      + message_field(tag, value))
                await publish(message(1, "kitchen"))
                await publish(message(1))
                # The last message shows that all before it were read.
                await publish(message(2))
                await told.until("message", seq=2)
                self.assertEqual([line["seq"] for line in told if line["type"] == "message"], [1, 2])
                self.assertEqual([line for line in told if line["type"] == "refused"], [])
                # Another handshake on a connection that has passed.
                await write_frame(await connection.open(PROTOCOL), Round(other.local, connection.peer_id, 1).hello())
                await closed(connection, 3)
                await told.until("link_down")
                self.assertEqual((node.gossip.peers, node.gossip.peer_topics), ({}, {}))

        trio.run(main)

    def test_a_peer_on_the_deny_list_is_told_so_and_another_key_too(self):
        async def main():
            denied = Identity(os.urandom(32))
            async with own(deny=[Node(denied.seed).id]) as (node, _), own(listen=(), seed=denied.seed) as (peer, _):
                with self.assertRaises(HandshakeFailure) as caught:
                    await peer.connect(node.network.addresses[0])
                self.assertEqual((caught.exception.stage, caught.exception.code), ("handshake_1", "POLICY"))
            async with own(network_key=bytes([9] * 32)) as (node, told), own(listen=()) as (peer, _):
                with self.assertRaisesRegex(HandshakeFailure, "network keys differ") as caught:
                    await peer.connect(node.network.addresses[0])
                self.assertEqual(caught.exception.code, "NETWORK")
                self.assertEqual((await told.until("refused"))["code"], "NETWORK")

        trio.run(main)


if __name__ == "__main__":
    unittest.main()
