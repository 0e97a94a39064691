"""What any broker answers from its metadata image, and what it passes on to the controller.

Mirrors:  kafka.server.KafkaApis (handleTopicMetadataRequest, handleDescribeCluster, handleInitProducerIdRequest), ConfigHelper,
          ForwardingManager, DefaultAutoTopicCreationManager, RPCProducerIdManager.
Inputs:   Metadata, DescribeCluster, DescribeConfigs, InitProducerId, and every admin request that the controller must decide.
Rule 1:   answers come from this broker's own image and may lag behind the controller's.
Rule 2:   an idempotent producer without transactional id always gets a new producer id with epoch 0.
Differs:  controller id in Metadata is a draw among live brokers, as in KRaft; ACLs, quotas and delegation tokens are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.controller.image import BrokerState, ImageDelta, PartitionState, TopicImage
from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    DEFAULT_CONFIG,
    DYNAMIC_BROKER_CONFIG,
    DYNAMIC_DEFAULT_BROKER_CONFIG,
    DYNAMIC_TOPIC_CONFIG,
    GROUP_CONFIG,
    GROUP_RESOURCE,
    STATIC_BROKER_CONFIG,
    TOPIC_RESOURCE,
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ConfigAltered,
    ConfigResource,
    ConfigValue,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribedConfig,
    ElectLeadersRequest,
    ElectLeadersResponse,
    IncrementalAlterConfigsRequest,
    NamedResult,
    NewTopicSpec,
    TopicCreated,
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from kafkasim.core.model.cluster_messages import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    Envelope,
    EnvelopeResponse,
)
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, NO_LEADER, NO_NODE
from kafkasim.core.model.messages import (
    BrokerEndpoint,
    InitProducerIdRequest,
    InitProducerIdResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionMetadata,
    TopicMetadata,
)
from kafkasim.core.model.names import topic_name_problem
from kafkasim.core.model.server_config import BROKER_CONFIGS, GROUP_CONFIGS, TOPIC_CONFIGS, ServerConfigKey
from kafkasim.core.model.share_messages import SHARE_GROUP_STATE_TOPIC
from kafkasim.core.node import config_admin
from kafkasim.core.node.context import BrokerContext, Call

#: Requests whose answer is the controller's.
FORWARDED = (
    CreateTopicsRequest,
    DeleteTopicsRequest,
    CreatePartitionsRequest,
    IncrementalAlterConfigsRequest,
    AlterConfigsRequest,
    ElectLeadersRequest,
    AlterPartitionReassignmentsRequest,
    UnregisterBrokerRequest,
    UpdateFeaturesRequest,
)


class MetadataApi:
    """A component of the broker node."""

    API_KEYS: tuple[int, ...] = (
        MetadataRequest.API_KEY,
        DescribeClusterRequest.API_KEY,
        DescribeConfigsRequest.API_KEY,
        InitProducerIdRequest.API_KEY,
        *(request.API_KEY for request in FORWARDED),
    )

    def __init__(self, ctx: BrokerContext, cluster_id: str) -> None:
        self.deadline_us = NEVER_US
        self._ctx = ctx
        self._cluster_id = cluster_id
        self._topics: dict[str, TopicMetadata] = {}
        self._creating: dict[str, None] = {}
        self._next_producer_id = 0
        self._producer_ids_end = 0
        self._allocating = False
        self._waiting_for_ids: list[Call] = []
        self._handlers: dict[type[Any], Callable[[Call, int], None]] = {
            MetadataRequest: self._on_metadata,
            DescribeClusterRequest: self._on_describe_cluster,
            DescribeConfigsRequest: self._on_describe_configs,
            InitProducerIdRequest: self._on_init_producer_id,
            **dict.fromkeys(FORWARDED, self._forward),
            IncrementalAlterConfigsRequest: self._forward_alterations,
            AlterConfigsRequest: self._forward_alterations,
        }

    def on_request(self, call: Call, now_us: int) -> None:
        self._handlers[type(call.request)](call, now_us)

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        if delta.brokers:
            self._topics.clear()
            return
        for topic in delta.deleted_topics:
            self._topics.pop(topic.name, None)
        for tp in delta.partitions:
            self._topics.pop(tp.topic, None)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        self._waiting_for_ids = [call for call in self._waiting_for_ids if call.connection_id != connection_id]

    def on_deadline(self, now_us: int) -> None:
        """Nothing here waits for time."""

    def shutdown(self, now_us: int) -> None:
        """Nothing here outlives the process."""

    # --- Metadata and DescribeCluster ------------------------------------------------------------------------------

    def _on_metadata(self, call: Call, now_us: int) -> None:
        request: MetadataRequest = call.request
        if request.topics is None:
            topics = [self._topic_metadata(topic) for topic in self._ctx.image.topics.values()]
        else:
            topics = [self._named_topic(name, request, now_us) for name in request.topics]
            topics += [self._identified_topic(topic_id) for topic_id in request.topic_ids]
        brokers = self._live_brokers()
        response = MetadataResponse(
            tuple(_endpoint(broker) for broker in brokers), self._cluster_id, self._some_broker(brokers), tuple(topics)
        )
        self._ctx.reply(call, response)

    def _named_topic(self, name: str, request: MetadataRequest, now_us: int) -> TopicMetadata:
        topic = self._ctx.image.topics.get(name)
        if topic is not None:
            return self._topic_metadata(topic)
        if topic_name_problem(name) is not None:
            return TopicMetadata(ErrorCode.INVALID_TOPIC_EXCEPTION, name, "", False, ())
        if request.allow_auto_topic_creation and self._ctx.image.broker_config("auto.create.topics.enable"):
            self.create_topic(name, now_us)
        return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, "", False, ())

    def _identified_topic(self, topic_id: str) -> TopicMetadata:
        topic = self._ctx.image.topics_by_id.get(topic_id)
        if topic is None:
            return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_ID, "", topic_id, False, ())
        return self._topic_metadata(topic)

    def create_topic(self, name: str, now_us: int) -> None:
        """Ask the controller for a topic that somebody used before it existed; internal topics get their own settings."""
        if name in self._creating:
            return
        self._creating[name] = None
        spec = NewTopicSpec(name)
        if name == CONSUMER_OFFSETS_TOPIC:
            image = self._ctx.image
            spec = NewTopicSpec(
                name,
                image.broker_int("offsets.topic.num.partitions"),
                image.broker_int("offsets.topic.replication.factor"),
                configs=(
                    ("cleanup.policy", "compact"),
                    ("compression.type", "producer"),
                    ("segment.bytes", str(image.broker_int("offsets.topic.segment.bytes"))),
                ),
            )

        elif name == SHARE_GROUP_STATE_TOPIC:
            image = self._ctx.image
            spec = NewTopicSpec(
                name,
                image.broker_int("share.coordinator.state.topic.num.partitions"),
                image.broker_int("share.coordinator.state.topic.replication.factor"),
                configs=(
                    ("cleanup.policy", "delete"),
                    ("compression.type", "producer"),
                    ("retention.ms", "-1"),
                    ("segment.bytes", str(image.broker_int("share.coordinator.state.topic.segment.bytes"))),
                    ("min.insync.replicas", str(image.broker_int("share.coordinator.state.topic.min.isr"))),
                ),
            )

        def created(response: EnvelopeResponse | None, error: ErrorCode, now_us: int) -> None:
            self._creating.pop(name, None)

        self._ctx.send_to_controller(Envelope(CreateTopicsRequest((spec,))), created, now_us)

    def _topic_metadata(self, topic: TopicImage) -> TopicMetadata:
        cached = self._topics.get(topic.name)
        if cached is None:
            partitions = tuple(self._partition_metadata(state) for state in topic.partitions)
            internal = topic.name in (CONSUMER_OFFSETS_TOPIC, SHARE_GROUP_STATE_TOPIC)
            cached = TopicMetadata(ErrorCode.NONE, topic.name, topic.topic_id, internal, partitions)
            self._topics[topic.name] = cached
        return cached

    def _partition_metadata(self, state: PartitionState) -> PartitionMetadata:
        brokers = self._ctx.image.brokers
        offline = tuple(node for node in state.replicas if (broker := brokers.get(node)) is None or broker.fenced)
        leader, error = state.leader, ErrorCode.NONE
        if leader == NO_LEADER or leader in offline:
            leader, error = NO_LEADER, ErrorCode.LEADER_NOT_AVAILABLE
        return PartitionMetadata(
            error,
            state.tp.partition,
            leader,
            self._ctx.told_epoch(state.leader_epoch),
            state.replicas,
            state.isr,
            offline,
        )

    def _live_brokers(self) -> list[BrokerState]:
        return [broker for broker in self._ctx.image.brokers.values() if not broker.fenced]

    def _some_broker(self, brokers: list[BrokerState]) -> int:
        if not brokers:
            return NO_NODE
        return brokers[self._ctx.draw("metadata.controller_id", len(brokers))].broker_id

    def _on_describe_cluster(self, call: Call, now_us: int) -> None:
        request: DescribeClusterRequest = call.request
        live = self._live_brokers()
        listed = list(self._ctx.image.brokers.values()) if request.include_fenced_brokers else live
        endpoints = tuple(_endpoint(broker) for broker in listed)
        self._ctx.reply(
            call, DescribeClusterResponse(ErrorCode.NONE, self._cluster_id, self._some_broker(live), endpoints)
        )

    # --- configs ---------------------------------------------------------------------------------------------------

    def _on_describe_configs(self, call: Call, now_us: int) -> None:
        request: DescribeConfigsRequest = call.request
        self._ctx.reply(call, DescribeConfigsResponse(tuple(map(self._describe, request.resources))))

    def _describe(self, resource: ConfigResource) -> DescribedConfig:
        image = self._ctx.image
        if resource.resource_type == TOPIC_RESOURCE:
            if resource.name not in image.topics:
                return DescribedConfig(resource, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return DescribedConfig(resource, ErrorCode.NONE, None, self._topic_configs(resource.name))
        if resource.resource_type == BROKER_RESOURCE:
            if resource.name not in ("", str(self._ctx.node_id)):
                text = (
                    f"Unexpected broker id, expected {self._ctx.node_id} or empty string, but received {resource.name}"
                )
                return DescribedConfig(resource, ErrorCode.INVALID_REQUEST, text)
            return DescribedConfig(resource, ErrorCode.NONE, None, self._broker_configs(resource.name))
        if resource.resource_type == GROUP_RESOURCE:
            return DescribedConfig(resource, ErrorCode.NONE, None, self._group_configs(resource.name))
        return DescribedConfig(
            resource, ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {resource.resource_type}"
        )

    def _topic_configs(self, topic: str) -> tuple[ConfigValue, ...]:
        own = self._ctx.image.configs.get((TOPIC_RESOURCE, topic), {})
        return tuple(self._with_synonyms(key, own, DYNAMIC_TOPIC_CONFIG) for key in TOPIC_CONFIGS.values())

    def _group_configs(self, group_id: str) -> tuple[ConfigValue, ...]:
        own = self._ctx.image.configs.get((GROUP_RESOURCE, group_id), {})
        return tuple(self._with_synonyms(key, own, GROUP_CONFIG) for key in GROUP_CONFIGS.values())

    def _with_synonyms(self, key: ServerConfigKey, own: dict[str, str], source: int) -> ConfigValue:
        synonyms = self._broker_synonyms(key.synonym) if key.synonym else []
        synonyms.append((key.synonym or key.name, key.default, DEFAULT_CONFIG))
        if key.name in own:
            synonyms.insert(0, (key.name, own[key.name], source))
        return _config_value(key, synonyms)

    def _broker_configs(self, name: str) -> tuple[ConfigValue, ...]:
        if name == "":
            own = self._ctx.image.configs.get((BROKER_RESOURCE, ""), {})
            return tuple(
                ConfigValue(
                    key,
                    own[key],
                    DYNAMIC_DEFAULT_BROKER_CONFIG,
                    synonyms=((key, own[key], DYNAMIC_DEFAULT_BROKER_CONFIG),),
                )
                for key in sorted(own)
            )
        return tuple(
            _config_value(key, [*self._broker_synonyms(key.name), (key.name, key.default, DEFAULT_CONFIG)])
            for key in BROKER_CONFIGS.values()
        )

    def _broker_synonyms(self, name: str) -> list[tuple[str, str | None, int]]:
        """Every level that sets a broker key, the one in force first."""
        ctx = self._ctx
        own = {"node.id": str(ctx.node_id), "broker.id": str(ctx.node_id)}
        if ctx.rack is not None:
            own["broker.rack"] = ctx.rack
        levels = (
            (ctx.image.configs.get((BROKER_RESOURCE, str(ctx.node_id)), {}), DYNAMIC_BROKER_CONFIG),
            (ctx.image.configs.get((BROKER_RESOURCE, ""), {}), DYNAMIC_DEFAULT_BROKER_CONFIG),
            ({**own, **ctx.image.static_config()}, STATIC_BROKER_CONFIG),
        )
        return [(name, level[name], source) for level, source in levels if name in level]

    # --- producer ids ----------------------------------------------------------------------------------------------

    def _on_init_producer_id(self, call: Call, now_us: int) -> None:
        request: InitProducerIdRequest = call.request
        if request.transactional_id is not None:
            self._ctx.reply(call, InitProducerIdResponse(ErrorCode.UNSUPPORTED_VERSION))
            return
        self._waiting_for_ids.append(call)
        self._hand_out_ids(now_us)

    def _hand_out_ids(self, now_us: int) -> None:
        while self._waiting_for_ids and self._next_producer_id < self._producer_ids_end:
            call = self._waiting_for_ids.pop(0)
            self._ctx.reply(call, InitProducerIdResponse(ErrorCode.NONE, self._next_producer_id, 0))
            self._next_producer_id += 1
        if self._waiting_for_ids and not self._allocating:
            self._allocating = True
            request = AllocateProducerIdsRequest(self._ctx.node_id, self._ctx.broker_epoch)
            self._ctx.send_to_controller(request, self._on_ids_allocated, now_us)

    def _on_ids_allocated(self, response: AllocateProducerIdsResponse | None, error: ErrorCode, now_us: int) -> None:
        self._allocating = False
        if response is None or response.error is not ErrorCode.NONE:
            waiting, self._waiting_for_ids = self._waiting_for_ids, []
            for call in waiting:
                self._ctx.reply(call, InitProducerIdResponse(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
            return
        self._next_producer_id = response.producer_id_start
        self._producer_ids_end = response.producer_id_start + response.producer_id_len
        self._hand_out_ids(now_us)

    # --- forwarding ------------------------------------------------------------------------------------------------

    def _forward_alterations(self, call: Call, now_us: int) -> None:
        """What is malformed or not this broker's to change is answered here; the controller decides on the rest."""
        results = config_admin.preprocess(self._ctx.image, self._ctx.node_id, call.request)
        rest = config_admin.remaining(call.request, results)
        if not rest.resources:
            self._ctx.reply(call, config_admin.reassembled(results, AlterConfigsResponse(())))
            return

        def answered(response: EnvelopeResponse | None, error: ErrorCode, now_us: int) -> None:
            if response is None or response.error is not ErrorCode.NONE:
                code = ErrorCode.REQUEST_TIMED_OUT if response is None else response.error
                answer = refusal(rest, code)
            else:
                answer = response.response
            self._ctx.reply(call, config_admin.reassembled(results, answer))

        self._ctx.send_to_controller(Envelope(rest), answered, now_us)

    def _forward(self, call: Call, now_us: int) -> None:
        def answered(response: EnvelopeResponse | None, error: ErrorCode, now_us: int) -> None:
            if response is None or response.error is not ErrorCode.NONE:
                code = ErrorCode.REQUEST_TIMED_OUT if response is None else response.error
                self._ctx.reply(call, refusal(call.request, code))
            else:
                self._ctx.reply(call, response.response)

        self._ctx.send_to_controller(Envelope(call.request), answered, now_us)


