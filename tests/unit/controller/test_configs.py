"""Alterations of configs and what they do to the ELR."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import CONTROLLER, Plane

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
from kafkasim.core.node.config_admin import preprocess, reassembled, remaining

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
    nobody = alter(plane, ConfigResource(BROKER_RESOURCE, "9"), "background.threads", "1")
    assert (nobody.error, nobody.error_message) == (ErrorCode.BROKER_ID_NOT_REGISTERED, "No node with id 9 found.")
    assert alter(plane, ConfigResource(BROKER_RESOURCE, "1"), "background.threads", "4").error is ErrorCode.NONE
    assert plane.image.broker_config("background.threads") == 10
    assert (
        alter(plane, ConfigResource(BROKER_RESOURCE, str(CONTROLLER)), "background.threads", "5").error
        is ErrorCode.NONE
    )
    assert plane.image.broker_config("background.threads") == 5


def test_a_wrong_key_is_told_before_a_missing_topic(plane: Plane) -> None:
    """Values are looked at first, existence last."""
    assert alter(plane, ConfigResource(TOPIC_RESOURCE, "x"), "no.such.key", "1").error is ErrorCode.INVALID_CONFIG


def test_what_clears_elrs_comes_after_all_configs(plane: Plane) -> None:
    """Two resources in one request: both records, then one ClearElrRecord for each."""
    changes = (("min.insync.replicas", SET_OPERATION, "1"),)
    plane.ask(IncrementalAlterConfigsRequest((ConfigAlteration(TOPIC, changes), ConfigAlteration(CLUSTER, changes))))
    kinds = [type(record) for record in plane.fresh()]
    assert kinds == [ConfigRecord, ConfigRecord, ClearElrRecord, ClearElrRecord]


def test_the_controllers_own_configs_count_in_its_elections(plane: Plane) -> None:
    """A dynamic config of the controller's node beats the cluster's for every topic without one of its own."""
    alter(plane, ConfigResource(BROKER_RESOURCE, str(CONTROLLER)), "unclean.leader.election.enable", "true")
    assert plane.image.topic_unclean("t")
    alter(plane, TOPIC, "unclean.leader.election.enable", "false")
    assert not plane.image.topic_unclean("t")


BROKER_1 = ConfigResource(BROKER_RESOURCE, "1")
BROKER_CHANGES = [
    (BROKER_1, (("broker.id", SET_OPERATION, "1"),), "Cannot update these configs dynamically: [broker.id]"),
    (BROKER_1, (("background.threads", SET_OPERATION, "0"),), "Value must be at least 1"),
    (CLUSTER, (("background.threads", SET_OPERATION, "many"),), "Not a number of type INT"),
    (ConfigResource(BROKER_RESOURCE, "2"), (), "Unexpected broker id, expected 1, but received 2"),
    (ConfigResource(BROKER_RESOURCE, "x"), (), "Node id must be an integer, but it is: x"),
    (TOPIC, (("retention.ms", SET_OPERATION, None),), "Null value not supported for : retention.ms"),
    (TOPIC, (("retention.ms", SET_OPERATION, "1"),) * 2, "Error due to duplicate config keys"),
]


@pytest.mark.parametrize(("resource", "changes", "text"), BROKER_CHANGES)
def test_a_broker_refuses_by_itself(
    plane: Plane, resource: ConfigResource, changes: tuple[tuple[str, int, str | None], ...], text: str
) -> None:
    """INVALID_REQUEST, and what the controller said of the others stays in its place."""
    good = ConfigAlteration(ConfigResource(TOPIC_RESOURCE, "other"), (("retention.ms", SET_OPERATION, "1"),))
    request = IncrementalAlterConfigsRequest((ConfigAlteration(resource, changes), good))
    results = preprocess(plane.image, 1, request)
    assert results[0] is not None
    assert results[0].error is ErrorCode.INVALID_REQUEST
    assert text in (results[0].error_message or "")
    assert remaining(request, results).resources == (good,)
    answer = plane.ask(remaining(request, results))
    assert reassembled(results, answer).results == (results[0], answer.results[0])
