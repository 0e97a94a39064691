"""Producer traces: one step after the other by its action's name, on brokers that are frozen, killed and started as the recorded ones were.

A step is done when the one before is over, and then as much time passes as had passed in the recording. Producer ids vary from run to
run: what is compared is which batches bear the same one. A follower that is frozen has a fetch parked at its leader or, more rarely,
has none just then: the record written next is in its log or is not, and both are tried. Steps of the recorder that have no
counterpart here (Kafka's own tools) are passed over and named. Where transactions are not modelled, a trace is compared as
far as it goes without them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tests.golden.members import error_name
from tests.golden.verdict import Verdict

import kafkasim
from kafkasim.confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from kafkasim.core.model.ids import TopicPartition as Place

Fields = dict[str, Any]

LEFT_OUT = "times, producer ids, how many events one poll served, how often a lost connection was reported"
#: A reply has this long after its recorded time to come.
GRACE_S = 10.0
REPORTED_TOGETHER_S = 0.01
FETCH_STEP_S = 0.000_05
_NOT_MODELLED = "_NOT_IMPLEMENTED"


class NotModelled(Exception):
    """The step needs what is not there yet."""


class Replay:
    """One trace on one cluster; each action's method takes the recorded arguments and the seconds the step took."""

    def __init__(self, trace: Fields, between_fetches: bool) -> None:
        steps = trace["steps"]
        brokers = max((len(step.get("args", {}).get("replicas", ())) for step in steps), default=0) or 1
        self.cluster = kafkasim.Cluster(brokers, seed=1)
        self._steps = steps
        self._between_fetches = between_fetches
        self._topic = ""
        self._producers: dict[str, Any] = {}
        self._reports: dict[str, list[Fields]] = {}
        self._errors: dict[str, list[Fields]] = {}
        self._last = ""
        self._expected: Any = None
        self._does: dict[str, Callable[[Fields, float], Any]] = {
            "Producer": self._construct,
            "create_topic": self._create_topic,
            "new_producer": self._new_producer,
            "produce": self._produce,
            "poll": self._poll,
            "delivery_reports": lambda args, _: self._delivered(args),
            "error_cb": lambda args, _: self._take(self._errors, args),
            "read_to_eof": lambda args, _: self._read(args["isolation"]),
            "log_segments": lambda args, _: self._log(args.get("partition", 0)),
            "metadata": lambda _, took: self._metadata(took),
            "new leader": lambda _, __: self._new_leader(),
            "SIGSTOP broker": lambda _, __: self._each([1], "pause", "ok"),
            "SIGCONT broker": lambda _, __: self._each([1], "resume", "ok"),
            "broker started again": lambda _, __: self._each([1], "start", "ok"),
            "sleep": lambda _, __: None,
            "case": lambda _, __: None,
        }

    def run(self) -> Verdict:
        """Compared up to the first difference, or the first step that nothing here can do."""
        began, case, left_out = 0.0, 0, [LEFT_OUT]
        started = self.cluster.now
        for number, step in enumerate(self._steps):
            action, args = step["action"], step.get("args", {})
            if action == "case":
                case = number
            if action.startswith("kafka-transactions.sh"):
                left_out.append(f"step {number} ({action.split(' --')[0]})")
                continue
            does = self._doer(action, step)
            if does is None:
                return Verdict.not_comparable(f"step {number}: no such action as {action!r} here")
            self._expected = step.get("result")
            try:
                own = self._outcome(does, args, step["t"] - began)
            except NotModelled as missing:
                if case == 0:
                    return Verdict.not_comparable(f"step {number} ({action}): {missing}")
                left_out.append(f"from step {case} on: {missing}")
                return Verdict.equal(f"{case} steps", "; ".join(left_out))
            difference = _difference(action, step, own)
            if difference:
                return Verdict.different(f"step {number} ({action}): {difference}", "; ".join(left_out))
            began = step["t"]
            self.cluster.run_for(max(0.0, began - (self.cluster.now - started)))
        return Verdict.equal(f"{len(self._steps)} steps", "; ".join(left_out))

    def _doer(self, action: str, step: Fields) -> Callable[[Fields, float], Any] | None:
        """What does the action; one upon a producer is the producer's own method, one upon brokers names them in its result."""
        on_brokers = {
            "SIGSTOP brokers": "pause",
            "SIGCONT brokers": "resume",
            "kill -9 broker": "crash",
            "start broker": "start",
        }
        if action in on_brokers:
            result = step["result"]
            ids = result if isinstance(result, list) else [result] if isinstance(result, int) else [1]
            return lambda _, __: self._harm(ids, on_brokers[action], result)
        if action in self._does:
            return self._does[action]
        if action in ("send_offsets_to_transaction", "committed"):
            return self._not_yet
        return self._on_producer(action) if hasattr(Producer, action) else None

    def _not_yet(self, args: Fields, took: float) -> Any:
        raise NotModelled("transactions are not modelled yet")

    def _outcome(self, does: Callable[[Fields, float], Any], args: Fields, took: float) -> Fields:
        try:
            return {"result": does(args, took)}
        except KafkaException as problem:
            told = told_error(problem.args[0], "KafkaException")
            if told["error"] == _NOT_MODELLED:
                raise NotModelled("transactions are not modelled yet") from problem
            return {"error": told}

    # --- clients -----------------------------------------------------------------------------------------------------

    def _construct(self, args: Fields, _: float) -> str:
        Producer({"bootstrap.servers": self.cluster.bootstrap_servers, **args})
        return "ok"

    def _new_producer(self, args: Fields, _: float) -> str:
        if "transactional.id" in args and not transactions_are_modelled():
            raise NotModelled("transactions are not modelled yet")
        name = args["producer"]
        config = {key: value for key, value in args.items() if key != "producer"}
        reports: list[Fields] = []
        errors: list[Fields] = []
        self._reports[name], self._errors[name], self._last = reports, errors, name

        def on_delivery(error: Any, message: Any) -> None:
            value = None if message.value() is None else message.value().decode()
            told = None if error is None else told_error(error, "KafkaError")
            reports.append({"v": value, "p": message.partition(), "o": message.offset(), "error": told})

        def on_error(error: Any) -> None:
            errors.append(told_error(error, "KafkaError"))

        self._producers[name] = self.cluster.producer({"on_delivery": on_delivery, "error_cb": on_error, **config})
        return "ok"

    def _producer(self, args: Fields) -> Any:
        return self._producers[args.get("producer", self._last)]

    def _on_producer(self, method: str) -> Callable[[Fields, float], Any]:
        return lambda args, _: getattr(self._producer(args), method)(*args.get("args", ()))

    def _produce(self, args: Fields, _: float) -> str:
        more = {"partition": args["partition"]} if "partition" in args else {}
        self._producer(args).produce(args.get("topic", self._topic), args["value"], **more)
        return "queued"

    def _poll(self, args: Fields, took: float) -> int:
        """A call that served nothing took as long as it was allowed to; one that served something would have waited longer."""
        return int(self._producer(args).poll(took if self._expected == 0 else GRACE_S))

    def _delivered(self, args: Fields) -> list[Fields]:
        """Records that were sent one after the other are reported one after the other, or together."""
        for _ in range(10):
            if len(self._reports[args["producer"]]) >= len(self._expected):
                break
            self._producer(args).poll(REPORTED_TOGETHER_S)
        return self._take(self._reports, args)

    @staticmethod
    def _take(told: dict[str, list[Fields]], args: Fields) -> list[Fields]:
        taken = told[args["producer"]][:]
        told[args["producer"]].clear()
        return taken

    # --- the cluster -------------------------------------------------------------------------------------------------

    def _create_topic(self, args: Fields, _: float) -> str:
        from kafkasim.confluent_kafka.admin import NewTopic

        self._topic = args["topic"]
        replicas = args.get("replicas", [1])
        new = NewTopic(self._topic, replica_assignment=[replicas] * args["partitions"])
        (future,) = self.cluster.admin().create_topics([new]).values()
        future.result()
        return "ok"

    def _harm(self, brokers: list[int], method: str, result: Any) -> Any:
        if method == "pause" and self._between_fetches:
            leader = self.cluster.describe_topic(self._topic)[0].leader
            node: Any = self.cluster._servers[leader].node
            sessions = node.broker.data_plane._fetches._sessions
            while any(sessions[each].parked is not None for each in brokers[:1] if each in sessions):
                self.cluster.run_for(FETCH_STEP_S)
        return self._each(brokers, method, result)

    def _each(self, brokers: list[int], method: str, result: Any) -> Any:
        for broker in brokers:
            getattr(self.cluster.broker(broker), method)()
        return result

    def _metadata(self, took: float) -> Fields:
        """The recorder looked when the cluster had come to rest."""
        self.cluster.run_for(took)
        described = self.cluster.describe_topic(self._topic)[0]
        return {"leader": described.leader, "isr": sorted(described.isr)}

    def _new_leader(self) -> int:
        before = self.cluster.describe_topic(self._topic)[0].leader
        self.cluster.run_until(lambda: self.cluster.describe_topic(self._topic)[0].leader not in (-1, before))
        return self.cluster.describe_topic(self._topic)[0].leader

    def _read(self, isolation: str) -> Fields:
        """Everything up to the end that a consumer of this isolation level sees."""
        config = {
            "bootstrap.servers": self.cluster.bootstrap_servers,
            "group.id": "reader",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        consumer = Consumer(config)
        count = len(self.cluster.describe_topic(self._topic))
        every = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in range(count)]
        consumer.assign(every)
        records: list[Fields] = []
        ends: dict[str, int] = {}
        while len(ends) < count:
            message = consumer.poll(GRACE_S)
            if message is None:
                raise NotModelled(f"no end of the partition within {GRACE_S} s")
            if message.error() is None:
                records.append({"p": message.partition(), "o": message.offset(), "v": message.value().decode()})
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ends[str(message.partition())] = message.offset()
        found = {
            "records": records,
            "eof_offset": ends,
            "position": [part.offset for part in consumer.position(every)],
            "watermarks(lo,hi)": [list(consumer.get_watermark_offsets(part)) for part in every],
            "list_offsets_latest": {level.name.lower(): self._latest(count, level) for level in IsolationLevel},
        }
        consumer.close()
        return found

    def _latest(self, count: int, level: Any) -> list[int]:
        from kafkasim.confluent_kafka.admin import OffsetSpec

        asked = {TopicPartition(self._topic, number): OffsetSpec.latest() for number in range(count)}
        futures = self.cluster.admin().list_offsets(asked, isolation_level=level)
        return [futures[part].result().offset for part in asked]

    def _log(self, partition: int) -> list[Fields]:
        return [_batch(batch) for batch in self.cluster.log(Place(self._topic, partition))]


