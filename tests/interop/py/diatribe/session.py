"""The handshake of one connection: `Round` carried over libp2p streams, with its deadlines.

Entry point: `Session.run`. The rule it keeps: frames travel only on the connection they prove; an extra,
repeated or out-of-order frame ends it; and the gate is open inbound before the frame is sent that lets the peer open
streams.
"""

from contextlib import asynccontextmanager, contextmanager

import trio

from .frame import NoFrame, read_frame, write_frame
from .handshake import MAX_FRAME, PROTOCOL, Refused, Round, code_name, decode_frame, reject_frame
from .identity import ZEROS
from .network import Unsupported

FRAME_S = 3
WHOLE_S = 10
REJECT_FLUSH_S = 0.5
# The peer's handshake streams that are being read: it needs one, another is a violation that must still be read.
MAX_STREAMS = 4

GONE = "the peer closed the connection before the handshake was over"


class HandshakeFailure(Exception):
    """Why a handshake did not pass. `code` is a code of the contract, TIMEOUT, VIOLATION, or None."""

    def __init__(self, round, code, reason):
        super().__init__(reason)
        self.stage, self.code = f"handshake_{round}", code


class Session:
    """`judge(core)` is awaited and yields None, or the code with which the peer is refused; `open_gate()` opens the
    gate inbound."""

    def __init__(self, connection, local, judge, open_gate):
        self.connection, self.local, self.judge, self.open_gate = connection, local, judge, open_gate
        self.passed = False
        self._round = 1
        self._over = None
        self._scope = trio.CancelScope()
        # A request of the peer is due: one is taken, and kept until somebody waits for it.
        self._due = not connection.dialer
        self._deliver, self._delivered = trio.open_memory_channel(1)
        self._streams = 0
        connection.on_handshake = self.accept

    async def run(self):
        """Runs it to the pass, and returns the peer's Core; or closes the connection and raises a
        HandshakeFailure."""
        peer = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            peer = await self._to_the_end()
            self.passed = peer is not None
            nursery.cancel_scope.cancel()
        if peer is None:
            await self.connection.hang_up()
            raise self._over
        return peer

    async def _to_the_end(self):
        """Returns the peer's Core; None when it failed, with the reason in `_over`."""
        try:
            with self._scope, trio.fail_after(WHOLE_S):
                return await (self._dialer() if self.connection.dialer else self._listener())
        except trio.TooSlowError:
            self._end("TIMEOUT", f"the handshake did not pass within {WHOLE_S} s of the connection")
        except Refused as error:
            self._end(error.code, str(error))
        except NoFrame as error:
            self._end("VIOLATION", str(error))
        except Unsupported:
            self._end(None, f"the peer does not speak {PROTOCOL}: it is another libp2p program, or another version of diatribe")
        except Exception as error:
            self._end(None, GONE if self.connection.closed else f"a handshake stream failed: {error!r}")
        return None

    async def _watch(self):
        await self.connection.wait_closed()
        self._end(None, GONE)

    def _end(self, code, reason):
        """Ends the handshake; the first reason counts."""
        self._over = self._over or HandshakeFailure(self._round, code, reason)
        self._scope.cancel()

    async def _dialer(self):
        peer, end = await self._ask(ZEROS, None)
        self._round = 2
        return (await self._serve(end, peer))[0]

    async def _listener(self):
        peer, end = await self._serve(ZEROS, None)
        self._round = 2
        return (await self._ask(end, peer))[0]

    async def _ask(self, prev, first):
        """One round as its client."""
        round = Round(self.local, self.connection.peer_id, self._round, prev, first)
        peer, answer = round.on_challenge(await self._exchange(round.hello(), "challenge"))
        if self._round == 1:
            # Streams overtake each other: round 2's Hello may arrive before round 1's Pass.
            self._due = True
        else:
            self.open_gate()
        return peer, round.on_pass(await self._exchange(answer, "pass"))

    async def _serve(self, prev, first):
        """One round as its server."""
        round = Round(self.local, self.connection.peer_id, self._round, prev, first)
        stream, body = await self._request("Hello")
        async with self._rejecting(stream):
            challenge = round.on_hello(self._expect(body, "hello"))
        # The Answer may arrive before the call that sends the Challenge has returned.
        self._due = True
        await self._respond(stream, challenge)
        stream, body = await self._request("Answer")
        async with self._rejecting(stream):
            peer, end, passed = round.on_answer(self._expect(body, "answer"))
            code = await self.judge(peer)
            if code is not None:
                raise Refused(code, f"this node refuses the peer: {code}")
        if self._round == 2:
            self.open_gate()
        await self._respond(stream, passed)
        return peer, end

    async def _exchange(self, body, kind):
        """Sends a request on a stream of its own and reads the response."""
        with _deadline(f"the peer sent no {kind} within {FRAME_S} s"):
            stream = await self.connection.open(PROTOCOL)
            await write_frame(stream, body)
            return self._expect(await read_frame(stream, MAX_FRAME), kind)

    async def _request(self, name):
        """The peer's next request."""
        with _deadline(f"the peer sent no {name} within {FRAME_S} s"):
            return await self._delivered.receive()

    async def _respond(self, stream, body):
        with _deadline(f"the peer did not take a response within {FRAME_S} s"):
            await write_frame(stream, body)

    @asynccontextmanager
    async def _rejecting(self, stream):
        """Around a server's step: when a check fails, sends the code to the peer, and gives it a moment to read it."""
        try:
            yield
        except Refused as error:
            self._over = HandshakeFailure(self._round, error.code, str(error))
            await self._respond(stream, reject_frame(error.code))
            with trio.move_on_after(REJECT_FLUSH_S):
                await self.connection.wait_closed()
            raise

    def _expect(self, body, kind):
        found, message = decode_frame(body)
        if found == "reject" and kind in ("challenge", "pass"):
            code = code_name(message["code"])
            hint = ": the network keys differ" if code == "NETWORK" else ""
            raise Refused(code, f"the peer refused this node with {code}{hint}")
        if found != kind:
            raise NoFrame(f"the peer sent {found} where {kind} was due")
        return message

    async def accept(self, stream):
        """A stream that the peer opened."""
        if self._streams >= MAX_STREAMS:
            await stream.reset()
            return
        self._streams += 1
        try:
            with trio.fail_after(FRAME_S):
                body = await read_frame(stream, MAX_FRAME)
            if not self._due or self._over is not None:
                raise NoFrame("the peer sent a frame where none was due")
            self._due = False
            self._deliver.send_nowait((stream, body))
        except NoFrame as error:
            await stream.reset()
            if self.passed:
                await self.connection.hang_up()
            else:
                self._end("VIOLATION", str(error))
        finally:
            self._streams -= 1


@contextmanager
def _deadline(reason):
    try:
        with trio.fail_after(FRAME_S):
            yield
    except trio.TooSlowError:
        raise Refused("TIMEOUT", reason) from None
