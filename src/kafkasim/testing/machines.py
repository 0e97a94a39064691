"""Rule machines of Hypothesis over a cluster: a base class with rules that write, read and break things, and a judge at the end.

Inputs:   class attributes (brokers, topics, configs), hooks (``prepare``, ``judge``), rules and invariants that a subclass adds.
Effects:  at the end of each example everything is healed, the cluster gets ``settle_s``, and its history is held against its promises.
Rule 1:   nodes are counted through those that a rule can hit, so that every drawn number means something, and small ones shrink well.
Rule 2:   an example that failed already is not judged again: what the rule raised stands.

    class OrdersMachine(ClusterMachine):
        topics = {"orders": {"partitions": 2, "config": {"min.insync.replicas": 2}}}

        def prepare(self):
            self.cluster.guarantee("machine", topics="orders", at_least_once=True)

    TestOrders = OrdersMachine.TestCase
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kafkasim.check.report import Report
from kafkasim.handle import Cluster
from kafkasim.testing.audit import audit
from kafkasim.testing.examples import Sight, broken, show, tell
from kafkasim.testing.strategies import seeds

_FLUSH_S = 120.0
_MOMENT_S = 0.02
_TOPICS = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.topics)))
_HARMS = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.harms)))
_DOWN = ("paused", "stopping", "stopped", "crashed", "off")
_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 6.0, 12.0, 30.0)


class ClusterMachine(RuleBasedStateMachine):
    """A cluster under rules. ``cluster`` is there from `begin` on.

    Attributes:
        brokers, options: of the cluster, as of ``kafkasim.Cluster``.
        topics: name to the arguments of ``create_topic``.
        producer_config, consumer_config: of the one producer and the one consumer that the rules use.
        group: the consumer's, which has joined before any rule; None: nobody reads.
        harms: what may happen to a server, from the least harm to the most.
        read_s: how long the consumer waits for what it was told to read.
        settle_s: virtual seconds between the end of the rules, with everything healed, and the verdict.
        is_audited: hold every log, high watermark and election against what replication promises, too.
    """

    brokers: int = 3
    options: Mapping[str, Any] = {}
    topics: Mapping[str, Mapping[str, Any]] = {"orders": {"config": {"min.insync.replicas": 2}}}
    producer_config: Mapping[str, Any] = {"acks": "all", "enable.idempotence": True, "linger.ms": 0}
    consumer_config: Mapping[str, Any] = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
    group: str | None = "machine"
    harms: Sequence[str] = ("pause", "shutdown", "crash", "power_loss")
    read_s: float = 5.0
    settle_s: float = 60.0
    is_audited: bool = True

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self._is_begun = False
        #: What is being handled around the whole example is nothing that a rule raised.
        self._outer = sys.exc_info()[1]
        self._written = 0
        self._producer: Any = None
        self._consumer: Any = None

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Called with the topics created, before any rule: promises, tasks, more topics."""

    def judge(self) -> Report:
        """Called when everything is healed and settled."""
        return self.cluster.check()

    # --- the beginning and the end -----------------------------------------------------------------------------------

    @initialize(seed=seeds())
    def begin(self, seed: int) -> None:
        """A new cluster for a new example."""
        self.cluster = Cluster(brokers=self.brokers, seed=seed, **self.options)
        self._is_begun = True
        self._sight = Sight(self.cluster)
        if self.is_audited:
            audit(self.cluster)
        for name, arguments in self.topics.items():
            self.cluster.create_topic(name, **arguments)
        self._producer = self.cluster.producer(self.producer_config)
        self.prepare()
        if self.group is not None:
            # While all is well: the topic of the groups' offsets cannot be made with a broker down.
            self._consumer = self.cluster.consumer(self.group, sorted(self.topics), self.consumer_config)
            while not self._consumer.assignment():
                self._consumer.poll(1.0)

    def teardown(self) -> None:
        """Heal, settle, judge."""
        if not self._is_begun:
            return
        try:
            problem = sys.exc_info()[1]
            if problem is self._outer:
                self._end()
            elif isinstance(problem, Exception):
                show(self.cluster, problem=problem)
        finally:
            self.cluster.close()

    def _end(self) -> None:
        cluster = self.cluster
        cluster.network.heal()
        for node in self._nodes(*_DOWN):
            self._start(node)
        self._producer.flush(_FLUSH_S)
        cluster.run_for(self.settle_s)
        report = self.judge()
        tell(cluster, report, self._sight)
        if not report.ok:
            show(cluster, report=report)
            raise broken(report)

    # --- work --------------------------------------------------------------------------------------------------------

    @rule(topic=_TOPICS, count=st.integers(1, 5), key=st.none() | st.integers(0, 3))
    def produce(self, topic: str, count: int, key: int | None) -> None:
        """Write some records, each different from all others, and give them a moment; their reports come when they come."""
        for _ in range(count):
            name = None if key is None else f"key-{key}".encode()
            self._producer.produce(topic, str(self._written).encode(), name)
            self._written += 1
        self._producer.poll(_MOMENT_S)

    @precondition(lambda self: self._consumer is not None)
    @rule(most=st.integers(1, 20))
    def consume(self, most: int) -> None:
        """Read for up to ``read_s``, as a member of the group."""
        self.take([message for message in self._consumer.consume(most, self.read_s) if message.error() is None])

    def take(self, messages: Sequence[Any]) -> None:
        """What the group does with what it was given: a sink, in a subclass."""

    @precondition(lambda self: self._consumer is not None)
    @rule()
    def commit(self) -> None:
        """Commit what was read; that may fail, as commits may."""
        from kafkasim.confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            self._consumer.commit(asynchronous=False)

    @rule(seconds=st.sampled_from(_SECONDS))
    def pass_time(self, seconds: float) -> None:
        """Nothing but time."""
        self.cluster.run_for(seconds)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _nodes(self, *states: str) -> list[int]:
        servers = [self.cluster.broker(node) for node in self.cluster._servers]
        return [server.ids[0] for server in servers if server.state in states]

    def _start(self, node: int) -> None:
        server = self.cluster.broker(node)
        if server.state == "stopping":
            server.crash()
        server.start()
        server.resume()

    @precondition(lambda self: self._nodes("running"))
    @rule(how=_HARMS, index=st.integers(0, 7))
    def harm(self, how: str, index: int) -> None:
        """Do to a running server what ``harms`` says."""
        running = self._nodes("running")
        self._sight.look()
        getattr(self.cluster.broker(running[index % len(running)]), how)()

    @precondition(lambda self: self._nodes(*_DOWN))
    @rule(index=st.integers(0, 7))
    def restart(self, index: int) -> None:
        """Start one that is down, or let one that is frozen go on."""
        down = self._nodes(*_DOWN)
        self._start(down[index % len(down)])

    @rule(one=st.integers(0, 7), step=st.integers(1, 7), one_way=st.booleans())
    def partition(self, one: int, step: int, one_way: bool) -> None:
        """Cut one broker off from another."""
        brokers = self.cluster.broker_ids()
        if len(brokers) > 1:
            self._sight.look()
            first = one % len(brokers)
            other = (first + 1 + (step - 1) % (len(brokers) - 1)) % len(brokers)
            self.cluster.network.partition(brokers[first], brokers[other], one_way=one_way)

    @rule()
    def heal(self) -> None:
        """The network is whole again."""
        self.cluster.network.heal()
