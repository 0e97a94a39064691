"""Registration, sessions, heartbeats, fencing."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import SECOND_US, Plane

from kafkasim.core.model.admin_messages import UnregisterBrokerRequest
from kafkasim.core.model.cluster_messages import AllocateProducerIdsRequest, BrokerHeartbeatRequest
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import (
    BrokerRegistrationChangeRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)


def kinds(plane: Plane) -> list[type]:
    return [type(record) for record in plane.fresh()]


def test_broker_epoch_is_the_offset_of_the_registration_batch() -> None:
    """Clean-up records before the registration share the batch, and so the epoch points at the first of them."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), min_insync_replicas="2")
    plane.kill(3)
    plane.kill(2)
    plane.fresh()
    start = plane.log.log_end
    plane.start(2)
    records = plane.fresh()
    assert [type(record) for record in records[:2]] == [PartitionChangeRecord, RegisterBrokerRecord]
    assert plane.epochs[2] == start
    assert plane.image.register_offsets[2] == start + 1


def test_a_second_process_waits_for_the_session_of_the_first() -> None:
    """A quick restart costs the whole session."""
    plane = Plane((1, 2))
    assert plane.register(1) is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    plane.advance(8 * SECOND_US, (2,))
    assert plane.register(1) is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    plane.advance(3 * SECOND_US, (2,))
    assert plane.register(1) is ErrorCode.NONE


def test_the_same_process_registers_again_without_change() -> None:
    """A lost answer must not cost the broker its epoch."""
    plane = Plane()
    plane.register(1, incarnation="one")
    epoch = plane.epochs[1]
    plane.beat(1)
    assert plane.register(1, incarnation="one") is ErrorCode.NONE
    assert plane.epochs[1] == epoch
    assert plane.image.broker_active(1)


