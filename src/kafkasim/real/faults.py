"""Harm to real brokers, one or a rack of them; and the network faults that only the simulator has.

Inputs:   crash, power_loss, shutdown, start, pause, resume.      Effects: signals to processes of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from kafkasim.errors import Unsupported
from kafkasim.real.local_kafka import LocalBroker


class BrokerGroup:
    """Several brokers harmed together: one broker of the handle, or all of a rack."""

    def __init__(self, brokers: Sequence[LocalBroker]) -> None:
        self._brokers = list(brokers)

    @property
    def state(self) -> str:
        """The brokers' state, joined by a comma where it is not the same."""
        return ",".join(sorted({broker.state for broker in self._brokers}))

    @property
    def disk(self) -> NoReturn:
        """Raises Unsupported."""
        raise Unsupported("disks can be slowed, filled and failed on the simulator only")

    def crash(self) -> None:
        """SIGKILL."""
        for broker in self._brokers:
            broker.crash()

    def power_loss(self) -> None:
        """Raises Unsupported."""
        for broker in self._brokers:
            broker.power_loss()

    def shutdown(self) -> None:
        """SIGTERM: controlled shutdown; returns before it is over."""
        for broker in self._brokers:
            broker.shutdown()

    def start(self) -> None:
        """Start what does not run; returns before it has joined."""
        for broker in self._brokers:
            if broker.state == "stopping":
                broker.wait_until_gone()
            broker.start()

    def pause(self) -> None:
        """SIGSTOP."""
        for broker in self._brokers:
            broker.pause()

    def resume(self) -> None:
        """SIGCONT."""
        for broker in self._brokers:
            broker.resume()


class UnsupportedNetwork:
    """The handle's `network` on a real cluster: every fault raises Unsupported."""

    def __getattr__(self, fault: str) -> Callable[..., NoReturn]:
        if fault.startswith("__"):
            raise AttributeError(fault)

        def refuse(*_: object, **__: object) -> NoReturn:
            raise Unsupported(f"network.{fault}: network faults exist on the simulator only")

        return refuse
