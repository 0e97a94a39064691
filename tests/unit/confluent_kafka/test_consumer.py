"""Consumer over an engine that a test controls."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.confluent_kafka.fakes import FakeConsumerEngine, FakeShell

from kafkasim.confluent_kafka.cimpl import Consumer, KafkaError, KafkaException, Message, TopicPartition
from kafkasim.core.client.items import CommitDone, ConsumerError, Rebalance, Slice
from kafkasim.core.client.operation import ClientEvent
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetAndMetadata
from kafkasim.core.model.ids import TopicPartition as Partition
from kafkasim.core.model.records import batch_of

T0, T1 = Partition("t", 0), Partition("t", 1)


def slice_of(count: int, start: int = 0, tp: Partition = T0, base_offset: int = 100) -> Slice:
    """Records of a batch."""
    batch = batch_of([b"v%d" % index for index in range(count)], timestamp_ms=5).placed(base_offset, 2)
    return Slice(tp, batch, start, count)


@pytest.fixture
def consumer(shells: list[FakeShell]) -> Consumer:
    return Consumer({"group.id": "g"})


def engine_of(consumer: Consumer) -> FakeConsumerEngine:
    engine: FakeConsumerEngine = consumer._engine
    return engine


def shell_of(consumer: Consumer) -> FakeShell:
    shell: Any = consumer._shell
    assert isinstance(shell, FakeShell)
    return shell


def put(consumer: Consumer, *items: Any) -> None:
    engine_of(consumer).queue.extend(items)


# --- poll and consume ----------------------------------------------------------------------------------------------


def test_poll_returns_messages_one_by_one(consumer: Consumer) -> None:
    """Each poll() gives the next record, with its place."""
    put(consumer, slice_of(1), slice_of(1, tp=T1))
    first, second = consumer.poll(0), consumer.poll(1.0)
    assert first is not None
    assert second is not None
    assert (first.topic(), first.partition(), first.offset(), first.value()) == ("t", 0, 100, b"v0")
    assert (second.partition(), second.error(), second.leader_epoch()) == (1, None, 2)


def test_poll_waits_and_gives_up(consumer: Consumer) -> None:
    """poll() ends with the first message, or with None at its time; the engine knows while it waits."""
    shell_of(consumer).at(0.3, put, consumer, slice_of(1))
    assert consumer.poll(1) is not None
    assert shell_of(consumer).now_us == 300_000
    assert engine_of(consumer).calls == [("begin_poll",), ("end_poll",)]
    assert consumer.poll(0.5) is None
    assert (shell_of(consumer).now_us, shell_of(consumer).fruitless_calls) == (800_000, 1)


def test_errors_come_as_messages(consumer: Consumer) -> None:
    """The error's text is also the message's value; an error of no partition has partition 0, and no topic or offset."""
    put(consumer, ConsumerError(ErrorCode._PARTITION_EOF, "at the end", T0, 5), ConsumerError(ErrorCode._FAIL, "bad"))
    end, failure = consumer.consume(2, 1)
    assert end.error() == KafkaError._PARTITION_EOF
    assert (end.topic(), end.partition(), end.offset(), end.value(), end.timestamp()) == (
        "t",
        0,
        5,
        b"at the end",
        (0, -1),
    )
    assert (failure.topic(), failure.partition(), failure.offset(), str(failure.error())) == (
        None,
        0,  # librdkafka leaves the field as it was made: cleared.
        None,
        'KafkaError{code=_FAIL,val=-196,str="bad"}',
    )


def test_consume_collects_until_number_or_time(consumer: Consumer) -> None:
    """consume() waits for all it was asked for, up to its timeout."""
    put(consumer, slice_of(3))
    shell_of(consumer).at(0.2, put, consumer, slice_of(2, tp=T1))
    assert [message.value() for message in consumer.consume(5, 1.0)] == [b"v0", b"v1", b"v2", b"v0", b"v1"]
    assert shell_of(consumer).now_us == 200_000
    put(consumer, slice_of(1))
    assert len(consumer.consume(num_messages=2, timeout=0.5)) == 1
    assert shell_of(consumer).now_us == 700_000
    assert consumer.consume(0, 0) == []
    for wrong in (-1, 1_000_001):
        with pytest.raises(ValueError, match=r"^num_messages must be between 0 and 1000000 \(1M\)$"):
            consumer.consume(wrong, 0)


@pytest.mark.parametrize("call", [lambda c: c.poll("x"), lambda c: c.poll(None), lambda c: c.consume(1, "x")])
def test_timeout_must_be_a_number(consumer: Consumer, call: Any) -> None:
    """The words of the C function."""
    with pytest.raises(TypeError, match=r"must be real number, not (str|NoneType)"):
        call(consumer)


# --- Rebalances ----------------------------------------------------------------------------------------------------


def test_rebalances_are_answered_for_the_application(consumer: Consumer) -> None:
    """Without callbacks the binding assigns and unassigns, or does so incrementally in a cooperative group."""
    put(consumer, Rebalance("assign", [T0, T1], "EAGER"), slice_of(1))
    assert consumer.poll(0) is not None
    assert [str(tp) for tp in consumer.assignment()] == [
        "TopicPartition{topic=t,partition=0,offset=-1000,leader_epoch=None,error=None}",
        "TopicPartition{topic=t,partition=1,offset=-1000,leader_epoch=None,error=None}",
    ]
    put(consumer, Rebalance("revoke", [T1], "COOPERATIVE"), Rebalance("assign", [T1], "COOPERATIVE"))
    put(consumer, Rebalance("revoke", [T0, T1], "EAGER"))
    assert consumer.poll(0) is None
    assert engine_of(consumer).calls == [
        ("assign", [(T0, -1001), (T1, -1001)]),
        ("incremental_unassign", [T1]),
        ("incremental_assign", [(T1, -1001)]),
        ("unassign",),
    ]


def test_callbacks_may_answer_themselves(consumer: Consumer) -> None:
    """on_assign that assigns with offsets of its own is not answered a second time."""
    told: list[Any] = []

    def on_assign(who: Consumer, partitions: list[TopicPartition]) -> None:
        told.append((who is consumer, [(tp.topic, tp.partition, tp.offset) for tp in partitions]))
        for tp in partitions:
            tp.offset = 40
        who.assign(partitions)

    consumer.subscribe(["t"], on_assign=on_assign)
    put(consumer, Rebalance("assign", [T0], "EAGER"))
    consumer.poll(0)
    assert told == [(True, [("t", 0, -1001)])]
    assert engine_of(consumer).calls == [("subscribe", ["t"]), ("assign", [(T0, 40, -1)])]
    assert consumer.assignment()[0].offset == 40


def test_lost_partitions_go_to_on_lost_or_on_revoke(consumer: Consumer) -> None:
    """on_lost if there is one, else on_revoke; then the assignment is given up."""
    told: list[str] = []
    consumer.subscribe(["t"], on_revoke=lambda c, p: told.append("revoke"))
    put(consumer, Rebalance("lost", [T0], "EAGER"))
    consumer.poll(0)
    consumer.subscribe(["t"], on_revoke=lambda c, p: told.append("revoke"), on_lost=lambda c, p: told.append("lost"))
    put(consumer, Rebalance("lost", [T0], "EAGER"))
    consumer.poll(0)
    assert told == ["revoke", "lost"]


def test_exception_in_on_assign_leaves_poll_after_the_answer(consumer: Consumer) -> None:
    """The group goes on: the assignment is made, and what follows comes with the next poll(), or is lost to a long one."""

    def on_assign(who: Consumer, partitions: Any) -> None:
        raise ValueError("bad")

    consumer.subscribe(["t"], on_assign=on_assign)
    put(consumer, Rebalance("assign", [T0], "EAGER"), slice_of(1))
    with pytest.raises(ValueError, match="bad"):
        consumer.poll(0.199)
    assert len(consumer.assignment()) == 1
    assert consumer.poll(0) is not None
    put(consumer, Rebalance("assign", [T0], "EAGER"), slice_of(1), slice_of(1))
    with pytest.raises(ValueError, match="bad"):
        consumer.poll(1)
    assert consumer.poll(0) is not None
    assert consumer.poll(0) is None


def test_consume_raises_at_its_end_and_drops_what_it_had(consumer: Consumer) -> None:
    """As the real client: an exception in a callback costs the messages of the same consume()."""

    def on_assign(who: Consumer, partitions: Any) -> None:
        raise ValueError("bad")

    consumer.subscribe(["t"], on_assign=on_assign)
    put(consumer, Rebalance("assign", [T0], "EAGER"), slice_of(3))
    with pytest.raises(ValueError, match="bad"):
        consumer.consume(10, 2.0)
    assert shell_of(consumer).now_us == 2_000_000
    assert consumer.consume(10, 0) == []


# --- Commits -------------------------------------------------------------------------------------------------------


def test_commit_forms(consumer: Consumer) -> None:
    """A message commits its offset + 1; offsets as given; nothing means what is stored."""
    message = Message("t", 1, 41, leader_epoch=3)
    assert consumer.commit(message) is None
    consumer.commit(offsets=[TopicPartition("t", 0, 7, "note", 2)])
    consumer.commit()
    consumer.commit(**{"async": True})
    assert engine_of(consumer).calls == [
        ("commit", [(T1, OffsetAndMetadata(42, 3))], False),
        ("commit", [(T0, OffsetAndMetadata(7, 2, "note\0"))], False),
        ("commit", None, False),
        ("commit", None, False),
    ]


def test_synchronous_commit_waits(consumer: Consumer) -> None:
    """It blocks until the outcome is there and returns it partition by partition."""
    operation = engine_of(consumer).operation
    outcome = [(T0, OffsetAndMetadata(7), ErrorCode.NONE), (T1, OffsetAndMetadata(8), ErrorCode.ILLEGAL_GENERATION)]
    shell_of(consumer).at(0.1, operation.succeed, outcome)
    zero, one = consumer.commit(asynchronous=False)  # type: ignore[misc]
    assert (zero.partition, zero.offset, zero.error) == (0, 7, None)
    assert (one.partition, one.error) == (1, KafkaError.ILLEGAL_GENERATION)


def test_failed_commit_raises(consumer: Consumer) -> None:
    """The real client's words, around the code's own."""
    engine_of(consumer).operation.fail(ErrorCode._NO_OFFSET)
    with pytest.raises(KafkaException) as caught:
        consumer.commit(asynchronous=False)
    assert caught.value.args[0].code() == KafkaError._NO_OFFSET
    assert caught.value.args[0].str() == "Commit failed: Local: No offset stored"


def test_on_commit_hears_of_commits(shells: list[FakeShell]) -> None:
    """on_commit gets (error, partitions) from poll(), in the queue's order."""
    told: list[Any] = []
    consumer = Consumer({"group.id": "g", "on_commit": lambda error, partitions: told.append((error, partitions))})
    assert engine_of(consumer).reports_commits
    put(consumer, CommitDone(ErrorCode.NONE, [(T0, 7, ErrorCode.NONE)]), slice_of(1))
    assert consumer.poll(0) is not None
    assert told[0][0] is None
    assert [(tp.partition, tp.offset) for tp in told[0][1]] == [(0, 7)]
    consumer.commit()
    assert engine_of(consumer).calls == [("commit", None, True)]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda c: c.commit(Message("t", 0, 1), [TopicPartition("t")]), ValueError, "mutually exclusive"),
        (lambda c: c.commit(5), TypeError, "expected confluent_kafka.cimpl.Message"),
        (lambda c: c.commit(offsets=5), TypeError, "requires list of TopicPartition"),
        (lambda c: c.commit(offsets=[5]), TypeError, "expected cimpl.TopicPartition"),
        (lambda c: c.commit(foo=1), TypeError, "'foo' is an invalid keyword argument for this function"),
        (
            lambda c: c.commit(Message("t", 0, 1, error=KafkaError(3))),
            KafkaException,
            "Cannot commit offsets for message with error: 'Broker: Unknown topic or partition'",
        ),
        (lambda c: c.store_offsets(), ValueError, "expected either message or offsets"),
        (lambda c: c.store_offsets(5), TypeError, "expected confluent_kafka.cimpl.Message"),
        (
            lambda c: c.store_offsets(Message("t", 0, 1, error=KafkaError(3))),
            KafkaException,
            "Cannot store offsets for message with error: 'Broker: Unknown topic or partition'",
        ),
        (lambda c: c.subscribe(), TypeError, "function missing required argument 'topics' (pos 1)"),
        (lambda c: c.subscribe("t"), TypeError, "expected list of topic unicode strings"),
        (lambda c: c.subscribe(["t"], 5), TypeError, "on_assign expects a callable"),
        (lambda c: c.subscribe(["t"], None), TypeError, "on_assign expects a callable"),
        (lambda c: c.subscribe(["t"], on_revoke=5), TypeError, "on_revoke expects a callable"),
        (lambda c: c.subscribe(["t"], on_lost=5), TypeError, "on_lost expects a callable"),
        (lambda c: c.assign(5), TypeError, "requires list of TopicPartition"),
        (lambda c: c.assign([5]), TypeError, "expected cimpl.TopicPartition"),
        (lambda c: c.assign((TopicPartition("t"),)), TypeError, "requires list of TopicPartition"),
        (lambda c: c.seek(5), TypeError, "expected cimpl.TopicPartition"),
        (lambda c: c.position(5), TypeError, "requires list of TopicPartition"),
        (lambda c: c.committed(), TypeError, "function missing required argument 'partitions' (pos 1)"),
        (lambda c: c.committed([], "x"), TypeError, "must be real number, not str"),
        (lambda c: c.get_watermark_offsets(5), TypeError, "expected cimpl.TopicPartition"),
        (lambda c: c.pause(5), TypeError, "requires list of TopicPartition"),
        (lambda c: c.offsets_for_times([]), KafkaException, "Failed to get offsets: Local: Invalid argument"),
        (lambda c: len(c), TypeError, "has no len()"),
    ],
)
def test_wrong_arguments(consumer: Consumer, call: Any, error: type[Exception], text: str) -> None:
    """Classes and words of the C functions."""
    with pytest.raises(error) as caught:
        call(consumer)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.subscribe([]), "Failed to set subscription: Local: Invalid argument or configuration"),
        (lambda c: c.assign([TopicPartition("t", 0)] * 2), "Failed to set assignment: Local: Invalid argument"),
        (lambda c: c.seek(TopicPartition("t", 0, 5)), "Failed to seek to offset 5: Local: Invalid argument"),
        (lambda c: c.store_offsets(Message("t", 0, 1)), "StoreOffsets failed: Local: Invalid argument"),
    ],
)
def test_refusals_of_the_engine(consumer: Consumer, call: Any, text: str) -> None:
    """Each call has its own words before the code's."""
    engine_of(consumer).answer = ErrorCode._INVALID_ARG
    with pytest.raises(KafkaException) as caught:
        call(consumer)
    assert caught.value.args[0].str().startswith(text)


