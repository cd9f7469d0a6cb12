"""Malformed and well-formed messages."""

import unittest

from diatribe.protobuf import Malformed, fields

from .edges import MALFORMED, WELL_FORMED


class Fields(unittest.TestCase):
    def test_what_is_malformed(self):
        for what, text in MALFORMED.items():
            with self.assertRaises(Malformed, msg=what):
                fields(bytes.fromhex(text))
        for text in WELL_FORMED.values():
            fields(bytes.fromhex(text))


if __name__ == "__main__":
    unittest.main()
