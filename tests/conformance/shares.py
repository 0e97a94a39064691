"""Short words for tests of share groups: a group that begins at the earliest record, consumers with quick timers.

Rule 1:   a first member gets its partitions with its second heartbeat, so heartbeats come every second here.
"""

from __future__ import annotations

from typing import Any

#: Brokers whose share groups move quickly; a test narrows the lock by a config of its group.
QUICK_SHARES = {
    "group.share.min.heartbeat.interval.ms": 1000,
    "group.share.heartbeat.interval.ms": 1000,
    "group.share.min.session.timeout.ms": 6000,
    "group.share.session.timeout.ms": 10000,
    "group.share.min.record.lock.duration.ms": 1000,
}


class Shares:
    """The share groups of one test."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.ck = kit.ck
        self.cluster = kit.cluster

    def group(self, **config: object) -> str:
        """A group id that reads from the earliest record, with ``share.<name>`` configs."""
        group = self.kit.group()
        self.configure(group, **{"auto_offset_reset": "earliest", **config})
        return group

    def configure(self, group: str, **config: object) -> None:
        admin = self.ck.admin
        entries = [
            admin.ConfigEntry(
                "share." + name.replace("_", "."), str(value), incremental_operation=admin.AlterConfigOpType.SET
            )
            for name, value in config.items()
        ]
        resource = admin.ConfigResource(admin.ResourceType.GROUP, group, incremental_configs=entries)
        for future in self.kit.admin().incremental_alter_configs([resource]).values():
            future.result()
        self.cluster.run_for(0.3)

    def consumer(self, group: str, *topics: str, mode: str = "explicit", **config: Any) -> Any:
        """A share consumer; closed at the test's end."""
        settings = self.kit.config({"group.id": group, "share.acknowledgement.mode": mode}, **config)
        consumer = self.kit.keep(self.ck.ShareConsumer(settings))
        if topics:
            consumer.subscribe(list(topics))
        return consumer

    def poll(self, consumer: Any, timeout: float = 15.0) -> list[Any]:
        """The records of the first poll that brings any."""
        deadline = self.cluster.now + timeout
        while self.cluster.now < deadline:
            messages = list(consumer.poll(0.5))
            if messages:
                return messages
        return []

    def read(self, consumer: Any, count: int, timeout: float = 20.0) -> list[Any]:
        """Poll, and accept everything, until that many records came."""
        messages: list[Any] = []
        deadline = self.cluster.now + timeout
        while len(messages) < count:
            assert self.cluster.now < deadline, f"only {len(messages)} of {count} records came"
            found = list(consumer.poll(0.5))
            for message in found:
                consumer.acknowledge(message)
            messages += found
        consumer.commit_sync()
        return messages

    def nothing(self, consumer: Any, seconds: float = 1.5) -> None:
        """Nothing comes for a while."""
        deadline = self.cluster.now + seconds
        while self.cluster.now < deadline:
            assert list(consumer.poll(0.5)) == []

    def acknowledge(self, consumer: Any, messages: list[Any], kind: Any) -> None:
        for message in messages:
            consumer.acknowledge(message, kind)


def counts(messages: list[Any]) -> dict[int, int]:
    """Offset -> delivery count."""
    return {message.offset(): message.delivery_count() for message in messages}


def outcomes(result: dict[Any, Any]) -> list[Any]:
    """Per partition of a commit: its number, and the name of the error or None."""
    return sorted(
        ((tp.partition, None if error is None else error.args[0].name()) for tp, error in result.items()), key=str
    )
