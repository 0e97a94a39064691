"""A member of a consumer group, as little of a client as the protocol needs, on a shard driver."""

from __future__ import annotations

from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.group.consumer_state import ConsumerGroupState
from kafkasim.core.model.consumer_group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition

Owned = dict[str, tuple[int, ...]]


class Member:
    """``owned``: what it works on; it gives up at once what is taken from it, unless ``stuck``."""

    def __init__(
        self,
        driver: ShardDriver,
        member_id: str,
        topics: tuple[str, ...] | None = ("calls",),
        *,
        regex: str | None = None,
        instance_id: str | None = None,
        assignor: str | None = None,
        rebalance_timeout_ms: int = 300_000,
        group_id: str = "g",
    ) -> None:
        self.driver = driver
        self.group_id = group_id
        self.member_id = member_id
        self.topics = topics
        self.regex = regex
        self.instance_id = instance_id
        self.assignor = assignor
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.epoch = 0
        self.owned: Owned = {}
        self.assigned: Owned = {}
        self.stuck = False
        self._reported: Owned | None = None

    def ask(self, *, full: bool = False) -> ConsumerGroupHeartbeatResponse | None:
        """One heartbeat and nothing else; None while its answer is not there yet."""
        full = full or self.epoch == 0
        changed = full or self._reported != self.owned
        owned = tuple(TopicPartitions(topic_id, parts) for topic_id, parts in self.owned.items()) if changed else None
        self._reported = dict(self.owned)
        request = ConsumerGroupHeartbeatRequest(
            self.group_id,
            self.member_id,
            self.epoch,
            self.instance_id,
            rebalance_timeout_ms=self.rebalance_timeout_ms if full else -1,
            subscribed_topic_names=self.topics if full else None,
            subscribed_topic_regex=self.regex if full else None,
            server_assignor=self.assignor if full else None,
            topic_partitions=owned,
            client_id="app",
        )
        answer: ConsumerGroupHeartbeatResponse | None = self.driver.ask(request, self.member_id)
        return answer

    def beat(self, *, full: bool = False) -> ErrorCode:
        """A heartbeat, and what a client does upon its answer: revoke, report that at once, take over."""
        answer = self.ask(full=full)
        assert answer is not None
        self.take(answer)
        return answer.error

    def take(self, answer: ConsumerGroupHeartbeatResponse) -> None:
        if answer.error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH):
            self.epoch, self.owned, self.assigned, self._reported = 0, {}, {}, None
        if answer.error is not ErrorCode.NONE:
            return
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.assigned = {each.topic_id: each.partitions for each in answer.assignment}
        if not self.stuck:
            self.reconcile()

    def reconcile(self) -> None:
        kept = {
            topic_id: tuple(part for part in parts if part in self.assigned.get(topic_id, ()))
            for topic_id, parts in self.owned.items()
        }
        kept = {topic_id: parts for topic_id, parts in kept.items() if parts}
        revoked = kept != self.owned
        self.owned = kept
        if revoked:
            self.beat()  # what it says takes care of the rest
        else:
            self.owned = dict(self.assigned)

    def subscribe(self, *topics: str) -> ErrorCode:
        self.topics = topics
        return self.beat(full=True)

    def leave(self, epoch: int = -1) -> ErrorCode:
        request = ConsumerGroupHeartbeatRequest(self.group_id, self.member_id, epoch, self.instance_id)
        error: ErrorCode = self.driver.ask(request, self.member_id).error
        self.epoch, self.owned, self.assigned, self._reported = 0, {}, {}, None
        return error

    @property
    def partitions(self) -> list[TopicPartition]:
        """What it owns, by name."""
        found = []
        for topic_id, parts in self.owned.items():
            topic = self.driver.topics.identified(topic_id)
            assert topic is not None
            found += [TopicPartition(topic.name, part) for part in parts]
        return sorted(found)


def group_of(driver: ShardDriver, group_id: str = "g") -> ConsumerGroupState:
    group = driver.shard.groups[group_id]
    assert isinstance(group, ConsumerGroupState)
    return group


def settle(driver: ShardDriver, members: list[Member], rounds: int = 4) -> None:
    """Everybody beats every five seconds, until nothing can be left to do."""
    for _ in range(rounds):
        driver.wait(5)
        for member in members:
            member.beat()
