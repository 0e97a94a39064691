"""PartitionChangeBuilder: one partition, one record."""

from __future__ import annotations

from typing import Any

from kafkasim.core.controller.election import PREFERRED, UNCLEAN, PartitionChangeBuilder
from kafkasim.core.controller.image import PartitionState
from kafkasim.core.model.ids import NO_LEADER, TopicPartition
from kafkasim.core.model.metadata import NO_LEADER_CHANGE, RECOVERING, PartitionChangeRecord


def partition(isr: tuple[int, ...], leader: int, **fields: Any) -> PartitionState:
    replicas = fields.pop("replicas", (1, 2, 3))
    return PartitionState(TopicPartition("t", 0), "id", replicas, isr, leader, **fields)


def build(
    state: PartitionState,
    alive: tuple[int, ...],
    min_isr: int = 2,
    election: int = 0,
    elr_enabled: bool = True,
    **targets: Any,
) -> PartitionChangeRecord | None:
    builder = PartitionChangeBuilder(state, alive.__contains__, min_isr, elr_enabled=elr_enabled, election=election)
    for name, value in targets.items():
        setattr(builder, name, value)
    return builder.build()


def test_nothing_to_change_gives_no_record() -> None:
    """A partition that is well keeps its epochs."""
    assert build(partition((1, 2, 3), 1), (1, 2, 3)) is None


def test_a_lost_follower_leaves_the_isr_without_an_epoch() -> None:
    """The leader epoch is not bumped on a shrink, and ELR stays empty at the minimum."""
    record = build(partition((1, 2, 3), 1), (1, 2), target_isr=(1, 2))
    assert record == PartitionChangeRecord("id", 0, isr=(1, 2))


def test_a_lost_leader_gives_way_by_replica_order() -> None:
    """The order of the replicas decides, not that of the ISR."""
    record = build(partition((3, 2, 1), 1), (2, 3), target_isr=(3, 2))
    assert record is not None
    assert record.leader == 2


def test_below_the_minimum_the_elr_fills() -> None:
    """Who left last still holds every committed record."""
    record = build(partition((1, 2), 1), (1,), target_isr=(1,))
    assert record == PartitionChangeRecord("id", 0, isr=(1,), elr=(2,))


def test_going_leaderless_remembers_the_last_leader() -> None:
    """ISR empties, its members become eligible, the old leader is the last known one."""
    record = build(partition((1,), 1, elr=(2,)), (), target_isr=())
    assert record == PartitionChangeRecord("id", 0, NO_LEADER, isr=(), elr=(1, 2), last_known_elr=(1,))


def test_an_elr_member_is_elected_clean() -> None:
    """It alone is the ISR; the others stay eligible; nothing needs recovery."""
    state = partition((), NO_LEADER, elr=(1, 2), last_known_elr=(1,))
    record = build(state, (2,))
    assert record == PartitionChangeRecord("id", 0, 2, isr=(2,), elr=(1,), last_known_elr=())


def test_the_last_known_leader_needs_empty_isr_and_elr() -> None:
    """Somebody eligible that is merely down bars the last known leader."""
    state = partition((), NO_LEADER, elr=(2,), last_known_elr=(1,))
    assert build(state, (1,)) is None
    record = build(state, (1,), unclean_shutdown=(2,))
    assert record == PartitionChangeRecord(
        "id", 0, 1, isr=(1,), leader_recovery_state=RECOVERING, elr=(), last_known_elr=()
    )


def test_unclean_election_takes_any_live_replica() -> None:
    """All that others hold is given up."""
    state = partition((), NO_LEADER, elr=(1,), last_known_elr=(1,))
    record = build(state, (3,), election=UNCLEAN)
    assert record == PartitionChangeRecord(
        "id", 0, 3, isr=(3,), leader_recovery_state=RECOVERING, elr=(), last_known_elr=()
    )


def test_preferred_election_never_goes_unclean() -> None:
    """A preferred replica outside the ISR does not lead."""
    assert build(partition((2, 3), 2), (1, 2, 3), election=PREFERRED) is None
    record = build(partition((1, 2, 3), 2), (1, 2, 3), election=PREFERRED)
    assert record == PartitionChangeRecord("id", 0, 1)


def test_without_elr_the_last_member_stays_in_the_isr() -> None:
    """The classic behaviour: leader -1, ISR as it was."""
    record = build(partition((1,), 1), (), target_isr=(), elr_enabled=False)
    assert record == PartitionChangeRecord("id", 0, NO_LEADER)


def test_reassignment_completes_with_the_last_addition() -> None:
    """One record lets the new ones in, the old ones go, and elects."""
    state = partition((1, 2, 5), 1, replicas=(3, 5, 1, 2), removing_replicas=(1, 2), adding_replicas=(3, 5))
    record = build(state, (1, 2, 3, 5), 1, target_isr=(1, 2, 3, 5))
    assert record == PartitionChangeRecord(
        "id", 0, 3, isr=(3, 5), replicas=(3, 5), removing_replicas=(), adding_replicas=()
    )


def test_a_shrinking_reassignment_waits_for_all_that_stay() -> None:
    """Fewer replicas later must not mean fewer copies now."""
    state = partition((1, 3), 1, replicas=(1, 2, 3), removing_replicas=(3,))
    assert build(state, (1, 2, 3)) is None
    record = build(state, (1, 2, 3), target_isr=(1, 2, 3))
    assert record is not None
    assert record.replicas == (1, 2)
    assert record.leader == 1, "dropping a replica bumps the leader epoch"
    assert record.leader != NO_LEADER_CHANGE
