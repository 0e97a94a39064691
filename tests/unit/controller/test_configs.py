"""Alterations of configs and what they do to the ELR."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import Plane

from kafkasim.core.model.admin_messages import (
    APPEND_OPERATION,
    BROKER_RESOURCE,
    DELETE_OPERATION,
    SET_OPERATION,
    SUBTRACT_OPERATION,
    TOPIC_RESOURCE,
    AlterConfigsRequest,
    ConfigAlteration,
    ConfigAltered,
    ConfigResource,
    IncrementalAlterConfigsRequest,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import ClearElrRecord, ConfigRecord

TOPIC = ConfigResource(TOPIC_RESOURCE, "t")
CLUSTER = ConfigResource(BROKER_RESOURCE, "")


@pytest.fixture
def plane() -> Plane:
    plane = Plane((1, 2))
    plane.create("t", (1, 2), min_insync_replicas="2")
    plane.fresh()
    return plane


def alter(
    plane: Plane, resource: ConfigResource, key: str, value: str | None, operation: int = SET_OPERATION
) -> ConfigAltered:
    request = IncrementalAlterConfigsRequest((ConfigAlteration(resource, ((key, operation, value),)),))
    result = plane.ask(request).results[0]
    assert isinstance(result, ConfigAltered)
    return result


def test_a_topic_key_is_written_once(plane: Plane) -> None:
    """Setting it to what it is writes no record, so the ELR survives."""
    assert alter(plane, TOPIC, "min.insync.replicas", "2").error is ErrorCode.NONE
    assert plane.fresh() == []
    alter(plane, TOPIC, "min.insync.replicas", "1")
    assert plane.fresh() == [ConfigRecord(TOPIC_RESOURCE, "t", "min.insync.replicas", "1"), ClearElrRecord("t")]
    alter(plane, TOPIC, "min.insync.replicas", None, DELETE_OPERATION)
    assert plane.fresh()[-1] == ClearElrRecord("t")


def test_the_cluster_wide_minimum_always_clears(plane: Plane) -> None:
    """Even set to what it is: every ELR goes."""
    plane.kill(2)
    assert plane.partition().elr == (2,)
    epoch = plane.partition().partition_epoch
    plane.fresh()
    alter(plane, CLUSTER, "min.insync.replicas", "1")
    assert plane.fresh() == [ConfigRecord(BROKER_RESOURCE, "", "min.insync.replicas", "1"), ClearElrRecord("")]
    assert (plane.partition().elr, plane.partition().partition_epoch) == ((), epoch + 1)
    assert plane.image.partitions_in_elr(2) == []
    plane.check_replay()


REFUSALS = [
    (ConfigResource(BROKER_RESOURCE, "1"), "min.insync.replicas", "2", SET_OPERATION, "cannot be altered while ELR"),
    (CLUSTER, "min.insync.replicas", None, DELETE_OPERATION, "cannot be removed while ELR"),
    (TOPIC, "no.such.key", "1", SET_OPERATION, "Unknown topic config name: no.such.key"),
    (TOPIC, "retention.ms", "1", APPEND_OPERATION, "Can't APPEND to key retention.ms because its type is not LIST."),
    (TOPIC, "cleanup.policy", "keep", SET_OPERATION, "cleanup.policy"),
]


@pytest.mark.parametrize(("resource", "key", "value", "operation", "text"), REFUSALS)
def test_refusals(
    plane: Plane, resource: ConfigResource, key: str, value: str | None, operation: int, text: str
) -> None:
    """INVALID_CONFIG in Kafka's words, and nothing written."""
    result = alter(plane, resource, key, value, operation)
    assert result.error is ErrorCode.INVALID_CONFIG
    assert text in (result.error_message or "")
    assert plane.fresh() == []


def test_keys_of_a_topic_must_go_together(plane: Plane) -> None:
    """A minimum above its maximum is refused."""
    assert alter(plane, TOPIC, "max.compaction.lag.ms", "10").error is ErrorCode.NONE
    assert alter(plane, TOPIC, "min.compaction.lag.ms", "11").error is ErrorCode.INVALID_CONFIG


def test_lists_grow_and_shrink(plane: Plane) -> None:
    """APPEND and SUBTRACT start from the value in force, the default if there is none."""
    alter(plane, TOPIC, "cleanup.policy", "compact", APPEND_OPERATION)
    assert plane.image.topic_config("t", "cleanup.policy") == ("delete", "compact")
    alter(plane, TOPIC, "cleanup.policy", "delete", SUBTRACT_OPERATION)
    assert plane.image.topic_config("t", "cleanup.policy") == ("compact",)


def test_the_replacing_form_drops_what_it_does_not_name(plane: Plane) -> None:
    """Other keys go back to their defaults."""
    alter(plane, TOPIC, "retention.ms", "5")
    request = AlterConfigsRequest((ConfigAlteration(TOPIC, (("segment.ms", SET_OPERATION, "7"),)),))
    assert plane.ask(request).results[0].error is ErrorCode.NONE
    assert plane.image.configs[(TOPIC_RESOURCE, "t")] == {"segment.ms": "7"}


def test_resources_must_exist(plane: Plane) -> None:
    """A topic, a registered broker, the cluster."""
    unknown = alter(plane, ConfigResource(TOPIC_RESOURCE, "x"), "retention.ms", "1")
    assert unknown.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert alter(plane, ConfigResource(BROKER_RESOURCE, "9"), "background.threads", "1").error is not ErrorCode.NONE
    read_only = alter(plane, ConfigResource(BROKER_RESOURCE, "1"), "broker.id", "1")
    assert read_only.error is ErrorCode.INVALID_REQUEST
    assert alter(plane, ConfigResource(BROKER_RESOURCE, "1"), "background.threads", "4").error is ErrorCode.NONE
    assert plane.image.broker_config("background.threads", 1) == 4
