#!/usr/bin/env python3
"""A node in Python with the command line and the JSON lines of `diatribe node --json`.

    peer.py [--listen MULTIADDR]… [--dial MULTIADDR]… [--room NAME]… [--network-key FILE]
            [--seed HEX] [--trust PEERID]… [--deny PEERID]… [--json]

stdin: one object a line, {"room"?, "name"?, "text" | "data"}; data is base64. stdout: one object a line. stderr: logs,
more of them with DIATRIBE_LOG=debug.
"""

import argparse
import base64
import json
import logging
import os
import random
import signal
import sys
from datetime import datetime, timezone

import trio

from diatribe.identity import parse_network_key
from diatribe.network import DialFailed
from diatribe.node import Node, Unsendable
from diatribe.session import HandshakeFailure

REDIAL_FIRST_S = 0.5
REDIAL_MOST_S = 30
STOP_S = 1.5
# Lines of input that wait for their answer.
MAX_UNANSWERED = 1024
# The longest line of input: the largest event in base64, and room for its name.
MAX_LINE = 2 * 1024 * 1024


def options():
    parser = argparse.ArgumentParser(prog="peer.py", description="A diatribe node in Python.")
    for name in ("listen", "dial", "room", "trust", "deny"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--network-key")
    parser.add_argument("--seed", type=bytes.fromhex)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.room = given.room or ["lobby"]
    return given


def tell(type, fields):
    print(json.dumps({"time": instant(datetime.now(timezone.utc)), "type": type, **fields}), flush=True)


def instant(when):
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def on_event(type, fields):
    """Returns an event of the node as a line."""
    if type == "message":
        data = fields["data"]
        fields = fields | {
            "data": base64.b64encode(data).decode(),
            "sent_at": instant(datetime.fromtimestamp(min(fields["sent_at"], 253402300799000) / 1000, timezone.utc)),
        }
        try:
            fields["text"] = data.decode()
        except UnicodeDecodeError:
            pass
    tell(type, fields)


async def keep_dialing(node, address):
    """Dials until there is a link, and again when it is lost."""
    wait, reported = REDIAL_FIRST_S, False
    while True:
        try:
            link = await node.connect(address)
            wait, reported = REDIAL_FIRST_S, False
            await link.down.wait()
        except (DialFailed, HandshakeFailure) as error:
            if not reported:
                node.tell_refused(address, error)
            reported = True
        await trio.sleep(wait * random.uniform(0.75, 1.25))
        wait = min(wait * 2, REDIAL_MOST_S)


def read_event(line, first_room):
    """A line of input: the room, the event's name and its data. Raises a ValueError with the reason."""
    try:
        given = json.loads(line)
    except ValueError as error:
        raise ValueError(f"a line that is no JSON: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError('a line is an object of texts: {"room"?, "name"?, "text" | "data"}')
    unknown = given.keys() - {"room", "name", "text", "data"}
    if unknown:
        raise ValueError(f"a line has no {', '.join(sorted(unknown))}")
    if ("text" in given) == ("data" in given):
        raise ValueError("a line has either text or data")
    data = given["text"].encode() if "text" in given else base64.b64decode(given["data"], validate=True)
    return given.get("room", first_room), given.get("name", "chat"), data


async def serve(node, first_room, nursery):
    """Answers the lines of stdin in their order."""
    questions, answers = trio.open_memory_channel(MAX_UNANSWERED)
    nursery.start_soon(answer_in_order, answers)
    while True:
        line = await trio.to_thread.run_sync(sys.stdin.buffer.readline, MAX_LINE, abandon_on_cancel=True)
        if not line:
            return
        if not line.strip():
            continue
        slot = Answer()
        await questions.send(slot)
        nursery.start_soon(slot.find, node, line, first_room)
        # Lines are queued in their order.
        await slot.begun.wait()


class Answer:
    def __init__(self):
        self.begun, self.done = trio.Event(), trio.Event()
        self.line = None

    async def find(self, node, line, first_room):
        room = first_room
        self.begun.set()
        try:
            room, name, data = read_event(line, first_room)
            id, seq, links = await node.broadcast(room, name, data)
            self.line = ("sent", {"id": id, "seq": seq, "room": room, "links": links})
        except (Unsendable, ValueError) as error:
            self.line = ("error", {"reason": str(error), "room": room})
        self.done.set()


async def answer_in_order(answers):
    async for slot in answers:
        await slot.done.wait()
        tell(*slot.line)


async def stop_on_signal(node):
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            with trio.move_on_after(STOP_S):
                await node.hang_up_all()
            # Not sys.exit: a thread waits for a line of stdin.
            os._exit(0)


def leaves(error):
    """Returns the exceptions of a group."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


async def main():
    given = options()
    network_key = None
    if given.network_key is not None:
        with open(given.network_key, "rb") as file:
            network_key = parse_network_key(file.read(1024))
    node = Node(given.seed, network_key, given.trust, given.deny, on_event)
    async with trio.open_nursery() as nursery:
        async with node.running(given.listen, given.room):
            nursery.start_soon(stop_on_signal, node)
            tell("online", {"peer_id": node.id, "addresses": node.network.addresses, "rooms": given.room})
            for address in given.dial:
                nursery.start_soon(keep_dialing, node, address)
            nursery.start_soon(serve, node, given.room[0], nursery)
            await trio.sleep_forever()


if __name__ == "__main__":
    debug = os.environ.get("DIATRIBE_LOG") == "debug"
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # py-libp2p logs much that is no fault.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    logging.getLogger("diatribe").setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        trio.run(main)
    except* (ValueError, OSError) as group:
        reason = next(leaves(group))
        tell("error", {"reason": str(reason)})
        os._exit(1)
