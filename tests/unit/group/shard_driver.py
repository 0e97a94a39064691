"""A shard with its log: persisted records are committed at once (or held back), answers are kept by token."""

from __future__ import annotations

import itertools
from typing import Any

from kafkasim.core.group.consumer_state import TopicInfo
from kafkasim.core.group.effects import Answer, Persist
from kafkasim.core.group.java_order import uuid_text
from kafkasim.core.group.shard import GroupSettings, GroupShard
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    Assignment,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    MemberIdentity,
    OffsetAndMetadata,
    OffsetCommitRequest,
    Subscription,
    SyncGroupRequest,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of

SECOND = 1_000_000
T0, T1 = TopicPartition("calls", 0), TopicPartition("calls", 1)


class FakeTopics:
    """A cluster's topics: names, ids and how many partitions. ``version`` moves with every change."""

    def __init__(self, **partitions: int) -> None:
        self._topics: dict[str, TopicInfo] = {}
        self.version = self.newest = 0
        for name, count in partitions.items():
            self.put(name, count)

    def put(self, name: str, count: int, topic_id: str | None = None) -> None:
        """Create a topic, or let it grow."""
        self.version += 1
        known = self._topics.get(name)
        if known is None:
            self.newest = self.version
        if topic_id is None:
            topic_id = uuid_text(int.from_bytes(name.encode().ljust(16, b"."), "big") if known is None else 0)
            topic_id = topic_id if known is None else known.topic_id
        self._topics[name] = TopicInfo(name, topic_id, count, hash=(len(name) << 32) + count)

    def delete(self, name: str) -> None:
        self.version += 1
        del self._topics[name]

    def named(self, name: str) -> TopicInfo | None:
        return self._topics.get(name)

    def identified(self, topic_id: str) -> TopicInfo | None:
        return next((topic for topic in self._topics.values() if topic.topic_id == topic_id), None)

    def names(self) -> list[str]:
        return list(self._topics)


class ShardDriver:
    """Calls a shard as its broker does."""

    def __init__(self, settings: GroupSettings | None = None) -> None:
        self.now_us = 0
        self.log: list[RecordBatch] = []
        self._log_end = 0
        self.answers: dict[str, Any] = {}
        self.append_error = ErrorCode.NONE
        self.held: list[Persist] | None = None
        self._ids = itertools.count(1)
        self.settings = settings or GroupSettings()
        self.topics = FakeTopics(calls=8, other=4)
        #: Group ids that are taken by share groups.
        self.share_groups: list[str] = []
        self.shard = self.new_shard()

    def new_shard(self) -> GroupShard:
        return GroupShard(
            self.settings, lambda prefix: f"{prefix}-{next(self._ids)}", self.topics, self.share_groups.__contains__
        )

    def fail_over(self) -> None:
        """Another broker takes over: a new shard, made from the log alone."""
        self.shard.unload(self.now_us)
        self.carry_out()
        self.shard = self.new_shard()
        self.shard.load(self.log, self.now_us)

    def ask(self, request: Any, token: str) -> Any:
        """Send a request; its answer, or None while it is parked."""
        self.answers.pop(token, None)
        self.shard.on_request(request, "/host", token, self.now_us)
        self.carry_out()
        return self.answers.get(token)

    def wait(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end_us = self.now_us + int(seconds * SECOND)
        while self.shard.deadline_us <= end_us:
            self.now_us = max(self.now_us, self.shard.deadline_us)
            self.shard.on_deadline(self.now_us)
            self.carry_out()
        self.now_us = end_us

    def carry_out(self) -> None:
        effects = self.shard.effects
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Answer):
                assert effect.token not in self.answers, f"{effect.token} was answered twice"
                self.answers[effect.token] = effect.response
            elif self.append_error is not ErrorCode.NONE:
                effect.done(self.append_error, self.now_us)
            else:
                self.append(effect)
                if self.held is not None:
                    self.held.append(effect)
                else:
                    self.commit(effect)
        self.shard.check()

    def append(self, persist: Persist) -> None:
        batch = batch_of([value for _, value in persist.records], [key for key, _ in persist.records])
        self.log.append(batch.placed(self._log_end, 0))
        self._log_end += batch.count
        persist.appended(self.now_us)

    def commit(self, persist: Persist) -> None:
        persist.done(ErrorCode.NONE, self.now_us)

    # --- requests ----------------------------------------------------------------------------------------------------

    def join(
        self, member_id: str, token: str, instance_id: str | None = None, topics: tuple[str, ...] = ("calls",)
    ) -> Any:
        request = JoinGroupRequest(
            "g", 10_000, 60_000, member_id, instance_id, "consumer", (("range", Subscription(topics)),), "app"
        )
        return self.ask(request, token)

    def sync(
        self, member_id: str, generation: int, token: str, assignments: dict[str, Assignment] | None = None
    ) -> Any:
        given = tuple((assignments or {}).items())
        return self.ask(SyncGroupRequest("g", generation, member_id, None, given, "consumer", "range"), token)

    def heartbeat(self, member_id: str, generation: int, token: str = "beat") -> ErrorCode:
        error: ErrorCode = self.ask(HeartbeatRequest("g", generation, member_id), token).error
        return error

    def leave(self, member_id: str, token: str = "leave") -> Any:
        return self.ask(LeaveGroupRequest("g", (MemberIdentity(member_id),)), token)

    def commit_offset(
        self, member_id: str, generation: int, offset: int = 5, tp: TopicPartition = T0, metadata: str = ""
    ) -> ErrorCode:
        value = OffsetAndMetadata(offset, -1, metadata)
        response = self.ask(OffsetCommitRequest("g", generation, member_id, None, ((tp, value),)), "commit")
        error: ErrorCode = response.partitions[0][1]
        return error

    # --- whole stories -----------------------------------------------------------------------------------------------

    def new_member(self, token: str) -> str:
        """The id that a first JoinGroup is sent back with."""
        response = self.join("", token)
        assert response.error is ErrorCode.MEMBER_ID_REQUIRED
        member_id: str = response.member_id
        return member_id

    def stable_group(self, count: int = 2) -> list[str]:
        """``count`` members in a stable group; the first leads and owns partition 0, the second partition 1, and so on."""
        members = [self.new_member(f"id{index}") for index in range(count)]
        for index, member_id in enumerate(members):
            assert self.join(member_id, f"join{index}") is None
        self.wait(6.5)
        generation = self.answers["join0"].generation_id
        given = {member_id: Assignment((TopicPartition("calls", index),)) for index, member_id in enumerate(members)}
        for index, member_id in reversed(list(enumerate(members))):
            self.sync(member_id, generation, f"sync{index}", given if index == 0 else None)
        assert self.shard.groups["g"].state == "Stable"
        return members

    @property
    def generation(self) -> int:
        return self.shard.groups["g"].generation_id

    @property
    def state(self) -> str:
        return self.shard.groups["g"].state
