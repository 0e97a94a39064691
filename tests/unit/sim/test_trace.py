"""The fingerprint of a run."""

from __future__ import annotations

from kafkasim.sim.trace import Trace


def test_order_and_place_matter() -> None:
    """The same events in the same order give the same fingerprint, anything else another one."""

    def fingerprint(*events: tuple[int, int, int, int]) -> str:
        trace = Trace()
        for event in events:
            trace.mix(*event)
        return trace.fingerprint()

    assert fingerprint((1, 2, 3, 4), (5, 6, 7, 8)) == fingerprint((1, 2, 3, 4), (5, 6, 7, 8))
    assert fingerprint((1, 2, 3, 4), (5, 6, 7, 8)) != fingerprint((5, 6, 7, 8), (1, 2, 3, 4))
    assert fingerprint((1, 2, 3, 4)) != fingerprint((2, 1, 3, 4))
    assert fingerprint((1, 2, 3, 4)) == "eba3e6a4259be0d2"
    assert len(fingerprint()) == 16


def test_looking_changes_nothing() -> None:
    """A fingerprint taken on the way does not change the one at the end."""
    looked, other = Trace(), Trace()
    for number in range(3_000):
        looked.mix(number, -number, 1 << 63, 1 << 70)
        other.mix(number, -number, 1 << 63, 1 << 70)
        if number % 100 == 0:
            looked.fingerprint()
    assert looked.fingerprint() == other.fingerprint()


def test_events_are_kept_as_chosen() -> None:
    """Nothing, a ring, or everything: chosen at set-up, with the same fingerprint."""
    traces = [Trace(), Trace(keep=2), Trace(keep=-1)]
    for trace in traces:
        for number in range(3):
            trace.mix(number, 0, 0, 0)
    assert [len(trace.events()) for trace in traces] == [0, 2, 3]
    assert traces[1].events() == ((1, 0, 0, 0), (2, 0, 0, 0))
    assert len({trace.fingerprint() for trace in traces}) == 1
