"""Each of the controller's protections: the old bug without it, and its absence with it, in one and the same schedule."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import Plane

from kafkasim.core.model.admin_messages import AlterPartitionReassignmentsRequest, Reassignment
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.protections import Protections


def plane_of(protections: Protections) -> Plane:
    plane = Plane((1, 2, 3), protections=protections)
    plane.create("t", (1, 2, 3), min_insync_replicas="2")
    return plane


@pytest.mark.parametrize("protected", [True, False])
def test_a_last_replica_that_died_uncleanly(protected: bool) -> None:
    """Without ELR the last replica in the ISR leads again and is trusted, whatever its disk has lost (before KIP-966)."""
    plane = plane_of(Protections(eligible_leader_replicas=protected))
    for node in (3, 2, 1):
        plane.kill(node)
    plane.start(1)
    state = plane.partition()
    assert (state.leader, state.leader_recovery_state) == ((-1, 0) if protected else (1, 0))
    assert plane.image.features["eligible.leader.replicas.version"] == int(protected)
    assert ("min.insync.replicas" in plane.image.configs.get((4, ""), {})) == protected


@pytest.mark.parametrize("protected", [True, False])
def test_an_eligible_replica_that_died_uncleanly(protected: bool) -> None:
    """Without detection it stays eligible, and leads cleanly though its unflushed records may be gone."""
    plane = plane_of(Protections(unclean_shutdown_detection=protected))
    plane.kill(3)
    plane.kill(2)
    plane.start(2)
    assert plane.partition().elr == (() if protected else (2,))
    plane.kill(1)
    assert (plane.partition().leader, plane.partition().leader_recovery_state) == ((-1, 0) if protected else (2, 0))


@pytest.mark.parametrize("protected", [True, False])
def test_a_proposal_from_a_state_long_gone(protected: bool) -> None:
    """Without partition epochs a delayed AlterPartition puts a replica back that left since (before KIP-497)."""
    plane = plane_of(Protections(partition_epoch_check=protected))
    plane.kill(3)
    plane.start(3)
    delayed = plane.alter_isr((1, 2, 3), partition_epoch=0, broker_epoch=-1)
    assert delayed.error is (ErrorCode.INVALID_UPDATE_VERSION if protected else ErrorCode.NONE)
    assert plane.partition().isr == ((1, 2) if protected else (1, 2, 3))


@pytest.mark.parametrize("protected", [True, False])
def test_a_fenced_replica_joins(protected: bool) -> None:
    """Without the check a broker that is about to stop is in the ISR again, and nobody takes it out (before KIP-841)."""
    plane = plane_of(Protections(fenced_broker_check=protected))
    plane.create("u", (3,))
    plane.beat(3, want_shut_down=True)
    assert plane.partition().isr == (1, 2)
    joined = plane.alter_isr((1, 2, 3))
    assert joined.error is (ErrorCode.INELIGIBLE_REPLICA if protected else ErrorCode.NONE)
    assert plane.partition().isr == ((1, 2) if protected else (1, 2, 3))


@pytest.mark.parametrize("protected", [True, False])
def test_a_replica_joins_though_it_was_restarted(protected: bool) -> None:
    """Without broker epochs the fetches of the dead process speak for the new one (before KIP-903)."""
    plane = plane_of(Protections(broker_epoch_check=protected))
    before = plane.epochs[3]
    plane.kill(3)
    plane.start(3)
    assert plane.epochs[3] > before
    joined = plane.alter_isr((1, 2, 3), broker_epochs={3: before})
    assert joined.error is (ErrorCode.INELIGIBLE_REPLICA if protected else ErrorCode.NONE)
    assert plane.partition().isr == ((1, 2) if protected else (1, 2, 3))


@pytest.mark.parametrize("protected", [True, False])
def test_a_replica_goes_before_its_replacement_has_anything(protected: bool) -> None:
    """Without the check a reassignment is over as soon as it is asked for (nobody copies, then nobody leaves: KIP-455)."""
    plane = Plane((1, 2, 3), protections=Protections(adding_replicas_check=protected))
    plane.create("t", (1, 2), min_insync_replicas="2")
    plane.ask(AlterPartitionReassignmentsRequest((Reassignment(TopicPartition("t", 0), (2, 3)),)))
    state = plane.partition()
    assert (state.replicas, state.isr) == (((2, 3, 1), (1, 2)) if protected else ((2, 3), (2,)))
    plane.alter_isr((2, 3) if not protected else (1, 2, 3))
    assert (plane.partition().replicas, plane.partition().isr) == ((2, 3), (2, 3))


def test_a_member_must_be_registered_even_without_the_checks() -> None:
    """Nobody ever let a stranger in."""
    plane = Plane((1, 2, 3), protections=Protections(fenced_broker_check=False, broker_epoch_check=False))
    plane.create("t", (1, 2))
    assert plane.alter_isr((1, 9)).error is ErrorCode.INVALID_REQUEST
    assert plane.alter_isr((1,), broker_epoch=12345).error is ErrorCode.NONE
