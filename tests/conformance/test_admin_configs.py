"""describe_configs and incremental_alter_configs."""

from __future__ import annotations

import pytest


def _resource(kit, name, kind="topic", **arguments):
    return kit.ck.admin.ConfigResource(kind, name, **arguments)


def _describe(kit, name, kind="topic"):
    return kit.result(kit.admin().describe_configs([_resource(kit, name, kind)]))


def _alter(kit, name, entries, kind="topic", **options):
    """Entries are (config name, value, operation)."""
    operations = kit.ck.admin.AlterConfigOpType
    changes = [
        kit.ck.admin.ConfigEntry(key, value, incremental_operation=operations[operation])
        for key, value, operation in entries
    ]
    resource = _resource(kit, name, kind, incremental_configs=changes)
    return kit.result(kit.admin().incremental_alter_configs([resource], **options))


def _value(kit, topic, key):
    return _describe(kit, topic)[key].value


TOPIC_CONFIGS = [
    "cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
    "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms",
    "follower.replication.throttled.replicas", "index.interval.bytes", "leader.replication.throttled.replicas",
    "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
    "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
    "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
    "remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes",
    "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
    "unclean.leader.election.enable",
]  # fmt: skip


def test_a_topic_has_these_configs(kit):
    """Kafka 4.3 knows 33 configs of a topic."""
    assert sorted(_describe(kit, kit.topic())) == TOPIC_CONFIGS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("delete.retention.ms", "86400000"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("min.insync.replicas", "1"),
        ("retention.bytes", "-1"),
        ("retention.ms", "604800000"),
        ("segment.bytes", "1073741824"),
        ("segment.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ],
)
def test_defaults_of_a_topic(kit, key, value):
    """Values are text, whatever their type."""
    entry = _describe(kit, kit.topic())[key]
    assert (entry.name, entry.value) == (key, value)


def test_a_default_says_so(kit):
    """An untouched config: is_default, source DEFAULT_CONFIG, not sensitive, not read-only."""
    entry = _describe(kit, kit.topic())["cleanup.policy"]
    assert entry.is_default
    assert entry.source == kit.ck.admin.ConfigSource.DEFAULT_CONFIG.value
    assert not entry.is_sensitive
    assert not entry.is_read_only
    assert not entry.is_synonym
    assert {name: each.value for name, each in entry.synonyms.items()} == {"log.cleanup.policy": "delete"}


def test_a_config_given_at_creation_says_so(kit):
    """A config of the topic itself: not a default, source DYNAMIC_TOPIC_CONFIG."""
    entry = _describe(kit, kit.topic(retention_ms=1234))["retention.ms"]
    assert (entry.value, entry.is_default) == ("1234", False)
    assert entry.source == kit.ck.admin.ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert str(entry) == 'retention.ms="1234"'


def test_min_insync_replicas_is_a_setting_of_the_cluster(kit):
    """Surprise: with ELR on its default is stored as a cluster-wide setting, so it is no default (KIP-966)."""
    entry = _describe(kit, kit.topic())["min.insync.replicas"]
    assert (entry.value, entry.is_default) == ("1", False)
    assert entry.source == kit.ck.admin.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value


@pytest.mark.parametrize("kind", ["topic", "TOPIC", 2])
def test_a_kind_of_resource_by_name_or_number(kit, kind):
    """ConfigResource takes the type's name in any case, or the enum."""
    topic = kit.topic()
    if kind == 2:
        kind = kit.ck.admin.RESOURCE_TOPIC
    assert _describe(kit, topic, kind)["cleanup.policy"].value == "delete"


def test_configs_of_an_unknown_topic(kit):
    """The future fails."""
    with kit.fails("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition"):
        _describe(kit, kit.name("absent"))


def test_configs_of_a_broker(kit):
    """A broker tells its own settings: numbers are text, its id is read-only."""
    entries = _describe(kit, "1", "broker")
    assert entries["node.id"].value == "1"
    assert entries["node.id"].is_read_only
    assert entries["num.partitions"].value == "1"
    assert entries["message.max.bytes"].value == "1048588"
    assert entries["auto.create.topics.enable"].value == "true"
    assert entries["log.retention.ms"].value is None
    assert entries["log.retention.hours"].value == "168"


def test_a_broker_is_a_number(kit):
    """The client itself refuses a broker that is no number."""
    with kit.fails("_INVALID_ARG", "Expected an int32 broker_id for ConfigResource(type=BROKER, name=x)"):
        _describe(kit, "x", "broker")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("smoke", "t"), 'Unknown resource type "smoke": should be a ConfigResource.Type'),
        (("topic", None), "Expected resource name to be a string"),
    ],
)
def test_wrong_resources(kit, arguments, text):
    """ValueError in the constructor."""
    with pytest.raises(ValueError, match=text):
        kit.ck.admin.ConfigResource(*arguments)