def refusal(request: Any, error: ErrorCode) -> Any:
    """The answer to an admin request none of which could be done."""
    if isinstance(request, CreateTopicsRequest):
        return CreateTopicsResponse(tuple(TopicCreated(spec.name, error) for spec in request.topics))
    if isinstance(request, DeleteTopicsRequest):
        return DeleteTopicsResponse(tuple(NamedResult(name, error) for name in request.names))
    if isinstance(request, CreatePartitionsRequest):
        return CreatePartitionsResponse(tuple(NamedResult(spec.name, error) for spec in request.topics))
    if isinstance(request, IncrementalAlterConfigsRequest | AlterConfigsRequest):
        return AlterConfigsResponse(tuple(ConfigAltered(item.resource, error) for item in request.resources))
    if isinstance(request, ElectLeadersRequest):
        return ElectLeadersResponse(error)
    if isinstance(request, UnregisterBrokerRequest):
        return UnregisterBrokerResponse(error)
    if isinstance(request, UpdateFeaturesRequest):
        return UpdateFeaturesResponse(error)
    assert isinstance(request, AlterPartitionReassignmentsRequest), request
    return AlterPartitionReassignmentsResponse(error)


def _endpoint(broker: BrokerState) -> BrokerEndpoint:
    return BrokerEndpoint(broker.broker_id, broker.host, broker.port, broker.rack)


def _config_value(key: ServerConfigKey, synonyms: list[tuple[str, str | None, int]]) -> ConfigValue:
    _, value, source = synonyms[0]
    return ConfigValue(key.name, value, source, key.read_only, source == DEFAULT_CONFIG, False, tuple(synonyms))
