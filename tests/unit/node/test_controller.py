"""The controller node: leadership, commits, envelopes."""

from __future__ import annotations

from typing import Any

from tests.unit.controller.plane import CONTROLLER, Plane
from tests.unit.node.quorum_double import QuorumDouble

from kafkasim.core.model.admin_messages import CreateTopicsRequest, ElectLeadersRequest, NewTopicSpec
from kafkasim.core.model.cluster_messages import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    BrokerHeartbeatRequest,
    BrokerRegistrationRequest,
    DescribeQuorumRequest,
    Envelope,
    EnvelopeResponse,
)
from kafkasim.core.model.effects import Reply
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.messages import MetadataRequest
from kafkasim.core.model.metadata import ConfigRecord, FeatureLevelRecord, LeaderChangeRecord

CREATE = CreateTopicsRequest((NewTopicSpec("t", 1, 1),))


class DoublePlane(Plane):
    """A plane over a quorum whose commits and elections the test decides."""

    quorum: QuorumDouble

    def make_raft(self, config: dict[str, str] | None) -> Any:
        self.quorum = QuorumDouble(CONTROLLER, self.log)
        return self.quorum


def led(*brokers: int) -> DoublePlane:
    """Active, with everything committed until told otherwise."""
    plane = DoublePlane()
    plane.quorum.become_leader()
    plane.node.settle(0)
    for node in brokers:
        plane.start(node)
    return plane


def test_a_new_log_begins_with_features_and_the_minimum() -> None:
    """What a fresh 4.3 cluster holds."""
    plane = Plane(config={"min.insync.replicas": "2"})
    records = [record for batch in plane.log.read_between(0, plane.log.log_end) for record in batch.records]
    assert isinstance(records[0], LeaderChangeRecord)
    assert FeatureLevelRecord("metadata.version", 30) in records
    assert FeatureLevelRecord("eligible.leader.replicas.version", 1) in records
    assert records[-1] == ConfigRecord(4, "", "min.insync.replicas", "2")
    assert plane.node.active


def test_without_elr_there_is_no_cluster_wide_minimum() -> None:
    """Feature level 0: the classic rules."""
    plane = Plane(feature_levels=(("metadata.version", 30), ("eligible.leader.replicas.version", 0)))
    assert plane.image.configs == {}
    assert not plane.image.elr_enabled


def test_answers_wait_for_the_commit() -> None:
    """The image moves at once; nobody hears of it before a majority has it."""
    plane = led(1)
    plane.quorum.commits = False
    created = plane.send(CREATE)
    assert plane.answer(created) is None
    assert "t" in plane.image.topics
    later = plane.send(ElectLeadersRequest(0, None))
    assert plane.answer(later) is None, "even an answer without records waits for what it was computed from"
    plane.quorum.commit()
    plane.node.settle(0)
    assert plane.answer(created).topics[0].error is ErrorCode.NONE
    assert plane.answer(later) is not None


def test_losing_the_leadership_forgets_what_was_not_committed() -> None:
    """NOT_CONTROLLER for who waits; the image is the committed log's again."""
    plane = led(1)
    plane.quorum.commits = False
    created = plane.send(Envelope(CREATE))
    plane.quorum.lose_leadership()
    plane.node.settle(0)
    assert plane.answer(created) == EnvelopeResponse(ErrorCode.NOT_CONTROLLER)
    assert not plane.node.active
    assert "t" not in plane.image.topics
    plane.check_replay()
    plane.quorum.commits = True
    plane.quorum.become_leader()
    plane.node.settle(0)
    assert plane.node.active
    assert plane.ask(Envelope(CREATE)).response.topics[0].error is ErrorCode.NONE


def test_what_was_committed_is_answered_even_by_a_leader_of_the_past() -> None:
    """The records stand, so the client may know."""
    plane = led(1)
    plane.quorum.commits = False
    created = plane.send(CREATE)
    plane.quorum.commit()
    plane.quorum.lose_leadership()
    plane.node.settle(0)
    assert plane.answer(created).topics[0].error is ErrorCode.NONE


def test_nobody_but_the_active_controller_answers() -> None:
    """NOT_CONTROLLER in the form of each answer."""
    plane = DoublePlane()
    for request in (
        BrokerRegistrationRequest(1, "i", "h", 1, None),
        BrokerHeartbeatRequest(1, 0, 0, False),
        AlterPartitionRequest(1, 0, ()),
        AllocateProducerIdsRequest(1, 0),
        Envelope(CREATE),
        ElectLeadersRequest(0, None),
    ):
        assert plane.ask(request).error is ErrorCode.NOT_CONTROLLER
    assert plane.ask(CREATE).topics[0].error is ErrorCode.NOT_CONTROLLER


def test_a_leader_is_not_active_before_it_knows_what_others_committed() -> None:
    """Its own epoch's first record must be committed."""
    plane = DoublePlane()
    plane.quorum.commits = False
    plane.quorum.become_leader()
    plane.node.settle(0)
    assert not plane.node.active
    plane.quorum.commit()
    plane.node.settle(0)
    assert plane.node.active


def test_a_new_controller_gives_every_serving_broker_a_fresh_session() -> None:
    """A broker that died with the controller is fenced a whole session after the election."""
    plane = led(1, 2)
    plane.quorum.lose_leadership()
    plane.now_us = 60_000_000
    plane.node.settle(plane.now_us)
    plane.quorum.become_leader()
    plane.node.settle(plane.now_us)
    plane.advance(8_900_000)
    assert plane.image.broker_active(1)
    plane.advance(2_000_000)
    assert not plane.image.broker_active(1)
    assert not plane.image.broker_active(2)


def test_the_quorum_is_described_through_the_controller() -> None:
    """Requests of the quorum go to its replica."""
    plane = Plane()
    assert plane.ask(DescribeQuorumRequest()).leader_id == CONTROLLER


def test_closed_connections_are_not_answered() -> None:
    """Whoever waited on them is forgotten."""
    plane = led(1)
    plane.quorum.commits = False
    created = plane.send(CREATE, peer=5)
    plane.node.on_closed(5, 0)
    plane.quorum.commit()
    plane.node.settle(0)
    assert plane.answer(created) is None


def test_what_is_not_for_a_controller_is_left_unanswered() -> None:
    """A client that asks a controller for metadata learns nothing; a forwarded stranger is told so."""
    plane = Plane()
    plane.send(MetadataRequest(None))
    assert plane.outbox[-1] == Reply(1, plane.outbox[-1].correlation_id, None)  # type: ignore[union-attr]
    assert plane.ask(Envelope(MetadataRequest(None))).error is ErrorCode.UNSUPPORTED_VERSION


def test_shutdown_hands_the_quorum_over() -> None:
    """A lone voter may go at once."""
    plane = Plane()
    plane.node.shutdown(0)
    assert plane.node.is_shut_down
    assert not plane.node.active