def test_describing_nothing(kit):
    """An empty list is refused by the client."""
    with pytest.raises(ValueError, match="Expected non-empty list of ConfigResource objects"):
        kit.admin().describe_configs([])


def test_set_and_delete(kit):
    """SET changes a topic's config, DELETE brings the default back."""
    topic = kit.topic()
    assert _alter(kit, topic, [("retention.ms", "5000", "SET")]) is None
    kit.wait(lambda: _value(kit, topic, "retention.ms") == "5000")
    _alter(kit, topic, [("retention.ms", None, "DELETE")])
    kit.wait(lambda: _value(kit, topic, "retention.ms") == "604800000")


def test_append_and_subtract(kit):
    """Lists grow by APPEND and shrink by SUBTRACT."""
    topic = kit.topic()
    _alter(kit, topic, [("cleanup.policy", "compact", "APPEND")])
    kit.wait(lambda: _value(kit, topic, "cleanup.policy") == "delete,compact")
    _alter(kit, topic, [("cleanup.policy", "delete", "SUBTRACT")])
    kit.wait(lambda: _value(kit, topic, "cleanup.policy") == "compact")


def test_what_is_not_named_stays(kit):
    """An incremental change leaves the other configs of the topic alone."""
    topic = kit.topic(retention_ms=1234)
    _alter(kit, topic, [("max.message.bytes", "5000", "SET")])
    kit.wait(lambda: _value(kit, topic, "max.message.bytes") == "5000")
    assert _value(kit, topic, "retention.ms") == "1234"


def test_a_changed_limit_holds_for_the_next_record(kit):
    """A config of a topic works without a restart."""
    topic = kit.topic()
    assert kit.send(topic, b"x" * 5000)[0] is None
    _alter(kit, topic, [("max.message.bytes", "1000", "SET")])
    kit.wait(lambda: kit.send(topic, b"x" * 5000)[0] is not None)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (("no.such", "5", "SET"), "Unknown topic config name: no.such"),
        (("retention.ms", "x", "SET"), "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        (("retention.ms", "5", "APPEND"), "Can't APPEND to key retention.ms because its type is not LIST."),
    ],
    ids=["unknown", "kind", "append"],
)
def test_impossible_changes_are_refused(kit, entry, text):
    """INVALID_CONFIG with the reason."""
    with kit.fails("INVALID_CONFIG", text):
        _alter(kit, kit.topic(), [entry])


def test_changing_an_unknown_topic(kit):
    """The controller names it."""
    name = kit.name("absent")
    with kit.fails("UNKNOWN_TOPIC_OR_PART", f"The topic '{name}' does not exist."):
        _alter(kit, name, [("retention.ms", "5", "SET")])


def test_one_key_twice_is_refused_by_the_client(kit):
    """Two changes of one key cannot be told apart."""
    with kit.fails("_INVALID_ARG", "Duplicate ConfigEntry found"):
        _alter(kit, kit.topic(), [("retention.ms", "5", "SET"), ("retention.ms", "6", "SET")])


def test_validate_only_changes_nothing(kit):
    """validate_only accepts a good change and refuses a bad one; the value stays."""
    topic = kit.topic()
    assert _alter(kit, topic, [("retention.ms", "77", "SET")], validate_only=True) is None
    with kit.fails("INVALID_CONFIG"):
        _alter(kit, topic, [("retention.ms", "x", "SET")], validate_only=True)
    kit.cluster.run_for(0.2)
    assert _value(kit, topic, "retention.ms") == "604800000"


def test_a_static_setting_of_a_broker_cannot_be_changed(kit):
    """INVALID_REQUEST lists what is not dynamic."""
    with kit.fails("INVALID_REQUEST", "Cannot update these configs dynamically: [node.id]"):
        _alter(kit, "1", [("node.id", "7", "SET")], kind="broker")


def test_the_assignment_interval_of_groups_is_dynamic(kit):
    """The one setting of groups that a running broker takes over, within bounds that are fixed."""
    key = "group.consumer.assignment.interval.ms"
    _alter(kit, "1", [(key, "500", "SET")], kind="broker")
    with kit.fails("INVALID_REQUEST", "must be less than or equal to group.consumer.max.assignment.interval.ms"):
        _alter(kit, "1", [(key, "15001", "SET")], kind="broker")
    _alter(kit, "1", [(key, None, "DELETE")], kind="broker")


def test_a_resource_without_a_name_cannot_be_altered(kit):
    """The client refuses it, so it has no way to the cluster-wide configs of brokers."""
    with pytest.raises(ValueError, match=r"Invalid ConfigResource\(4,\)"):
        _alter(kit, "", [("log.retention.ms", "500", "SET")], kind="broker")
    with pytest.raises(ValueError, match=r"Invalid ConfigResource\(4,\)"):
        _describe(kit, "", kind="broker")
