"""Feature levels, and the ELR switched on and off in a running cluster."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import Plane

from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    SAFE_DOWNGRADE,
    SET_OPERATION,
    UPGRADE,
    ConfigAlteration,
    ConfigResource,
    FeatureUpdate,
    IncrementalAlterConfigsRequest,
    UpdateFeaturesRequest,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import ConfigRecord, FeatureLevelRecord

ELR = "eligible.leader.replicas.version"
WITHOUT_ELR = (("metadata.version", 30), (ELR, 0))


def update(plane: Plane, name: str, level: int, kind: int = UPGRADE) -> ErrorCode:
    answer = plane.ask(UpdateFeaturesRequest((FeatureUpdate(name, level, kind),)))
    assert (answer.error is ErrorCode.NONE) == (answer.error_message is None)
    return ErrorCode(answer.error)


def test_switching_the_elr_on_makes_the_minimum_cluster_wide() -> None:
    """The static minimum becomes the cluster's, brokers lose theirs, and then the level changes: one batch."""
    plane = Plane((1, 2), config={"min.insync.replicas": "2"}, feature_levels=WITHOUT_ELR)
    change = ConfigAlteration(ConfigResource(BROKER_RESOURCE, "1"), (("min.insync.replicas", SET_OPERATION, "1"),))
    plane.ask(IncrementalAlterConfigsRequest((change,)))
    plane.fresh()
    assert update(plane, ELR, 1) is ErrorCode.NONE
    assert plane.fresh() == [
        ConfigRecord(BROKER_RESOURCE, "", "min.insync.replicas", "2"),
        ConfigRecord(BROKER_RESOURCE, "1", "min.insync.replicas", None),
        FeatureLevelRecord(ELR, 1),
    ]
    plane.check_replay()


def test_without_elr_the_last_replica_stays_in_the_isr() -> None:
    """Leaderless with an ISR, as before KIP-966; once the level is up the next change makes an ELR of it."""
    plane = Plane((1, 2), feature_levels=WITHOUT_ELR)
    plane.create("t", (1, 2), min_insync_replicas="2")
    plane.kill(2)
    plane.kill(1)
    state = plane.partition()
    assert (state.leader, state.isr, state.elr, state.last_known_elr) == (-1, (1,), (), ())
    plane.start(1)
    assert plane.partition().leader == 1


def test_switching_the_elr_off_empties_it_with_the_next_change() -> None:
    """The level alone changes no partition."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), min_insync_replicas="3")
    plane.kill(3)
    assert update(plane, ELR, 0, SAFE_DOWNGRADE) is ErrorCode.NONE
    assert plane.partition().elr == (3,)
    plane.kill(2)
    assert (plane.partition().isr, plane.partition().elr) == ((1,), ())


REFUSED = [
    (ELR, 2, UPGRADE, "only supports versions 0-1"),
    (ELR, -1, UPGRADE, "cannot be less than 0"),
    (ELR, 0, UPGRADE, "Can't downgrade the version of this feature without"),
    ("metadata.version", 29, SAFE_DOWNGRADE, "only supports versions 30-30"),
    ("no.such.version", 1, UPGRADE, "does not support this feature"),
    (ELR, 1, 7, "does not support the given upgrade type"),
]


@pytest.mark.parametrize(("name", "level", "kind", "text"), REFUSED)
def test_refused_updates(name: str, level: int, kind: int, text: str) -> None:
    """INVALID_UPDATE_VERSION, and none of the request's updates is made."""
    plane = Plane((1,))
    good = FeatureUpdate("group.version", 0, SAFE_DOWNGRADE)
    answer = plane.ask(UpdateFeaturesRequest((good, FeatureUpdate(name, level, kind))))
    assert answer.error is ErrorCode.INVALID_UPDATE_VERSION
    assert text in answer.error_message
    assert plane.fresh() == []