def test_incremental_calls_fail_in_the_engines_words(consumer: Consumer) -> None:
    """What the engine says of a refused increment is the error's whole text."""
    engine = engine_of(consumer)
    engine.answer, engine.last_error_text = ErrorCode._CONFLICT, "t [0] is already part of the current assignment"
    for call in (consumer.incremental_assign, consumer.incremental_unassign):
        with pytest.raises(KafkaException) as caught:
            call([TopicPartition("t", 0)])
        assert caught.value.args[0].code() == KafkaError._CONFLICT
        assert caught.value.args[0].str() == engine.last_error_text


# --- Offsets and the rest --------------------------------------------------------------------------------------------


def test_offset_calls(consumer: Consumer) -> None:
    """store_offsets, committed, position, seek, pause, resume, watermarks and times go to the engine and back."""
    engine = engine_of(consumer)
    consumer.assign([TopicPartition("t", 0, 3)])
    engine.calls.clear()
    asked = consumer.position([TopicPartition("t", 0), TopicPartition("t", 1)])
    assert [(tp.offset, tp.leader_epoch) for tp in asked] == [(7, 3), (-1001, None)]
    consumer.store_offsets(offsets=[TopicPartition("t", 0, 8)])
    consumer.seek(TopicPartition("t", 0, 9, leader_epoch=4))
    consumer.pause([TopicPartition("t", 0)])
    consumer.resume([TopicPartition("t", 0)])
    assert consumer.get_watermark_offsets(TopicPartition("t", 0), cached=True) == (1, 2)
    assert engine.calls == [
        ("store", [(T0, 8, -1, "")]),
        ("seek", T0, 9, 4),
        ("pause", [T0]),
        ("resume", [T0]),
    ]
    engine.operation.succeed((0, 50))
    assert consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=1) == (0, 50)