def test_fencing_takes_between_one_session_and_an_eighth_more() -> None:
    """The check runs every session/8."""
    plane = Plane((1, 2))
    last_contact_us = plane.now_us
    while not plane.image.brokers[1].fenced:
        plane.advance(SECOND_US // 10, (2,))
        plane.beat(2)
    assert 9 * SECOND_US < plane.now_us - last_contact_us <= 10_225_000


def test_one_deadline_and_none_without_brokers() -> None:
    """An idle controller without brokers has nothing to wait for."""
    plane = Plane()
    assert plane.node.sessions.deadline_us > 1 << 60
    plane.start(1)
    assert plane.node.sessions.deadline_us < 11 * SECOND_US


def test_fencing_writes_partitions_first_and_unfencing_last() -> None:
    """A fenced broker is in no ISR at any offset of the log."""
    plane = Plane((1, 2))
    plane.create("t", (1, 2))
    plane.create("u", (1,))
    plane.fresh()
    plane.kill(1)
    assert kinds(plane) == [PartitionChangeRecord, PartitionChangeRecord, BrokerRegistrationChangeRecord]
    plane.start(1, clean=True)
    assert kinds(plane) == [RegisterBrokerRecord, BrokerRegistrationChangeRecord, PartitionChangeRecord]
    assert plane.partition("u").leader == 1


def test_a_stale_or_unknown_broker_is_refused() -> None:
    """Heartbeats count for the registered process alone."""
    plane = Plane((1,))
    plane.epochs[1] += 1
    assert plane.beat(1).error is ErrorCode.STALE_BROKER_EPOCH
    refused = plane.ask(BrokerHeartbeatRequest(7, 0, 0, False))
    assert refused.error is ErrorCode.STALE_BROKER_EPOCH


def test_unfencing_waits_until_the_broker_knows_of_its_registration() -> None:
    """A broker that lags behind the log stays fenced."""
    plane = Plane()
    plane.register(1)
    lagging = plane.beat(1, offset=plane.epochs[1] - 1)
    assert lagging.is_fenced
    assert not lagging.is_caught_up
    assert plane.beat(1, want_fence=True).is_caught_up
    assert plane.image.brokers[1].fenced
    assert not plane.beat(1).is_fenced


def test_controlled_shutdown_moves_leaders_and_waits_for_the_others() -> None:
    """The grant comes once every serving broker has seen the log up to the hand-over."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3))
    plane.fresh()
    before = plane.image.next_offset - 1
    assert not plane.beat(1, want_shut_down=True).should_shut_down
    assert kinds(plane) == [BrokerRegistrationChangeRecord, PartitionChangeRecord]
    assert plane.partition().leader == 2
    plane.beat(2)
    plane.beat(3, offset=before)
    assert not plane.beat(1, want_shut_down=True).should_shut_down
    plane.beat(3)
    granted = plane.beat(1, want_shut_down=True)
    assert granted.should_shut_down
    assert granted.is_fenced
    assert kinds(plane) == [BrokerRegistrationChangeRecord]


def test_a_broker_that_leads_nothing_may_go_at_once() -> None:
    """One heartbeat is enough."""
    plane = Plane((1, 2))
    plane.create("t", (2, 1))
    assert plane.beat(1, want_shut_down=True).should_shut_down
    assert plane.partition().isr == (2,)


def test_the_session_of_a_broker_that_left_fences_it_once_more() -> None:
    """As Kafka does: harmless, and visible in the log."""
    plane = Plane((1, 2))
    plane.stop(1)
    plane.fresh()
    plane.advance(11 * SECOND_US, (2,))
    assert plane.fresh() == [BrokerRegistrationChangeRecord(1, plane.epochs[1], fenced=1)]


@pytest.mark.parametrize("clean", [True, False])
def test_only_an_unclean_return_costs_eligibility(clean: bool) -> None:
    """A clean-shutdown mark with the right epoch keeps the broker in the ELR."""
    plane = Plane((1, 2))
    plane.create("t", (1, 2), min_insync_replicas="2")
    plane.kill(2)
    assert plane.partition().elr == (2,)
    plane.register(2, plane.epochs[2] if clean else -1)
    assert plane.partition().elr == ((2,) if clean else ())


def test_producer_id_blocks_do_not_overlap() -> None:
    """Each block has a thousand ids."""
    plane = Plane((1, 2))
    starts = []
    for node in (1, 2, 1):
        response = plane.ask(AllocateProducerIdsRequest(node, plane.epochs[node]))
        assert response.producer_id_len == 1000
        starts.append(response.producer_id_start)
    assert starts == [0, 1000, 2000]
    assert plane.ask(AllocateProducerIdsRequest(1, 99)).error is ErrorCode.STALE_BROKER_EPOCH


def test_fencing_costs_what_the_broker_has() -> None:
    """The partitions of others are not looked at."""
    plane = Plane((1, 2, 3))
    plane.create("mine", *[(1, 2)] * 3)
    plane.create("others", *[(2, 3)] * 500)
    looked_at = plane.image.partitions_in_isr(1)
    assert len(looked_at) == 3
    plane.fresh()
    plane.kill(1)
    assert len(plane.fresh()) == 4
    plane.check_replay()


def test_records_of_registration() -> None:
    """A first registration cleans up nothing."""
    plane = Plane()
    plane.fresh()
    plane.register(1)
    assert kinds(plane) == [RegisterBrokerRecord]
    plane.beat(1)
    plane.create("t", (1,))
    assert PartitionRecord in kinds(plane)


def test_an_unregistered_broker_leaves_every_isr() -> None:
    """Replica lists still name it; it may register again as a stranger."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), min_insync_replicas="2")
    plane.fresh()
    assert plane.ask(UnregisterBrokerRequest(1)).error is ErrorCode.NONE
    assert kinds(plane) == [PartitionChangeRecord, UnregisterBrokerRecord]
    state = plane.partition()
    assert (state.leader, state.isr, state.replicas) == (2, (2, 3), (1, 2, 3))
    assert plane.beat(1).error is ErrorCode.STALE_BROKER_EPOCH
    refused = plane.ask(UnregisterBrokerRequest(1))
    assert refused.error is ErrorCode.BROKER_ID_NOT_REGISTERED
    assert refused.error_message == "Broker ID 1 is not currently registered"
    plane.start(1)
    plane.check_replay()


def test_an_unregistered_broker_stays_eligible() -> None:
    """Kafka 4.3 takes it from the ISR, which makes it eligible, and from no ELR: only an unclean election helps then."""
    plane = Plane((1, 2))
    plane.create("t", (1,))
    plane.ask(UnregisterBrokerRequest(1))
    assert (plane.partition().leader, plane.partition().elr) == (-1, (1,))
    plane.register(1)
    assert plane.partition().elr == ()


def test_the_offset_that_a_leaving_broker_waits_for_stays() -> None:
    """The others must have seen its leaderships move, not whatever was written since."""
    plane = Plane((1, 2))
    plane.create("t", (1, 2))
    assert not plane.beat(1, want_shut_down=True).should_shut_down
    plane.beat(2)
    plane.create("u", (2,))
    assert plane.beat(1, want_shut_down=True).should_shut_down
