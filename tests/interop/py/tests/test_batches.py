"""Valid and invalid batches, each with a valid signature, so that nothing else is wrong with it."""

import unittest
from hashlib import sha256

from diatribe.batch import MAX_MESSAGE, SIGNED, BatchError, Heads, id_of, open_envelope
from diatribe.identity import ZEROS, Identity, network_id
from diatribe.protobuf import message_field

from .edges import MALFORMED, WELL_FORMED

OWN = Identity(bytes([7] * 32))
unhex = bytes.fromhex


def body(event=b"", more=b""):
    """Returns a batch of one event with additional fields."""
    return (message_field(1, OWN.public_key) + message_field(2, bytes(16)) + unhex("180120e807")
            + message_field(5, b"lobby") + message_field(6, event) + more)


def envelope(body, network=ZEROS):
    return message_field(1, body) + message_field(2, OWN.sign(SIGNED + network + sha256(body).digest()))


def open_body(body, network=ZEROS):
    return open_envelope(envelope(body, network), "lobby", network, 1000)


class Batches(unittest.TestCase):
    def refused(self, body, kind="NotABatch", what=None):
        with self.assertRaises(BatchError, msg=what) as caught:
            open_body(body)
        self.assertEqual((caught.exception.kind, caught.exception.offence), (kind, True), what)

    def test_what_is_malformed_in_a_batch_and_in_an_event(self):
        for what, text in MALFORMED.items():
            field = unhex(text)
            for where in (body(more=field), body(event=field), body(more=message_field(6, field))):
                self.refused(where, what=what)
        for what, text in WELL_FORMED.items():
            field = unhex(text)
            for where in (body(more=field), body(event=field), body(more=message_field(6, field))):
                with self.subTest(what):
                    open_body(where)

    def test_what_known_fields_may_look_like(self):
        for event, more in (("0a001200", ""), ("", "18051801"), ("", "2a056f746865722a056c6f626279"), ("0a01610a0162", ""),
                            ("1201610a0162", "")):
            open_body(body(unhex(event), unhex(more)))
        for event, more in (("", "1a0101"), ("", "2801"), ("", "3001"), ("", "3801"), ("1001", ""), ("0d01020304", ""),
                            ("0a01ff", ""), ("0a03eda080", "")):
            self.refused(body(unhex(event), unhex(more)), what=event + more)

    def test_prev_is_up_to_four_ids(self):
        def prev(*sizes):
            return b"".join(message_field(7, bytes([i] * size)) for i, size in enumerate(sizes))

        for field, count in ((prev(), 0), (prev(32), 1), (prev(32, 32, 32, 32), 4), (prev(32) + prev(32), 1)):
            self.assertEqual(len(open_body(body(more=field))["prev"]), count)
        for field in (prev(32, 32, 32, 32, 32), prev(32, 32, 32, 32) + prev(32)):
            self.refused(body(more=field), "TooManyPrev")
        for field in (prev(31), prev(33), prev(0), prev(32, 0)):
            self.refused(body(more=field), "PrevLength")

    def test_a_batch_is_of_one_network(self):
        other = network_id(bytes([9] * 32))
        open_body(body(), other)
        with self.assertRaises(BatchError) as caught:
            open_envelope(envelope(body()), "lobby", other, 1000)
        self.assertEqual(caught.exception.kind, "Signature")

    def test_a_batch_has_1024_events(self):
        open_body(body(more=message_field(6, b"") * 1023))
        self.refused(body(more=message_field(6, b"") * 1024), "TooManyEvents")

    def test_ids_are_of_the_room_the_body_and_the_signature(self):
        # The numbers are from a separate program.
        signature = bytes([9] * 64)

        def data(body):
            return message_field(1, body) + message_field(2, signature)

        def sized(size):
            return data(bytes(size - 70))

        for topic, message, id in (
            ("/diatribe/1/lobby", data(b"body"), "0f71479fb661a9321b5bdc3d39c97272af3b1ac5077efb4587da964991eb2f38"),
            ("/diatribe/1/kitchen", data(b"body"), "594c76886ab135f9ee0bb6f93d9256c26dfed395ea6a085d1a70dd2b8b0c2d46"),
            ("/diatribe/1/a/b", data(b"body"), "60e11c4e4e2a91d6b166a061a5be61e87134ca67200c87399eea2d441d1fc5c8"),
            ("lobby", data(b"body"), "0d057107002692171fee10b63d02e3d625b149ee922b007b90876fde90db20ab"),
            ("/diatribe/1/lobby", data(b"body") + b"\0", "c418a7d81bd89529465c8214fd24d1de69d8c8848625389525d3b5f07d8db0c7"),
            ("/diatribe/1/lobby", b"", "8e8d4ca788e5c53169f2c04eac13c3a1542f123aabad5af6147ba3c9d94e3a91"),
            ("/diatribe/1/lobby", sized(MAX_MESSAGE), "17e8ef7d3c80ccd7646a48956670ff3bff7ee1cf3cc057fac4d7a99513c7aaf2"),
            ("/diatribe/1/lobby", sized(MAX_MESSAGE + 1), "2ac773a6cab68da6d925cdb931219ad4c03ce356cdd615c958e753400263a506"),
        ):
            self.assertEqual(id_of(topic, message).hex(), id, topic)

    def test_a_batch_follows_the_newest_of_its_author(self):
        heads = Heads()
        self.assertEqual(heads.prev(), [])
        heads.sent(1, [])
        self.assertEqual(heads.prev(), [1])
        heads.received(2, [])
        self.assertEqual(heads.prev(), [1, 2])
        heads.received(3, [2])
        heads.received(2, [])
        self.assertEqual(heads.prev(), [1, 3], "what is followed already is no head")
        heads.received(4, [1, 3])
        self.assertEqual(heads.prev(), [1, 4], "the batch before is named all the same")
        heads.sent(5, heads.prev())
        heads.received(4, [])
        self.assertEqual(heads.prev(), [5])
        for id in range(10, 20):
            heads.received(id, [])
        self.assertEqual(heads.prev(), [5, 17, 18, 19])
        heads.sent(20, heads.prev())
        self.assertEqual(heads.prev(), [20])
        heads = Heads()
        for id in range(10, 20):
            heads.received(id, [])
        self.assertEqual(heads.prev(), [16, 17, 18, 19])


if __name__ == "__main__":
    unittest.main()