def test_committed_without_a_commit_is_invalid(consumer: Consumer) -> None:
    """What is not committed has offset -1001; metadata and epoch come along."""
    engine_of(consumer).operation.succeed(
        [(T0, OffsetAndMetadata(-1), ErrorCode.NONE), (T1, OffsetAndMetadata(4, 2, "note"), ErrorCode.NONE)]
    )
    zero, one = consumer.committed([TopicPartition("t", 0), TopicPartition("t", 1)], 1.5)
    assert (zero.offset, zero.metadata, zero.leader_epoch) == (-1001, None, None)
    assert (one.offset, one.metadata, one.leader_epoch) == (4, "note", 2)
    assert engine_of(consumer).calls[-1] == ("committed", [T0, T1], 1_500_000)


def test_group_identity(consumer: Consumer) -> None:
    """memberid() is None before the first join; the metadata are librdkafka's bytes."""
    assert consumer.memberid() is None
    assert consumer.consumer_group_metadata() == b"CGMDv2:\xff\xff\xff\xffg\x00\x00\x01"
    engine = engine_of(consumer)
    engine.member_id, engine.generation_id, engine.group_instance_id = "m-1", 3, "i"
    assert consumer.memberid() == "m-1"
    assert consumer.consumer_group_metadata() == b"CGMDv2:\x03\x00\x00\x00g\x00m-1\x00\x00i\x00"