@functools.cache
def transactions_are_modelled() -> bool:
    """Asked of the simulator, so that traces with transactions are compared from the day on that it has them."""
    with kafkasim.Cluster(1, seed=1) as cluster:
        try:
            cluster.producer({"transactional.id": "probe"}).init_transactions(GRACE_S)
        except KafkaException as problem:
            return error_name(problem.args[0]) != _NOT_MODELLED
    return True


def told_error(error: Any, exception: str) -> Fields:
    """An error in the words of the traces."""
    return {
        "exception": exception,
        "error": error_name(error),
        "code": error.code(),
        "text": error.str(),
        "fatal": error.fatal(),
        "retriable": error.retriable(),
        "txn_requires_abort": error.txn_requires_abort(),
    }


def _batch(batch: Any) -> Fields:
    """A batch as DumpLogSegments prints it."""
    sequence = batch.base_sequence
    fields = {
        "baseOffset": batch.base_offset,
        "lastOffset": batch.last_offset,
        "count": batch.count,
        "baseSequence": sequence,
        "lastSequence": sequence if sequence < 0 else sequence + batch.count - 1,
        "producerId": batch.producer_id,
        "producerEpoch": batch.producer_epoch,
        "isTransactional": batch.is_transactional,
        "isControl": batch.is_control,
    }
    return {name: str(value).lower() for name, value in fields.items()}


def _difference(action: str, step: Fields, own: Fields) -> str:
    if "error" in step or "error" in own:
        wanted, got = step.get("error"), own.get("error")
    elif action == "case":
        return ""
    else:
        wanted, got = step.get("result"), own["result"]
    if action == "log_segments":
        wanted, got = _ranked(wanted), _ranked(got)
    elif action == "poll":
        wanted, got = bool(wanted), bool(got)
    elif action == "error_cb":
        wanted, got = (sorted({told["error"] for told in each}) for each in (wanted, got))
    return "" if wanted == got else f"{wanted!r}, got {got!r}"


def _ranked(batches: list[Fields]) -> list[Fields]:
    """Producer ids by their order of appearance."""
    ranks: dict[str, int] = {"-1": -1}
    return [{**batch, "producerId": ranks.setdefault(batch["producerId"], len(ranks))} for batch in batches]


def replay(trace: Fields) -> Verdict:
    """Compare a producer trace with the simulator, up to its first difference."""
    verdicts = []
    for between_fetches in (False, True):
        run = Replay(trace, between_fetches)
        with run.cluster:
            verdicts.append(run.run())
        if verdicts[-1].kind != "different":
            return verdicts[-1]
    return verdicts[0]
