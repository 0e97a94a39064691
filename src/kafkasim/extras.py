"""What Kafka 4.3 has and confluent_kafka 2.16 has not: NOT part of the real client, and so nothing that runs on both sides.

``ExtendedShareConsumer`` renews acquisition locks (KIP-1222) and limits polls to a number of records (KIP-1206), as the Java
client can; ``ShareGroups`` describes and changes share groups, as ``kafka-share-groups.sh`` does.

Mirrors:  org.apache.kafka.clients.consumer.KafkaShareConsumer, org.apache.kafka.tools.consumer.group.ShareGroupCommand.
Differs:  there is no such client for Python; a program that uses this module runs on the simulator alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kafkasim.confluent_kafka import ShareConsumer
from kafkasim.confluent_kafka.errors import IllegalStateException, throw
from kafkasim.confluent_kafka.message import Message
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import DeleteGroupsRequest
from kafkasim.core.model.share_messages import (
    ACK_RENEW,
    BATCH_OPTIMIZED,
    RECORD_LIMIT,
    AlterShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest,
    ShareGroupDescribed,
    ShareGroupDescribeRequest,
    ShareGroupOffsets,
    ShareGroupPartitionOffset,
)
from kafkasim.sim import runtime

__all__ = ["RENEW", "ExtendedShareConsumer", "ShareGroups"]

#: An acknowledge type that the real client's ``AcknowledgeType`` has not.
RENEW = ACK_RENEW

_MODES = {"batch_optimized": BATCH_OPTIMIZED, "record_limit": RECORD_LIMIT}
_TIMEOUT_US = 30_000_000


class ExtendedShareConsumer(ShareConsumer):
    """``share.acquire.mode`` is understood; ``acknowledge(message, RENEW)`` keeps the record for another full lock.

    A renewed record is returned again by the next poll, with the same delivery count, and must be acknowledged again.
    """

    __slots__ = ("_held",)

    _held: dict[tuple[str, int, int], Message]
    ACQUIRE_MODE: ClassVar[str] = "share.acquire.mode"

    def __init__(self, config: dict[str, Any]) -> None:
        mode = config.get(self.ACQUIRE_MODE, "batch_optimized")
        if mode not in _MODES:
            raise ValueError(f"{self.ACQUIRE_MODE}={mode!r}: expected one of {', '.join(_MODES)}")
        super().__init__({name: value for name, value in config.items() if name != self.ACQUIRE_MODE})
        self._engine.acquire_mode = _MODES[mode]
        self._engine.allows_renew = True
        self._held = {}

    def poll(self, timeout: float = -1.0) -> list[Message]:
        """As ``ShareConsumer.poll``; renewed records come first, alone."""
        renewed = self._open_shell().call(self._engine.take_renewed)
        if renewed:
            return [self._held[(tp.topic, tp.partition, offset)] for tp, offset in renewed]
        try:
            found = list(super().poll(timeout))
        except IllegalStateException as refused:
            if "have not been acknowledged" in str(refused):
                text = "All records must be acknowledged in explicit acknowledgement mode."
                raise IllegalStateException(text) from None
            raise
        if found:
            self._held = {(message.topic(), message.partition(), message.offset()): message for message in found}
        return found

    def acknowledge(self, message: Message, ack_type: int = 1) -> None:
        """Say what became of a record of the last poll; RENEW is a type too."""
        try:
            super().acknowledge(message, ack_type)
        except IllegalStateException:
            raise IllegalStateException("The record cannot be acknowledged.") from None

    def acquisition_lock_timeout_ms(self) -> int | None:
        """How long the broker of the last fetch locks records; None before the first."""
        return self._engine.lock_timeout_ms or None


class ShareGroups:
    """Administration of share groups. Every method waits for its answer, and raises KafkaException where Kafka refuses."""

    def __init__(self, bootstrap_servers: str) -> None:
        config = ClientConfig.parse("admin", {"bootstrap.servers": bootstrap_servers})
        self._shell = runtime.current(bootstrap_servers).open_client("admin", config)

    def _ask(self, request: Any, group_id: str) -> Any:
        operation = self._shell.call(self._shell.engine.call, request, ("coordinator", group_id), _TIMEOUT_US)
        if not operation.done:
            self._shell.wait(lambda: operation.done, None)
        if operation.error:
            throw(operation.error, operation.error_text or None)
        return operation.result

    def describe(self, group_id: str) -> ShareGroupDescribed:
        """State, epochs and members with their assignments."""
        described: ShareGroupDescribed = self._ask(ShareGroupDescribeRequest((group_id,)), group_id).groups[0]
        _raise(described.error, described.error_message)
        return described

    def offsets(self, group_id: str) -> list[ShareGroupPartitionOffset]:
        """Start offset, leader epoch and lag of every partition whose state was initialised."""
        request = DescribeShareGroupOffsetsRequest((ShareGroupOffsets(group_id),))
        described = self._ask(request, group_id).groups[0]
        _raise(described.error, described.error_message)
        return list(described.partitions)

    def alter_offsets(self, group_id: str, offsets: dict[tuple[str, int], int]) -> dict[tuple[str, int], ErrorCode]:
        """Let an empty group go on from other offsets: (topic, partition) -> start offset."""
        wanted = tuple((topic, partition, offset) for (topic, partition), offset in offsets.items())
        response = self._ask(AlterShareGroupOffsetsRequest(group_id, wanted), group_id)
        _raise(response.error, response.error_message)
        return {(topic, partition): error for topic, partition, error in response.partitions}

    def delete_offsets(self, group_id: str, topics: list[str]) -> dict[str, ErrorCode]:
        """Forget what an empty group knows of these topics."""
        response = self._ask(DeleteShareGroupOffsetsRequest(group_id, tuple(topics)), group_id)
        _raise(response.error, response.error_message)
        return dict(response.topics)

    def delete(self, group_id: str) -> None:
        """Remove an empty group."""
        for _, error in self._ask(DeleteGroupsRequest((group_id,)), group_id).results:
            _raise(error, None)

    def close(self) -> None:
        """The client is not needed any more."""
        self._shell.call(self._shell.engine.close)
        self._shell.close()


def _raise(error: ErrorCode, text: str | None) -> None:
    if error is not ErrorCode.NONE:
        throw(error, text)
