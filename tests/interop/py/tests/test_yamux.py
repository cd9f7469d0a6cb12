"""The frames of py-libp2p's yamux, with the changes of `workarounds.py`."""

import unittest

import trio
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from diatribe import workarounds


class Yamux(unittest.TestCase):
    def test_frames_are_small_however_large_the_window(self):
        """Every implementation takes 1 MiB in a DATA frame, and some not more."""
        sent = []

        class Connection:
            async def _write_frame(self, frame):
                length = int.from_bytes(frame[8:12], "big")
                self.assertEqual(length, len(frame) - 12)
                sent.append(length)

        Connection.assertEqual = self.assertEqual

        async def main():
            stream = YamuxStream(1, Connection(), True)
            stream.send_window = 16 * 1024 * 1024
            await stream.write(bytes(2 * 1024 * 1024))

        workarounds.apply()
        trio.run(main)
        self.assertEqual(sum(sent), 2 * 1024 * 1024)
        self.assertLessEqual(max(sent), 256 * 1024)


if __name__ == "__main__":
    unittest.main()
