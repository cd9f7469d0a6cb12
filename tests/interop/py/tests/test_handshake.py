"""Valid and invalid Hellos and Challenges, beyond the published vectors."""

import unittest

from diatribe.handshake import CODES, Local, Refused, Round, decode_frame, encode_frame
from diatribe.identity import Identity, parse_network_key
from diatribe.protobuf import fields, message_field, varint

unhex = bytes.fromhex


class Handshakes(unittest.TestCase):
    def setUp(self):
        self.client, self.server = Local(Identity(bytes([1] * 32))), Local(Identity(bytes([2] * 32)))

    def hello(self, **changes):
        """A Hello of which fields of the Core are other ones."""
        round = Round(self.client, self.server.identity.peer_id, 1)
        core = round._core
        round._core = lambda **given: core(**given | changes)
        return round, round.hello()

    def answer(self, hello):
        return Round(self.server, self.client.identity.peer_id, 1).on_hello(decode_frame(hello)[1])

    def refused(self, hello, code):
        with self.assertRaises(Refused) as caught:
            self.answer(hello)
        self.assertEqual(caught.exception.code, code)
        return str(caught.exception)

    def test_tags_tell_networks_apart(self):
        key, other = bytes([9] * 32), bytes([8] * 32)
        for client, server, reason in (
            (None, key, "the network keys differ: the peer is on the open network"),
            (key, None, "the network keys differ: the peer has one, this node is on the open network"),
            (key, other, "the network keys differ"),
        ):
            self.client = Local(self.client.identity, client)
            self.server = Local(self.server.identity, server)
            self.assertEqual(self.refused(self.hello()[1], "NETWORK"), reason)
        for client, server in ((None, None), (key, key)):
            self.client = Local(self.client.identity, client)
            self.server = Local(self.server.identity, server)
            self.answer(self.hello()[1])

    def test_no_network_key_is_all_zeros(self):
        for file in (bytes(32), b"0" * 64, b"0" * 64 + b"\n"):
            with self.assertRaises(ValueError):
                parse_network_key(file)
        self.assertEqual(parse_network_key(b"0" * 63 + b"1\n"), bytes(31) + b"\1")

    def test_the_tag_may_be_in_either_place(self):
        round, hello = self.hello()
        tags = decode_frame(hello)[1]["core"]
        own = next(value for tag, _, value in fields(tags) if tag == 11)[:16]
        again = Round(self.client, self.server.identity.peer_id, 1, entropy=round.entropy)
        core = again._core
        again._core = lambda **given: core(tags=bytes(16) + own)
        challenge = self.answer(again.hello())
        said = {tag: value for tag, _, value in fields(decode_frame(challenge)[1]["core"])}
        self.assertEqual(said[12], 2)
        self.assertNotIn(11, said)
        # This client has no older key: it never sent a tag for one.
        with self.assertRaises(Refused) as caught:
            again.on_challenge(decode_frame(challenge)[1])
        self.assertEqual(caught.exception.code, "AUTH")

    def test_what_is_of_the_other_frame_is_refused(self):
        self.refused(self.hello(tags=b"")[1], "AUTH")
        self.refused(self.hello(tags=bytes(16))[1], "AUTH")
        self.refused(self.hello(key=1)[1], "AUTH")
        self.refused(self.hello(tags=bytes(32))[1], "NETWORK")

    def test_a_reject_may_have_referrals(self):
        frame = encode_frame("reject", code=CODES["BUSY"], referrals=b"whom to ask", proof=bytes(32))
        self.assertEqual(decode_frame(frame)[1]["code"], CODES["BUSY"])

    def test_each_part_of_a_frame_is_well_formed(self):
        kind = fields(self.hello()[1])[0][2]
        group = unhex("a306a406")
        for body in (
            message_field(1, kind[:1]) + message_field(1, kind[1:]),
            message_field(4, group) + message_field(1, kind),
            message_field(1, kind + group),
            message_field(1, kind) + group,
        ):
            with self.assertRaises(Refused) as caught:
                decode_frame(body)
            self.assertEqual(caught.exception.code, "AUTH")
        self.answer(message_field(1, kind) + varint(99 << 3 | 2) + varint(len(group)) + group)


if __name__ == "__main__":
    unittest.main()
