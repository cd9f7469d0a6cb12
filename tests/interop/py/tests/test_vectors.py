"""The published vectors, each recomputed from its inputs."""

import json
import unittest
from pathlib import Path

from diatribe import batch as batches
from diatribe.batch import BatchError, id_of, open_envelope, room_fault, room_of, seal, topic_of
from diatribe.handshake import (CODES, Entropy, Local, Refused, Round, code_name, decode_frame, hash_of, hmac_of,
                                reject_frame, tag_of)
from diatribe.identity import Identity, network_id, peer_id_text, public_key_of, seed_of_passphrase, verify
from diatribe.protobuf import message_field

VECTORS = Path(__file__).parents[4] / "proto" / "vectors"
identity, handshake, batch = (json.loads((VECTORS / f"{name}.json").read_text()) for name in ("identity", "handshake", "batch"))

unhex = bytes.fromhex


def key(text):
    return None if text is None else unhex(text)


class IdentityVectors(unittest.TestCase):
    def check(self, expected):
        own = Identity(unhex(expected["seed"]))
        self.assertEqual(own.key.hex(), expected["public_key"])
        self.assertEqual(own.public_key.hex(), expected["public_key_protobuf"])
        self.assertEqual((unhex("08011240") + own.seed + own.key).hex(), expected["private_key_protobuf"])
        self.assertEqual(own.peer_id.hex(), expected["peer_id_bytes"])
        self.assertEqual(peer_id_text(own.peer_id), expected["peer_id"])
        self.assertEqual(Local(own).sealing_key.hex(), expected["x25519_public_key"])

    def test_a_seed_gives_the_published_keys(self):
        for expected in identity["seeds"]:
            self.check(expected)

    def test_a_passphrase_gives_the_published_identity(self):
        for expected in identity["passphrases"]:
            seed, salt = seed_of_passphrase(expected["passphrase"], expected["salt"])
            self.assertEqual(salt.hex(), expected["argon2_salt"])
            self.assertEqual(seed.hex(), expected["seed"])
            self.check(expected)

    def test_a_network_key_gives_the_published_network_id(self):
        for expected in identity["networks"]:
            self.assertEqual(network_id(key(expected["network_key"])).hex(), expected["network_id"])

    def test_weak_and_malformed_keys_are_refused(self):
        for refused in identity["refused_public_keys"]:
            self.assertIsNone(public_key_of(unhex(refused["public_key_protobuf"])), refused["comment"])

    def test_signatures_are_verified_by_the_strict_rules(self):
        for case in identity["signatures"]:
            parts = (unhex(case[name]) for name in ("public_key", "message", "signature"))
            self.assertEqual(verify(*parts), case["valid"], case["comment"])


class HandshakeVectors(unittest.TestCase):
    def test_both_roles_make_the_published_bytes(self):
        for expected in (*handshake["handshakes"], handshake["two_keys"]):
            first = {"client": None, "server": None}
            sides = self.sides(expected)
            for published in expected["rounds"]:
                with self.subTest(expected["name"], round=published["round"]):
                    first = self.play(published, sides, first)

    def sides(self, expected):
        sides = {}
        for role in ("dialer", "listener"):
            own, instance_id = Identity(unhex(expected[role]["seed"])), unhex(expected[role]["instance_id"])
            keys = [key(expected["network_key"]), None]
            if role == "dialer" and expected.get("newer_network_key"):
                keys.insert(0, key(expected["newer_network_key"]))
            sides[role] = Local(own, keys[0], instance_id, keys[1])
            self.assertEqual(sides[role].sealing_key.hex(), expected[role]["sealing_key"])
        return sides

    def play(self, expected, sides, first):
        def at(own, other):
            own_role, other_role = expected[own], expected[other]
            entropy = Entropy(*(unhex(expected[name + own]) for name in ("nonce_", "k_", "hpke_ikm_")),
                              unhex(expected.get("random_tag", "")), expected["clock_ms_" + own])
            remote = sides[other_role].identity.peer_id
            return Round(sides[own_role], remote, expected["round"], unhex(expected["prev"]), first[own], entropy)

        client, server = at("client", "server"), at("server", "client")
        hello = client.hello()
        self.assertEqual(hello.hex(), expected["hello"])
        challenge = server.on_hello(self.frame(hello, "hello"))
        self.assertEqual(challenge.hex(), expected["challenge"])
        of_server, answer = client.on_challenge(self.frame(challenge, "challenge"))
        self.assertEqual(answer.hex(), expected["answer"])
        of_client, end, passed = server.on_answer(self.frame(answer, "answer"))
        self.assertEqual(passed.hex(), expected["pass"])
        self.assertEqual(end.hex(), expected["T_end"])
        self.assertEqual(client.on_pass(self.frame(passed, "pass")), end)
        ids = [sides[expected[role]].identity.peer_id for role in ("client", "server")]
        for side in (client, server):
            self.assertEqual(tag_of(side.network_key, *ids, client.entropy.nonce).hex(), expected["tag"])
            for name, value in side.steps.items():
                self.assertEqual(value.hex(), expected[name], name)
            self.assertEqual(set(side.steps), {"T0", "T1", "T2", "T3", "T4", "T5", "K", "confirm", "T_end"})
        # The roles are exchanged in round 2: the server's Core is now the client's.
        return {"client": of_client, "server": of_server}

    def frame(self, body, kind):
        found, message = decode_frame(body)
        self.assertEqual(found, kind)
        return message

    def test_referrals_have_their_proof(self):
        case = handshake["referrals"]
        expected = next(each for each in handshake["handshakes"] if each["name"] == case["handshake"])["rounds"][0]
        proof = hmac_of(unhex(expected["K"])[32:], hash_of(unhex(expected["T_end"]), b"\5", unhex(case["referrals"])))
        self.assertEqual(proof.hex(), case["proof"])
        self.assertEqual(
            decode_frame(unhex(case["frame"])),
            ("reject", {"code": CODES["BUSY"], "referrals": unhex(case["referrals"]), "proof": proof}))

    def test_rejects_have_the_published_bytes(self):
        for case in handshake["rejects"]:
            self.assertEqual(CODES[case["name"]], case["code"])
            self.assertEqual(reject_frame(case["name"]).hex(), case["frame"])
            self.assertEqual(code_name(decode_frame(unhex(case["frame"]))[1]["code"]), case["name"])
        self.assertEqual(code_name(77), "AUTH")

    def test_any_flipped_bit_of_an_answer_is_refused(self):
        expected = handshake["handshakes"][0]
        first = expected["rounds"][0]
        local = Local(Identity(unhex(expected["listener"]["seed"])), None, unhex(expected["listener"]["instance_id"]))

        def server():
            entropy = Entropy(
                *(unhex(first[name + "server"]) for name in ("nonce_", "k_", "hpke_ikm_")), clock_ms=first["clock_ms_server"])
            own = Round(local, unhex(expected["dialer"]["peer_id_bytes"]), 1, entropy=entropy)
            own.on_hello(decode_frame(unhex(first["hello"]))[1])
            return own

        server().on_answer(decode_frame(unhex(first["answer"]))[1])
        for bit in range(0, len(first["answer"]) * 4, 7):
            answer = bytearray(unhex(first["answer"]))
            answer[bit >> 3] ^= 1 << (bit & 7)
            own = server()
            with self.assertRaises((Refused, AssertionError), msg=f"bit {bit}"):
                own.on_answer(self.frame(bytes(answer), "answer"))

    def test_a_sealing_key_of_small_order_is_refused(self):
        expected = handshake["handshakes"][0]
        client = Local(Identity(unhex(expected["dialer"]["seed"])))
        server = Local(Identity(unhex(expected["listener"]["seed"])))
        client.sealing_key = bytes(32)
        hello = Round(client, server.identity.peer_id, 1).hello()
        with self.assertRaises(Refused) as caught:
            Round(server, client.identity.peer_id, 1).on_hello(decode_frame(hello)[1])
        self.assertEqual(caught.exception.code, "AUTH")
        self.assertIn("small order", str(caught.exception))


