"""What TCP does about loss: it sends again, in order, until it is told that the data have arrived.

Mirrors:  Linux (tcp_timer.c): RTO at least 200 ms, doubled up to 120 s; tcp_retries2 15, tcp_orphan_retries 8.
Inputs:   what is lost on its way, what arrives behind it, what arrives while its acknowledgement is lost.
Effects:  the same messages at a later time; the end of one side of a connection.
Rule 1:   a direction sends again 200 ms and a round trip after its first loss, then after twice as long each time: after
          0.2, 0.6, 1.4, 3.0, 6.2 s. A single message is probed first: after 0.2, then 0.4, 0.8, 1.6, 3.2, 6.4 s.
          The first time that gets through brings all that was lost, in order.
Rule 2:   what arrives behind a hole waits at the receiver until the hole is filled, which it hastens: before the first
          time-out, the sender hears of it and sends again at once.
Rule 3:   what has arrived is never handed over twice. A sender whom no acknowledgement reaches sends nothing new from
          its first time-out on; the way being open again, one message gets through, and no more until it is acknowledged.
Rule 4:   any message acknowledges what its sender has received.
Rule 5:   a sender gives up after 15 times (924.6 s; 102.2 s once it has closed); its own end is told, the other is not.
Rule 6:   nothing here draws a chance, and without rules or a loss nothing here runs.
Differs:  lost data come again when Linux sends them (seen on 6.18: both rows of times), but for its probe of the last of
          several messages after some 20 ms, delayed acknowledgements and windows; what is sent again takes no bandwidth.
          Dials are repeated after 1, 3, 7 s as up to Linux 6.4, later ones also try each of the first five seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.sim.connections import Connection, Recovery, Stream
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.rules import Rules, Verdict

MIN_TIMEOUT_US = 200_000
MAX_TIMEOUT_US = 120_000_000
TRIES = 15
ORPHAN_TRIES = 8
"""Of an end that has closed."""
_RECEIVED = -1
_ALL = 1 << 30


class Retransmission(Rules):
    """Keeps what is lost, and sends it again."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.dropped = 0
        self._kernel = kernel

    # -- what the network knows ---------------------------------------------------------------

    def _without_power(self, number: int) -> bool:
        """Is the node's whole machine gone?"""
        raise NotImplementedError

    def _answers_with_reset(self, connection: Connection, stream: Stream) -> bool:
        """Does the receiving machine know nothing of the connection? Then it says so."""
        raise NotImplementedError

    def _gives_up(self, connection: Connection, stream: Stream) -> None:
        """The sender's end dies of its time-out."""
        raise NotImplementedError

    # -- loss ---------------------------------------------------------------------------------

    def _is_kept(self, stream: Stream) -> bool:
        """Is what is sent now lost where it is sent, or kept by a sender that waits for an acknowledgement?"""
        recovery = stream.recovery
        return (stream.src, stream.dst) in self._cut or (
            recovery is not None and recovery.unacknowledged > 0 and recovery.tries > 0
        )

    def _lost(self, connection: Connection, stream: Stream, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Where a message would have arrived that was lost where it was sent."""
        self.dropped += 1
        recovery = stream.recovery
        if stream.held and not (recovery is not None and recovery.entries):
            stream.held.append((fn, args))
        else:
            self._miss(stream, fn, args)

    def _miss(self, stream: Stream, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
        recovery = stream.recovery or self._begin_recovery(args[0], stream)
        recovery.entries.append((self._kernel.now_us, fn, args))

    def _judge(self, stream: Stream, fn: Callable[..., None], args: tuple[Any, ...]) -> Verdict:
        """The verdict on something that arrives; what is to be held, or is behind what is held, is kept here."""
        verdict = self._verdict(stream.src, stream.dst, args) if self._ruled else Verdict.PASS
        if verdict is Verdict.HOLD or stream.held:
            stream.held.append((fn, args))
            return Verdict.HOLD
        return verdict

    def _passes(self, stream: Stream, fn: Callable[..., None], args: tuple[Any, ...]) -> bool:
        """May data arrive now? What is lost, held or behind a hole is kept."""
        recovery = stream.recovery
        if recovery is not None and recovery.delivering:
            return True
        if recovery is not None and recovery.entries:
            lost = self._verdict(stream.src, stream.dst, args) is Verdict.DROP
            self.dropped += lost
            recovery.entries.append((self._kernel.now_us if lost else _RECEIVED, fn, args))
            if not lost and recovery.tries == 0:
                self._tell_of_hole(args[0], stream, recovery)
            return False
        verdict = self._judge(stream, fn, args)
        if verdict is Verdict.DROP:
            self.dropped += 1
            self._miss(stream, fn, args)
        elif verdict is Verdict.PASS:
            self._acknowledge(args[0], stream)
        return verdict is Verdict.PASS

    def _tell_of_hole(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        other = _other(connection, stream)
        if self._is_open(connection, other):
            self._kernel.post_after(other.link.latency_us, self._send_again, (connection, stream, recovery))

    # -- acknowledgements ---------------------------------------------------------------------

    def _acknowledge(self, connection: Connection, stream: Stream) -> None:
        """Data have arrived: they acknowledge what went the other way, and are acknowledged if that way is open."""
        other = _other(connection, stream)
        if other.recovery is not None and other.recovery.unacknowledged:
            self._acknowledged(connection, other, other.recovery)
        recovery = stream.recovery
        if self._is_open(connection, other):
            if recovery is not None:
                self._acknowledged(connection, stream, recovery)
        else:
            recovery = recovery or self._begin_recovery(connection, stream)
            recovery.unacknowledged += 1

    def _acknowledged(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        """The sender knows again: it goes on at once with what it kept."""
        self._close_hole(connection, stream, recovery)
        if recovery.entries:
            self._send_again(connection, stream, recovery)

    def _is_open(self, connection: Connection, stream: Stream) -> bool:
        return self._verdict(stream.src, stream.dst, (connection,)) is not Verdict.DROP

    # -- retransmission -----------------------------------------------------------------------

    def _begin_recovery(self, connection: Connection, stream: Stream) -> Recovery:
        recovery = stream.recovery = Recovery(MIN_TIMEOUT_US + 2 * stream.link.latency_us)
        self._recovering += 1
        self._note_rules()
        # The message was sent one latency ago.
        delay_us = recovery.timeout_us - stream.link.latency_us
        recovery.timer = self._kernel.call_after(delay_us, self._times_out, connection, stream, recovery)
        return recovery

    def _end_recovery(self, stream: Stream) -> None:
        """All is acknowledged, or nobody sends it any more."""
        recovery = stream.recovery
        if recovery is not None:
            stream.recovery = None
            self._recovering -= 1
            self._note_rules()
            if recovery.timer is not None:
                recovery.timer.cancel()

    def _await(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        if recovery.timer is not None:
            recovery.timer.cancel()
        delay_us = min(recovery.timeout_us << recovery.tries, MAX_TIMEOUT_US)
        recovery.timer = self._kernel.call_after(delay_us, self._times_out, connection, stream, recovery)

    def _times_out(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        recovery.timer = None  # It has run.
        is_open = connection.client_open if stream is connection.forth else connection.server_open
        if recovery.tries >= (TRIES if is_open else ORPHAN_TRIES):
            self._end_recovery(stream)
            self._gives_up(connection, stream)
            return
        if recovery.tries == 0 and not recovery.probed and len(recovery.entries) + recovery.unacknowledged == 1:
            recovery.probed = True
        else:
            recovery.tries += 1
        self._await(connection, stream, recovery)
        self._send_again(connection, stream, recovery)

    def _send_again(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        if stream.recovery is recovery and (stream.src, stream.dst) not in self._cut:
            args = (connection, stream, recovery, self._kernel.now_us)
            self._kernel.post_after(stream.link.latency_us, self._arrives_again, args)

    def _arrives_again(self, connection: Connection, stream: Stream, recovery: Recovery, sent_us: int) -> None:
        if stream.recovery is not recovery or self._without_power(stream.dst):
            return
        if connection.broken:
            self._end_recovery(stream)
            return
        head = recovery.entries[0][2] if recovery.entries else (connection,)
        if self._verdict(stream.src, stream.dst, head) is Verdict.DROP or self._answers_with_reset(connection, stream):
            return
        other = _other(connection, stream)
        is_open = self._is_open(connection, other)
        recovery.delivering = True
        verdict = self._deliver(stream, recovery, sent_us, most=_ALL if is_open else 1)
        recovery.delivering = False
        if stream.recovery is not recovery:
            return
        if verdict is Verdict.HOLD:
            stream.held.append((self._arrives_again, (connection, stream, recovery, sent_us)))
        if is_open:
            self._close_hole(connection, stream, recovery)
        if other.recovery is not None and other.recovery.unacknowledged:
            self._acknowledged(connection, other, other.recovery)

    def _deliver(self, stream: Stream, recovery: Recovery, sent_us: int, *, most: int) -> Verdict:
        """Hand over, in order, what was sent again and what waits behind it; no more than that is unacknowledged."""
        entries = recovery.entries
        while entries and stream.recovery is recovery:
            lost_us, fn, args = entries[0]
            if lost_us > sent_us or (lost_us != _RECEIVED and recovery.unacknowledged >= most):
                break
            verdict = self._verdict(stream.src, stream.dst, args)
            if verdict is not Verdict.PASS:
                return verdict
            recovery.unacknowledged += 1
            entries.popleft()
            fn(*args)
        return Verdict.PASS

    def _close_hole(self, connection: Connection, stream: Stream, recovery: Recovery) -> None:
        """What came again is acknowledged; what was lost after it waits for its own time."""
        recovery.unacknowledged = 0
        recovery.tries = 0
        if recovery.entries:
            self._await(connection, stream, recovery)
        else:
            self._end_recovery(stream)


def _other(connection: Connection, stream: Stream) -> Stream:
    return connection.back if stream is connection.forth else connection.forth