def test_close_serves_the_last_callbacks(consumer: Consumer) -> None:
    """Revocation and commit reports still reach the application; an exception in one is raised once all is closed."""
    told: list[str] = []

    def on_revoke(who: Consumer, partitions: Any) -> None:
        told.append("revoke")
        raise ValueError("rev")

    consumer.subscribe(["t"], on_revoke=on_revoke)
    shell, engine = shell_of(consumer), engine_of(consumer)
    put(consumer, Rebalance("revoke", [T0], "EAGER"))
    shell.at(0.2, engine.operation.succeed)
    with pytest.raises(ValueError, match="rev"):
        consumer.close()
    assert (told, shell.is_closed) == (["revoke"], True)
    assert ("unassign",) in engine.calls
    consumer.close()


def test_closed_consumer_refuses(consumer: Consumer) -> None:
    """Every call has the real client's RuntimeError; close() again is fine."""
    engine_of(consumer).operation.succeed()
    with consumer:
        pass
    for call in (
        consumer.poll,
        consumer.consume,
        lambda: consumer.subscribe(["t"]),
        lambda: consumer.assign([]),
        consumer.unassign,
        consumer.assignment,
        consumer.commit,
        lambda: consumer.pause([]),
        consumer.memberid,
        consumer.consumer_group_metadata,
    ):
        with pytest.raises(RuntimeError, match=r"^Consumer closed$"):
            call()
    with pytest.raises(RuntimeError, match=r"^Handle has been closed$"):
        consumer.list_topics()
    consumer.close()


def test_error_callback_runs_in_poll(shells: list[FakeShell]) -> None:
    """poll() serves events and goes on waiting for a message."""
    told: list[Any] = []
    consumer = Consumer({"group.id": "g", "error_cb": told.append})
    event = ClientEvent("error", ErrorCode._ALL_BROKERS_DOWN, "1/1 brokers are down")
    shell_of(consumer).at(0.5, engine_of(consumer).events.append, event)
    assert consumer.poll(1.0) is None
    assert (told, shell_of(consumer).now_us) == ([KafkaError._ALL_BROKERS_DOWN], 1_000_000)
