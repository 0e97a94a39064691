"""One scenario under several rebalance protocols, with the same seed.

Mirrors:  KIP-429 (cooperative), KIP-345 (static members), KIP-848 (consumer protocol) as librdkafka's users choose them.
Inputs:   a scenario; a backend by its URL.      Effects: a cluster for each protocol (real: one for all), gone at the end.
Rule 1:   members are plain clients that poll in a loop: what is measured is what any application would see.
Rule 2:   protocols differ in their client properties and in nothing else; timers are the defaults unless the caller sets them.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import attrs

from kafkasim.compare.observe import Observed, observe, owners_at
from kafkasim.compare.result import Comparison, Run, run_of
from kafkasim.compare.scenario import (
    CRASH,
    GROW,
    JOIN,
    LEAVE,
    RESTART_S,
    ROLL,
    Event,
    Scenario,
    SlowMember,
    newest,
    roll_pause_s,
)
from kafkasim.connect import connect
from kafkasim.errors import ConfigurationError

#: The protocols by the names that people use, each with the client properties that choose it. ``{member}`` is the member's name.
PROTOCOLS: Mapping[str, Mapping[str, str]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "static": {"partition.assignment.strategy": "range", "group.instance.id": "{member}"},
    "consumer": {"group.protocol": "consumer"},
}
_POLL_S = 0.1
_SETTLED_AFTER_S = 6.0
_SETTLE_TIMEOUT_S = 180.0
_TOPIC = "compared"
_GENERATION = struct.Struct("<i")
_GENERATION_AT = len(b"CGMDv2:")


def rebalance(
    *,
    members: int = 6,
    partitions: int = 24,
    events: Iterable[str | Event] = (f"{JOIN}@10", f"{LEAVE}@40", f"{CRASH}@70"),
    slow: Iterable[str | SlowMember] = (),
    duration: float | None = None,
    records_per_second: float = 10.0,
    protocols: Sequence[str] | Mapping[str, Mapping[str, object]] = tuple(PROTOCOLS),
    config: Mapping[str, object] | None = None,
    brokers: int = 3,
    broker_config: Mapping[str, object] | None = None,
    seed: int = 0,
    backend: str = "sim",
    on_progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Run one scenario under each protocol and compare what it cost.

    Args:
        members: how many start, all at once.
        partitions: of the one topic that they read.
        events: ``"join@10"``, ``"leave@40:2"``, ``"crash@70"``, ``"roll@60:10"``, ``"grow@80:48"``; seconds from the settled group.
        slow: ``"0:0.3/4.3"``: member 0 polls only 0.3 s of every 4.3 s.
        duration: seconds from the settled group; by default until 60 s after the last event.
        records_per_second: for each partition; a record every 0.1 s by default, so pauses are seen to that much.
        protocols: names out of `PROTOCOLS`, or a mapping of your own names to client properties.
        config: client properties of every member, ``session.timeout.ms`` say.
        brokers, broker_config, seed: of the cluster.
        backend: ``"sim"``; ``"local"`` starts real brokers; ``"kafka://host:9092"`` is a cluster that runs already.
        on_progress: called with a line for each protocol that begins.

    Raises ConfigurationError for what cannot be, and TimeoutError where a group does not settle.
    """
    scenario = Scenario.of(
        members=members,
        partitions=partitions,
        records_per_second=records_per_second,
        events=events,
        slow=slow,
        duration=duration,
    )
    runs = []
    with contextlib.ExitStack() as stack:
        shared = None
        if backend != "sim":
            shared = stack.enter_context(_open_real(backend, brokers, broker_config))
        for name, properties in _chosen(protocols).items():
            if on_progress is not None:
                on_progress(
                    f"{name}: {scenario.members} members, {scenario.partitions} partitions, {scenario.duration_s:g} s"
                )
            settings = {**(config or {}), **properties}
            if shared is not None:
                runs.append(_Stage(shared, name, scenario, settings, can_kill=True).play())
            else:
                with _open_simulated(brokers, broker_config, seed) as cluster:
                    runs.append(_Stage(cluster, name, scenario, settings, can_kill=False).play())
    return Comparison(scenario, runs, seed if backend == "sim" else None, backend)


