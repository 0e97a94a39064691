"""Hypothesis strategies for clusters, workloads and fault plans. Needs the extra ``hypothesis``.

Rule 1:   everything shrinks to the harmless: no fault, the shortest down-time, the fewest records, seed 0.
Rule 2:   faults and records are drawn apart, so that leaving out one does not move another.
Rule 3:   under ``--kafkasim-replay`` the recorded seed, plan and records are given instead.

    @given(plan=fault_plans(["orders-0"]), work=workloads(), seed=seeds())
    def test_nothing_is_lost(plan, work, seed): ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from kafkasim.sim.menu import Menu
from kafkasim.sim.nemeses import EVENTS
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_text import plan_from_values
from kafkasim.testing import recorded

_MOMENTS = 1000
_DOWN_S = (0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 6.0, 12.0, 30.0, 60.0)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of a cluster; 0 is the simplest."""
    return _or_recorded("seed", st.integers(min_value=0, max_value=2**32 - 1), int)


@st.composite
def _or_recorded(draw: st.DrawFn, name: str, usual: st.SearchStrategy[Any], read: Callable[[Any], Any]) -> Any:
    """What ``--kafkasim-replay`` names; without it, what Hypothesis draws."""
    value = recorded.current(name)
    return draw(usual) if value is None else read(value)


@attrs.frozen
class Workload:
    """Records to write, as (key, value); ``produce`` writes them with one producer and waits for every report."""

    records: tuple[tuple[bytes | None, bytes], ...]

    def produce(self, cluster: Any, topic: str, **config: Any) -> list[tuple[Any, Any]]:
        """The (error, message) of each delivery report, in the order in which they came."""
        producer = cluster.producer({"acks": "all", **config})
        reports: list[tuple[Any, Any]] = []
        for key, value in self.records:
            producer.produce(topic, value, key, on_delivery=lambda error, message: reports.append((error, message)))
            producer.poll(0)
        producer.flush()
        return reports


def workloads(*, min_records: int = 1, max_records: int = 50, keys: int = 4) -> st.SearchStrategy[Workload]:
    """Few records with few keys; every value is its record's number, so each is told from the others."""
    key = st.none() if keys == 0 else st.none() | st.integers(0, keys - 1).map(lambda number: f"key-{number}".encode())
    drawn = st.lists(key, min_size=min_records, max_size=max_records).map(
        lambda keys: Workload(tuple((key, str(number).encode()) for number, key in enumerate(keys)))
    )
    return _or_recorded("records", drawn, _workload)


def _workload(records: Any) -> Workload:
    return Workload(
        tuple((None if key is None else key.encode("latin-1"), value.encode("latin-1")) for key, value in records)
    )


def faults(
    partitions: Sequence[str] = (),
    *,
    brokers: int = 3,
    clients: Sequence[str] = (),
    kinds: Sequence[str] | None = None,
    events: Sequence[str] = EVENTS,
    max_nth: int = 60,
    max_at: float = 60.0,
) -> st.SearchStrategy[Fault]:
    """One fault: at a broker, at the leader or a follower of one of ``partitions``, at a client; at an event or at a time.

    By default of the kinds that a sound design survives; ``kinds`` names others (``kafkasim.faults.KINDS``).
    """
    menu = Menu(tuple(range(1, brokers + 1)), tuple(partitions), tuple(clients))
    chosen = menu.kinds(kinds)
    most = max(len(menu.places(kind)) for kind in chosen)
    triggers: list[str | None] = [None, *events]

    def build(kind: str, place: int, event: str | None, moment: int, for_s: float) -> Fault:
        # One number for either trigger, and one for all places: faults of one shape are what Hypothesis leaves out and makes smaller
        # fastest.
        nth = 1 + moment * max_nth // (_MOMENTS + 1)
        if event is None:
            return menu.fault(kind, place, for_s=for_s, at_s=moment * max_at / _MOMENTS, nth=nth)
        return menu.fault(kind, place, for_s=for_s, on=event, nth=nth)

    return st.builds(
        build,
        st.sampled_from(chosen),
        st.integers(0, most - 1),
        st.sampled_from(triggers),
        st.integers(0, _MOMENTS),
        st.sampled_from(_DOWN_S),
    )


def fault_plans(partitions: Sequence[str] = (), *, max_faults: int = 4, **options: Any) -> st.SearchStrategy[Plan]:
    """Up to ``max_faults`` faults; shrinks to none. Options are those of `faults`."""
    drawn = st.lists(faults(partitions, **options), max_size=max_faults).map(lambda listed: Plan(tuple(listed)))
    return _or_recorded("plan", drawn, plan_from_values)


@attrs.frozen
class TopicSettings:
    """What a topic and its producers promise: ``replication_factor``, ``min.insync.replicas``, ``acks``, idempotence."""

    replication_factor: int
    min_insync_replicas: int
    acks: str
    idempotent: bool

    @property
    def topic_config(self) -> dict[str, object]:
        return {"min.insync.replicas": self.min_insync_replicas}

    @property
    def producer_config(self) -> dict[str, object]:
        return {"acks": self.acks, "enable.idempotence": self.idempotent}


def topic_settings(*, brokers: int = 3) -> st.SearchStrategy[TopicSettings]:
    """From the safest to the least safe: three replicas, two in sync, acks=all, idempotent first."""

    def build(missing: int, slack: int, acks: str, plain: bool) -> TopicSettings:
        factor = max(1, min(3, brokers) - missing)
        is_idempotent = not plain and acks == "all"
        return TopicSettings(factor, max(1, min(2, factor) - slack), acks, is_idempotent)

    return st.builds(build, st.integers(0, 2), st.integers(0, 1), st.sampled_from(["all", "1", "0"]), st.booleans())
