"""Controllers that are deposed for nothing (K9): a number, and what does not count."""

from __future__ import annotations

from kafkasim.check.disruptions import disruptions, measure_disruptions
from kafkasim.check.report import Report
from kafkasim.core.model.history import Happened


def led(at_us: int, node: int) -> Happened:
    return Happened(at_us, node, "controller-active", node, (("epoch", at_us),))


def test_who_was_deposed_for_nothing() -> None:
    """The first one, by whoever came after, and one that was elected again; not one that was killed or cut off."""
    events = [led(1, 1), led(2, 2), Happened(3, 2, "crash", 2), led(4, 3), led(5, 3)]
    events += [Happened(6, 0, "network partition", ((3,), (1, 2))), led(7, 1)]
    assert disruptions(events) == [(2, 1, 2), (5, 3, 3)]
    report = Report()
    measure_disruptions(events, report)
    assert list(report.metrics.values()) == [2]
    measure_disruptions(events[2:4], report := Report())
    assert report.metrics == {}