def _chosen(protocols: Sequence[str] | Mapping[str, Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    if isinstance(protocols, Mapping):
        chosen: dict[str, Mapping[str, object]] = dict(protocols)
    else:
        listed = [protocols] if isinstance(protocols, str) else list(protocols)
        unknown = [name for name in listed if name not in PROTOCOLS]
        if unknown:
            raise ConfigurationError(
                f"no rebalance protocol {unknown[0]!r}: expected {', '.join(PROTOCOLS)}, "
                "or a mapping of names of your own to client properties"
            )
        chosen = {name: PROTOCOLS[name] for name in listed}
    if not chosen:
        raise ConfigurationError("no protocols to compare")
    return chosen


def _open_simulated(brokers: int, config: Mapping[str, object] | None, seed: int) -> Any:
    from kafkasim.handle import Cluster

    return Cluster(brokers=brokers, seed=seed, config=config)


def _open_real(backend: str, brokers: int, config: Mapping[str, object] | None) -> Any:
    if backend != "local":
        if config:
            raise ConfigurationError(f"broker_config cannot be given to {backend!r}, which runs already")
        return connect(backend)
    query = "&".join([f"brokers={brokers}", *(f"{name}={value}" for name, value in (config or {}).items())])
    return connect(f"local://?{query}")


@attrs.define(slots=True, eq=False)
class _Member:
    name: str
    task: Any
    started_s: float


class _Stage:
    """One protocol's run: the cast, and what happens to it."""

    def __init__(
        self, cluster: Any, protocol: str, scenario: Scenario, properties: Mapping[str, object], *, can_kill: bool
    ) -> None:
        self._cluster = cluster
        self._protocol = protocol
        self._scenario = scenario
        self._properties = properties
        #: On a real cluster only a process can be killed.
        self._in_processes = can_kill and any(event.what == CRASH for event in scenario.events)
        self._topic = cluster.name(f"{_TOPIC}-{protocol}")
        self._group = cluster.name(f"{protocol}-group")
        self._slow = {slow.member: slow for slow in scenario.slow}
        self._members: dict[int, _Member] = {}
        self._killed_s: dict[str, float] = {}
        self._generations: list[tuple[float, int]] = []
        #: Members that are to close: a thread cannot be stopped inside the client, so it looks here.
        self._leaving: dict[str, bool] = {}
        self._first_event = 0

    def play(self) -> Run:
        cluster, scenario = self._cluster, self._scenario
        self._first_event = len(cluster.history)
        cluster.create_topic(self._topic, partitions=scenario.partitions)
        stream = _Stream(cluster, self._topic, scenario)
        began_s = cluster.now
        for number in range(scenario.members):
            self._start(number)
        origin_s = self._settle()
        made = scenario.members
        for event in scenario.events:
            self._pass_until(origin_s + event.at_s)
            if event.what == JOIN:
                self._start(made)
                made += 1
            else:
                self._happen(event, stream)
        self._pass_until(origin_s + scenario.duration_s)
        observed = self._observed(origin_s)
        unmoved = [member.name for member in self._members.values() if member.started_s <= origin_s]
        self._end(stream)
        return run_of(
            self._protocol,
            dict(self._properties),
            scenario,
            observed,
            began_s - origin_s,
            self._rebalances(origin_s),
            unmoved,
            {f"m{slow.member}" for slow in scenario.slow},
        )

    # --- the cast --------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        name = f"m{number}"
        properties = {
            key: value.replace("{member}", name) if isinstance(value, str) else value
            for key, value in self._properties.items()
        }
        self._leaving[name] = False
        config = {"client.id": name, "auto.offset.reset": "earliest", **properties}
        task = self._cluster.spawn(
            _consume,
            self._cluster,
            self._group,
            self._topic,
            config,
            self._slow.get(number),
            self._leaving,
            self._generations,
            name=name,
            process=self._in_processes,
        )
        self._members[number] = _Member(name, task, self._cluster.now)

    def _happen(self, event: Event, stream: _Stream) -> None:
        if event.what == GROW:
            assert event.argument is not None
            stream.grow(int(event.argument))
        elif event.what == ROLL:
            for number in list(self._members):
                self._leave(number)
                self._cluster.run_for(RESTART_S)
                self._start(number)
                self._cluster.run_for(max(0.0, roll_pause_s(event) - RESTART_S))
        else:
            number = newest(self._members) if event.argument is None else int(event.argument)
            if event.what == LEAVE:
                self._leave(number)
            else:
                member = self._members.pop(number)
                member.task.kill()
                self._killed_s[member.name] = self._cluster.now

    def _leave(self, number: int) -> None:
        member = self._members.pop(number)
        self._leaving[member.name] = True
        if self._in_processes:
            member.task.stop()
        self._cluster.run_until(lambda: member.task.done, timeout=_SETTLE_TIMEOUT_S)
        member.task.result()

    def _end(self, stream: _Stream) -> None:
        stream.end()
        for number in list(self._members):
            self._leave(number)

    # --- watching --------------------------------------------------------------------------------------------------

    def _settle(self) -> float:
        """Wait until the partitions are shared evenly and nothing has moved for a while; when that began to be counted."""
        deadline_s = self._cluster.now + _SETTLE_TIMEOUT_S
        while not self._is_settled():
            for member in self._members.values():
                if member.task.done:
                    member.task.result()
            if self._cluster.now >= deadline_s:
                raise TimeoutError(
                    f"the {self._protocol} group of {len(self._members)} members did not settle in {_SETTLE_TIMEOUT_S:g} s"
                )
            self._cluster.run_for(0.5)
        return float(self._cluster.now)

    def _is_settled(self) -> bool:
        now_s = self._cluster.now
        observed = self._observed(0.0)
        owners = owners_at(observed, now_s - _POLL_S)
        shares = dict.fromkeys((member.name for member in self._members.values()), 0)
        for listed in owners.values():
            for owner in listed:
                shares[owner] = shares.get(owner, 0) + 1
        each_owned_once = len(owners) == self._scenario.partitions == sum(shares.values())
        is_even = max(shares.values()) - min(shares.values()) <= 1
        last_s = max((span.from_s for span in observed.ownerships), default=now_s)
        return each_owned_once and is_even and now_s - last_s >= _SETTLED_AFTER_S

    def _observed(self, origin_s: float) -> Observed:
        history = self._cluster.history
        events = history.collect() if hasattr(history, "collect") else history
        return observe(
            events.events[self._first_event :], self._topic, self._group, origin_s, self._cluster.now, self._killed_s
        )

    def _rebalances(self, origin_s: float) -> int:
        """Generations (or epochs) that some member saw, beyond the one in which the group had settled."""
        settled = max((generation for at_s, generation in self._generations if at_s < origin_s), default=0)
        return len({generation for at_s, generation in self._generations if at_s >= origin_s and generation > settled})

    def _pass_until(self, at_s: float) -> None:
        left_s = at_s - self._cluster.now
        if left_s > 0:
            self._cluster.run_for(left_s)


class _Stream:
    """A record for every partition at a steady pace."""

    def __init__(self, cluster: Any, topic: str, scenario: Scenario) -> None:
        self._cluster, self._topic = cluster, topic
        self._partitions = scenario.partitions
        self._interval_s = 1.0 / scenario.records_per_second
        self._is_running = True
        self._task = cluster.spawn(self._produce, name="stream")

    def grow(self, partitions: int) -> None:
        """Give the topic more partitions; they get records as soon as they are there."""
        admin = self._cluster.admin()
        new_partitions = import_module(type(admin).__module__).NewPartitions
        for future in admin.create_partitions([new_partitions(self._topic, partitions)]).values():
            future.result(30.0)
        self._partitions = partitions

    def end(self) -> None:
        self._is_running = False
        self._cluster.run_until(lambda: self._task.done, timeout=60.0)
        self._task.result()

    def _produce(self) -> None:
        producer = self._cluster.producer({"linger.ms": 5, "topic.metadata.refresh.interval.ms": 1000})
        due_s = self._cluster.now
        while self._is_running:
            for partition in range(self._partitions):
                with contextlib.suppress(Exception):  # A partition that was made just now may still be unknown here.
                    producer.produce(self._topic, value=b"-", partition=partition)
            due_s += self._interval_s
            for _ in _every_until(self._cluster, due_s):
                producer.poll(max(0.0, min(_POLL_S, due_s - self._cluster.now)))
        producer.flush(10.0)


def _every_until(cluster: Any, at_s: float) -> Iterator[None]:
    while cluster.now < at_s:
        yield


def _consume(
    cluster: Any,
    group: str,
    topic: str,
    config: Mapping[str, object],
    slow: SlowMember | None,
    leaving: Mapping[str, bool],
    generations: list[tuple[float, int]],
) -> None:
    """A member: poll in a loop until told to stop, then close."""

    def on_assign(consumer: Any, partitions: object) -> None:
        metadata = consumer.consumer_group_metadata()
        if metadata is not None:
            generations.append((cluster.now, generation_of(metadata)))

    consumer = cluster.consumer(group, (), config)
    consumer.subscribe([topic], on_assign=on_assign)
    name = str(config["client.id"])
    began_s = cluster.now
    try:
        while not leaving[name]:
            if slow is not None and (cluster.now - began_s) % slow.every_s >= slow.polls_s:
                cluster.run_for(slow.every_s - (cluster.now - began_s) % slow.every_s)
            consumer.poll(_POLL_S)
    except SystemExit:
        return
    finally:
        consumer.close()


def generation_of(metadata: bytes) -> int:
    """The generation, or the member epoch, that librdkafka writes behind the mark of its group metadata."""
    return int(_GENERATION.unpack_from(metadata, _GENERATION_AT)[0])