class BatchVectors(unittest.TestCase):
    def test_a_batch_has_the_published_bytes(self):
        for expected in batch["batches"]:
            events = [(event["name"], unhex(event["data"])) for event in expected["events"]]
            envelope, id, body, signature = seal(
                Identity(unhex(expected["seed"])), unhex(expected["network_id"]), unhex(expected["instance_id"]),
                expected["first_seq"], expected["sent_at_ms"], expected["room"], events, map(unhex, expected["prev"]))
            self.assertEqual(body.hex(), expected["body"])
            self.assertEqual(signature.hex(), expected["signature"])
            self.assertEqual(envelope.hex(), expected["envelope"])
            self.assertEqual(id.hex(), expected["id"])
            self.assertEqual(topic_of(expected["room"]), expected["topic"])
            opened = open_envelope(
                envelope, expected["room"], unhex(expected["network_id"]), expected["sent_at_ms"])
            self.assertEqual([(event["name"], event["data"]) for event in opened["events"]], events)
            self.assertEqual(opened["first_seq"], expected["first_seq"])

    def test_what_the_contract_accepts_is_accepted(self):
        for case in batch["accepted"]:
            opened = self.open(case)
            self.assertEqual(opened["id"].hex(), case["id"], case["comment"])
            self.assertEqual(len(opened["prev"]), case["prev_count"], case["comment"])

    def open(self, case):
        return open_envelope(unhex(case["envelope"]), case["room"], unhex(case["network_id"]), case["now_ms"])

    def test_messages_have_the_published_ids(self):
        for case in batch["ids"]:
            if "data" in case:
                data = unhex(case["data"])
            else:
                # A body of bytes 78 with a length of three bytes, and a signature of zeros.
                data = message_field(1, b"\x78" * (case["data_bytes"] - 1 - 3 - 66)) + message_field(2, bytes(64))
            self.assertEqual(id_of(case["topic"], data).hex(), case["id"], case["comment"])

    def test_what_the_contract_refuses_is_refused_for_the_published_reason(self):
        for case in batch["refused"]:
            with self.assertRaises(BatchError, msg=case["comment"]) as caught:
                self.open(case)
            self.assertEqual(caught.exception.kind, case["error"], case["comment"])
            self.assertEqual(caught.exception.offence, case["error"] != "Ahead", case["comment"])

    def test_the_largest_event_fits_into_a_message(self):
        own = Identity(bytes(32))
        event = ("n" * batches.MAX_EVENT_NAME, bytes(batches.MAX_EVENT_DATA))
        envelope = seal(own, bytes(32), bytes(16), batches.MAX_SEQ, 2**63, "r" * 64, [event], [bytes([i] * 32) for i in range(4)])[0]
        self.assertLessEqual(len(envelope), batches.MAX_MESSAGE)

    def test_names_of_rooms_are_checked(self):
        for case in batch["rooms"]:
            self.assertIsNone(room_fault(case["room"]), case["room"])
            self.assertEqual(room_of(case["topic"]), case["room"])
        for case in batch["refused_topics"]:
            self.assertIsNone(room_of(case["topic"]), case["comment"])


if __name__ == "__main__":
    unittest.main()
