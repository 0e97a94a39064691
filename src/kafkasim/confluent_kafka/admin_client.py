"""_AdminClientImpl: the administrative calls beneath the client's own AdminClient.

Each call checks its arguments, sends requests through the admin engine and resolves the given future when the answers are in.

Mirrors:  cimpl._AdminClientImpl (Admin.c).
Rule 1:   a call returns at once; a bad argument raises, everything later goes into the future.
Rule 2:   a failure of the whole request is the future's exception, one of a part is a KafkaError inside its result.
Differs:  there is no authorizer, and SCRAM credentials are not modelled; both say so in their answers.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from kafkasim.confluent_kafka import _admin_arguments as arguments
from kafkasim.confluent_kafka import _admin_completion as completion
from kafkasim.confluent_kafka import _admin_results as results
from kafkasim.confluent_kafka._arguments import c_arguments, timeout_ms
from kafkasim.confluent_kafka._config import ADMIN
from kafkasim.confluent_kafka._handle import ClientHandle, timeout_us
from kafkasim.confluent_kafka.errors import KafkaError, KafkaException
from kafkasim.confluent_kafka.futures import Future
from kafkasim.confluent_kafka.layer import layer_module
from kafkasim.confluent_kafka.values import NewPartitions, NewTopic, TopicPartition
from kafkasim.core.model import admin_messages as admin
from kafkasim.core.model import group_messages as groups
from kafkasim.core.model import messages
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.client.operation import Operation
    from kafkasim.sim.drive import ClientShell

Self = TypeVar("Self", bound="_AdminClientImpl")

ADMIN_CLOSED = "AdminClient has been closed"
_NO_AUTHORIZER = "No Authorizer is configured."


class _AdminClientImpl(ClientHandle):
    """Base of ``AdminClient``; not meant to be used by itself."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if getattr(self, "_shell", None) is not None:
            raise RuntimeError("Admin already __init__:ialized")
        self._shell = None
        self._open(ADMIN, args, kwargs)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        if len(exc) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc)}")
        shell = self._shell
        if shell is not None:
            self._shell = None
            shell.call(self._engine.close)
            shell.close()

    def __len__(self) -> int:
        """Events that wait to be served."""
        if self._shell is None:
            return 0
        self._gather_events()
        return len(self._events)

    @c_arguments("d")
    def poll(self, timeout: float) -> int:
        """Serve the client's events for up to ``timeout`` seconds."""
        shell = self._require_open(ADMIN_CLOSED)
        if not self._gather_events() and not shell.wait(self._gather_events, timeout_us(timeout)):
            return 0
        served = 0
        while self._events:
            served += self._serve_event(self._events.popleft())
        return served

    # --- Requests --------------------------------------------------------------------------------------------------

    def _request_timeout_us(self, seconds: float) -> int:
        milliseconds = timeout_ms(seconds)
        if milliseconds < 0:
            milliseconds = self._engine.config.ms("socket.timeout.ms")
        return milliseconds * 1000

    def _ask(self, request: Any, target: Any, request_timeout: float) -> Operation:
        shell = self._require_open(ADMIN_CLOSED)
        operation: Operation = shell.call(self._engine.call, request, target, self._request_timeout_us(request_timeout))
        return operation

    def _submit(
        self, future: Any, request: Any, target: Any, request_timeout: float, convert: Callable[[Any], Any]
    ) -> None:
        """Ask, unless the client itself refuses, and put ``convert(response)`` into the future."""
        if not completion.is_refused(future, request, target):
            self._resolve(future, self._ask(request, target, request_timeout), convert)

    def _resolve(self, future: Any, operation: Operation, convert: Callable[[Any], Any]) -> None:
        """Put ``convert(response)`` into the future once the answer is there."""

        def finish(done: Operation) -> None:
            if done.error:
                future.set_exception(completion.failed(done))
            else:
                completion.set_result(future, lambda: convert(done.result))

        completion.when_done(operation, finish)

    def _resolve_all(self, future: Any, operations: list[Operation], convert: Callable[[list[Operation]], Any]) -> None:
        """The same for several requests: ``convert`` gets the finished operations in their order."""
        left = len(operations)

        def finish(_: Operation) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                completion.set_result(future, lambda: convert(operations))

        for operation in operations:
            completion.when_done(operation, finish)

    def _when_listed(
        self, request: Any, request_timeout: float, future: Any, convert: Callable[[list[Operation]], Any]
    ) -> None:
        """Ask every broker of the cluster, which has to be asked for first."""
        shell = self._open_shell()
        limit_us = self._request_timeout_us(request_timeout)
        deadline_us = shell.now_us + limit_us

        def ask_each(found: Operation) -> None:
            # Not through the shell: we are in the middle of an answer already.
            left_us = max(deadline_us - shell.now_us, 1)
            asked = [
                self._engine.call(request, ("broker", broker.node_id), left_us, shell.now_us)
                for broker in found.result.brokers
            ]
            self._resolve_all(future, asked, convert)

        def finish(found: Operation) -> None:
            if found.error:
                future.set_exception(completion.failed(found))
            else:
                ask_each(found)

        completion.when_done(shell.call(self._engine.call, messages.MetadataRequest(()), "any", limit_us), finish)

    def _open_shell(self) -> ClientShell:
        return self._require_open(ADMIN_CLOSED)

    # --- Topics ----------------------------------------------------------------------------------------------------

    @c_arguments("OO|Odd")
    def create_topics(
        self,
        topics: list[NewTopic],
        future: Any,
        validate_only: bool = False,
        request_timeout: float = -1.0,
        operation_timeout: float = -1.0,
    ) -> None:
        """Create topics; the result is error or None by topic name."""
        arguments.require_filled_list(topics, "NewTopic")
        arguments.require_bool(validate_only, "validate_only")
        self._open_shell()
        specs = tuple([arguments.topic_spec(topic) for topic in topics])
        request = admin.CreateTopicsRequest(specs, arguments.operation_ms(operation_timeout), validate_only)
        self._submit(
            future, request, "controller", request_timeout, lambda response: results.named_errors(response.topics)
        )

    @c_arguments("lO|dd")
    def delete_topics(
        self,
        topics: list[str],
        future: Any,
        request_timeout: float = -1.0,
        operation_timeout: float = -1.0,
    ) -> None:
        """Delete topics; the result is error or None by topic name."""
        if not topics:
            raise ValueError("Expected non-empty list of topic strings")
        self._open_shell()
        if None in topics:
            raise ValueError("Expected list of topic strings, not NoneType")
        request = admin.DeleteTopicsRequest(
            tuple([str(topic) for topic in topics]), arguments.operation_ms(operation_timeout)
        )
        self._submit(
            future, request, "controller", request_timeout, lambda response: results.named_codes(response.topics)
        )

    @c_arguments("OO|Odd")
    def create_partitions(
        self,
        topics: list[NewPartitions],
        future: Any,
        validate_only: bool = False,
        request_timeout: float = -1.0,
        operation_timeout: float = -1.0,
    ) -> None:
        """Add partitions to topics; the result is error or None by topic name."""
        arguments.require_filled_list(topics, "NewPartitions")
        arguments.require_bool(validate_only, "validate_only")
        self._open_shell()
        specs = tuple([arguments.partitions_spec(new) for new in topics])
        request = admin.CreatePartitionsRequest(specs, arguments.operation_ms(operation_timeout), validate_only)
        self._submit(
            future, request, "controller", request_timeout, lambda response: results.named_errors(response.topics)
        )

    @c_arguments("OO|dO", names=("future", "topic_names", "request_timeout", "include_authorized_operations"))
    def describe_topics(
        self,
        topic_names: list[str],
        future: Any,
        request_timeout: float = -1.0,
        include_authorized_operations: bool = False,
    ) -> None:
        """Describe topics; the result is a list, in their order."""
        arguments.require_bool(include_authorized_operations, "include_authorized_operations")
        if not isinstance(topic_names, list):
            raise TypeError("Expected a list of topics")
        for index, name in enumerate(topic_names):
            if not isinstance(name, str):
                raise TypeError(f"Expected list of topics strings, not {type(name).__name__}")
            if not name:
                raise ValueError(f"'topics' must not contain empty strings, index {index}")
        self._open_shell()
        self._submit(
            future,
            messages.MetadataRequest(tuple(topic_names), allow_auto_topic_creation=False),
            "any",
            request_timeout,
            lambda response: results.described_topics(response, topic_names),
        )

    @c_arguments("O|dO")
    def describe_cluster(
        self, future: Any, request_timeout: float = -1.0, include_authorized_operations: bool = False
    ) -> None:
        """Describe the cluster."""
        arguments.require_bool(include_authorized_operations, "include_authorized_operations")
        self._open_shell()
        self._submit(future, messages.MetadataRequest(()), "any", request_timeout, results.described_cluster)

    # --- Configs ---------------------------------------------------------------------------------------------------

    @c_arguments("OO|di")
    def describe_configs(
        self, resources: list[Any], future: Any, request_timeout: float = -1.0, broker: int = -1
    ) -> None:
        """Describe the configs of topics, brokers, groups."""
        arguments.require_filled_list(resources, "ConfigResource")
        self._open_shell()
        wanted = tuple([arguments.config_resource(resource) for resource in resources])
        target = arguments.config_target(wanted, broker, future)
        self._submit(
            future,
            admin.DescribeConfigsRequest(wanted),
            target,
            request_timeout,
            lambda response: results.described_configs(response.results),
        )

    @c_arguments("OO|Odi")
    def alter_configs(
        self,
        resources: list[Any],
        future: Any,
        validate_only: bool = False,
        request_timeout: float = -1.0,
        broker: int = -1,
    ) -> None:
        """Replace the dynamic configs of resources."""
        arguments.require_filled_list(resources, "ConfigResource")
        arguments.require_bool(validate_only, "validate_only")
        self._open_shell()
        changes = tuple([arguments.replacing(resource) for resource in resources])
        request = admin.AlterConfigsRequest(changes, validate_only)
        self._alter(request, changes, future, request_timeout, broker)

    @c_arguments("OO|Odi")
    def incremental_alter_configs(
        self,
        resources: list[Any],
        future: Any,
        validate_only: bool = False,
        request_timeout: float = -1.0,
        broker: int = -1,
    ) -> None:
        """Change single dynamic configs of resources."""
        arguments.require_filled_list(resources, "ConfigResource")
        arguments.require_bool(validate_only, "validate_only")
        self._open_shell()
        changes = tuple([arguments.incremental(resource) for resource in resources])
        request = admin.IncrementalAlterConfigsRequest(changes, validate_only)
        self._alter(request, changes, future, request_timeout, broker)

    def _alter(
        self,
        request: Any,
        changes: tuple[admin.ConfigAlteration, ...],
        future: Any,
        request_timeout: float,
        broker: int,
    ) -> None:
        target = arguments.config_target(tuple([change.resource for change in changes]), broker, future)
        self._submit(
            future, request, target, request_timeout, lambda response: results.altered_configs(response.results)
        )

    # --- Groups ----------------------------------------------------------------------------------------------------

    @c_arguments("O|OOd")
    def list_consumer_groups(
        self,
        future: Any,
        states_int: list[int] | None = None,
        types_int: list[int] | None = None,
        request_timeout: float = -1.0,
    ) -> None:
        """List the groups that every broker coordinates."""
        states = arguments.filter(states_int, "states", "states", results.STATE_NAMES)
        types = arguments.filter(types_int, "types", "group types", results.TYPE_NAMES)
        self._open_shell()
        request = groups.ListGroupsRequest(states, types)
        self._when_listed(request, request_timeout, future, results.listing)

    @c_arguments("OO|dO", names=("future", "group_ids", "request_timeout", "include_authorized_operations"))
    def describe_consumer_groups(
        self,
        group_ids: list[str],
        future: Any,
        request_timeout: float = -1.0,
        include_authorized_operations: bool = False,
    ) -> None:
        """Describe groups; the result is a list, in their order."""
        arguments.require_bool(include_authorized_operations, "include_authorized_operations")
        if not isinstance(group_ids, list) or not group_ids:
            raise ValueError("Expected non-empty list of group_ids")
        if None in group_ids:
            raise ValueError("Expected list of group strings, not NoneType")
        self._open_shell()
        names = [str(group_id) for group_id in group_ids]
        if completion.has_duplicates(future, names, "Duplicate groups not allowed"):
            return
        shell, limit_us = self._require_open(ADMIN_CLOSED), self._request_timeout_us(request_timeout)
        operations = [shell.call(self._engine.describe_group, name, limit_us) for name in names]
        self._resolve_all(
            future,
            operations,
            lambda done: [self._described(name, one) for name, one in zip(names, done, strict=True)],
        )

    def _described(self, group_id: str, operation: Operation) -> Any:
        if operation.error:
            return results.failure(operation.error, operation.error_text)
        coordinator = self._engine.metadata.brokers.get(self._engine.coordinator_of(group_id))
        return results.described_group(operation.result, results.node(coordinator))

    @c_arguments("OO|d")
    def delete_consumer_groups(self, group_ids: list[str], future: Any, request_timeout: float = -1.0) -> None:
        """Delete groups; the result is a list of errors or None, in their order."""
        self._open_shell()
        if not isinstance(group_ids, list):
            raise ValueError("Expected 'group_ids' to be a list")
        names = [str(group_id) for group_id in group_ids]
        if completion.has_duplicates(future, names, "Duplicate groups not allowed"):
            return
        operations = [
            self._ask(groups.DeleteGroupsRequest((name,)), ("coordinator", name), request_timeout) for name in names
        ]

        def outcome(operation: Operation) -> KafkaError | None:
            if operation.error:
                return results.failure(operation.error, operation.error_text)
            return results.failure(operation.result.results[0][1])

        self._resolve_all(future, operations, lambda done: [outcome(one) for one in done])

    @c_arguments("OO|Od")
    def list_consumer_group_offsets(
        self, request: Any, future: Any, require_stable: bool = False, request_timeout: float = -1.0
    ) -> None:
        """What a group has committed."""
        arguments.require_bool(require_stable, "require_stable")
        self._open_shell()
        group_id, partitions = arguments.group_request(request)
        wanted = None if partitions is None else tuple([arguments.partition(value) for value in partitions])

        def outcome(response: groups.OffsetFetchResponse) -> list[Any]:
            if response.error:
                return [results.failure(response.error)]
            found = [results.fetched_offset(*entry) for entry in response.partitions]
            return [results.group_offsets(group_id, found)]

        self._submit(
            future,
            groups.OffsetFetchRequest(group_id, wanted, require_stable),
            ("coordinator", group_id),
            request_timeout,
            outcome,
        )

    @c_arguments("OO|d")
    def alter_consumer_group_offsets(self, requests: Any, future: Any, request_timeout: float = -1.0) -> None:
        """Set what a group without members has committed."""
        self._open_shell()
        group_id, partitions = arguments.group_request(requests)
        offsets = tuple(
            [
                (
                    arguments.partition(value),
                    groups.OffsetAndMetadata(value._offset, value._leader_epoch, value._metadata_to_send),
                )
                for value in partitions or ()
            ]
        )
        asked = {tp: to.offset for tp, to in offsets}

        def outcome(response: groups.OffsetCommitResponse) -> list[Any]:
            altered = [results.partition_key(tp, asked[tp], code) for tp, code in response.partitions]
            return [results.group_offsets(group_id, altered)]

        self._submit(
            future,
            groups.OffsetCommitRequest(group_id, -1, "", None, offsets),
            ("coordinator", group_id),
            request_timeout,
            outcome,
        )

    # --- Records and leaders ---------------------------------------------------------------------------------------

    @c_arguments("OO|id", names=("topic_partitions", "future", "isolation_level_value", "request_timeout"))
    def list_offsets(
        self,
        topic_partitions: list[TopicPartition],
        future: Any,
        isolation_level_value: int = 0,
        request_timeout: float = -1.0,
    ) -> None:
        """Offsets of partitions by the specification (earliest, latest, a time) in their ``offset`` fields."""
        self._open_shell()
        if not isinstance(topic_partitions, list):
            raise ValueError("topic_partitions must be a list")
        wanted = [
            messages.PartitionListOffsets(arguments.partition(value), value._offset) for value in topic_partitions
        ]
        request = messages.ListOffsetsRequest(wanted, isolation_level=isolation_level_value)
        self._submit(future, request, ("leaders",), request_timeout, results.listed_offsets)

    @c_arguments("OO|dd")
    def delete_records(
        self,
        topic_partition_offsets: list[TopicPartition],
        future: Any,
        request_timeout: float = -1.0,
        operation_timeout: float = -1.0,
    ) -> None:
        """Delete what is before the given offsets."""
        self._open_shell()
        arguments.require_partitions(topic_partition_offsets)
        wanted = [
            messages.PartitionDeleteRecords(arguments.partition(value), value._offset)
            for value in topic_partition_offsets
        ]
        request = messages.DeleteRecordsRequest(wanted, arguments.operation_ms(operation_timeout))

        def outcome(response: messages.DeleteRecordsResponse) -> dict[TopicPartition, Any]:
            deleted = layer_module("admin").DeletedRecords
            return {
                results.partition_key(part.tp, part.low_watermark, part.error): results.failure(part.error)
                if part.error
                else deleted(low_watermark=part.low_watermark)
                for part in response.partitions
            }

        self._submit(future, request, ("leaders",), request_timeout, outcome)

    @c_arguments("OOO|dd")
    def elect_leaders(
        self,
        election_type: int,
        partitions: list[TopicPartition] | None,
        future: Any,
        request_timeout: float = -1.0,
        operation_timeout: float = -1.0,
    ) -> None:
        """Elect preferred or unclean leaders, of all partitions if none are given."""
        self._open_shell()
        if partitions is not None and not isinstance(partitions, list):
            raise ValueError("partitions must be None or a list")
        wanted = None if partitions is None else tuple([arguments.partition(value) for value in partitions])
        request = admin.ElectLeadersRequest(int(election_type), wanted, arguments.operation_ms(operation_timeout))

        def outcome(response: admin.ElectLeadersResponse) -> dict[TopicPartition, KafkaError | None]:
            if response.error:
                raise KafkaException(results.failure(response.error))
            return {
                results.partition_key(part.tp): results.failure(part.error, part.error_message)
                for part in response.partitions
            }

        self._submit(future, request, "controller", request_timeout, outcome)

    @c_arguments("|zd")
    def list_groups(self, group: str | None = None, timeout: float = -1.0) -> list[Any]:
        """The old way to list groups with their members; blocks."""
        warnings.warn(
            "list_groups() is deprecated, use list_consumer_groups() and describe_consumer_groups() instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        self._require_open()
        from kafkasim.confluent_kafka._groups import group_metadata

        listing: Future[Any] = Future()
        self._when_listed(groups.ListGroupsRequest(), timeout, listing, results.all_groups)
        names = [name for name in listing.result() if group is None or name == group]
        found = []
        for name in names:
            operation = self._ask(groups.DescribeGroupsRequest((name,)), ("coordinator", name), timeout)
            described = self._finished(operation, "Failed to list groups: ").groups[0]
            broker = self._engine.metadata.brokers.get(self._engine.coordinator_of(name))
            found.append(group_metadata(described, broker))
        return found

    # --- What is not modelled --------------------------------------------------------------------------------------

    @c_arguments("OO|d")
    def create_acls(self, acls: list[Any], future: Any, request_timeout: float = -1.0) -> None:
        """Refused, as by a cluster without an authorizer."""
        arguments.require_filled_list(acls, "AclBinding")
        self._open_shell()
        error = KafkaError(int(ErrorCode.SECURITY_DISABLED), _NO_AUTHORIZER)
        future.set_result([error for _ in acls])

    @c_arguments("OO|d")
    def describe_acls(self, acl_binding_filter: Any, future: Any, request_timeout: float = -1.0) -> None:
        """Refused, as by a cluster without an authorizer."""
        self._open_shell()
        if not isinstance(acl_binding_filter, layer_module("admin").AclBindingFilter):
            raise TypeError("Expected an AclBindingFilter object")
        future.set_exception(KafkaException(KafkaError(int(ErrorCode.SECURITY_DISABLED), _NO_AUTHORIZER)))

    @c_arguments("OO|d")
    def delete_acls(self, acls: list[Any], future: Any, request_timeout: float = -1.0) -> None:
        """Refused, as by a cluster without an authorizer."""
        arguments.require_filled_list(acls, "AclBindingFilter")
        self._open_shell()
        error = KafkaError(int(ErrorCode.SECURITY_DISABLED), _NO_AUTHORIZER)
        future.set_result([error for _ in acls])

    @c_arguments("OO|d")
    def describe_user_scram_credentials(
        self, users: list[str] | None, future: Any, request_timeout: float = -1.0
    ) -> None:
        """SCRAM credentials are not modelled."""
        if users is not None and not isinstance(users, list):
            raise ValueError("Expected non-empty list of string objects in 'users' parameter")
        self._open_shell()
        future.set_exception(completion.not_modelled("SCRAM credentials"))

    @c_arguments("OO|d")
    def alter_user_scram_credentials(self, alterations: list[Any], future: Any, request_timeout: float = -1.0) -> None:
        """SCRAM credentials are not modelled."""
        arguments.require_filled_list(alterations, "Alteration")
        self._open_shell()
        future.set_exception(completion.not_modelled("SCRAM credentials"))


_AdminClientImpl.__module__ = "cimpl"
