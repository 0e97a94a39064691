"""Offsets of the groups of one shard: who may commit and fetch them, what deletes them, when they expire.

Mirrors:  org.apache.kafka.coordinator.group.OffsetMetadataManager; validateOffsetCommit and validateOffsetFetch of both kinds of group.
Inputs:   on_commit, on_fetch, on_delete, expire, on_topics_deleted.      Effects: Answer, Persist.
Rule 1:   an offset counts once its record is committed.
Rule 2:   a commit is of the member's generation or epoch. In a consumer group an older epoch passes for partitions that the member
          has had since that epoch or before; one that has not refuses the whole commit.
Rule 3:   offsets of a subscribed topic never expire while there are members. In a classic group that is Empty time counts from when
          it became so, in a consumer group always from the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer_state import ConsumerGroupState, ConsumerMember
from kafkasim.core.group.effects import Answer, GroupEffect, Persist, Token, append_error
from kafkasim.core.group.members import COMPLETING_REBALANCE, EMPTY, STABLE
from kafkasim.core.group.offsets import CommittedOffset, OffsetStore
from kafkasim.core.group.records import encode_offset_key, encode_offset_value
from kafkasim.core.group.target import Topics
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    UNCOMMITTED,
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from kafkasim.core.model.ids import TopicPartition

Groups = dict[str, ClassicGroup | ConsumerGroupState]
Deleted = Callable[[ErrorCode, int], None]


def nobody_waits(error: ErrorCode, now_us: int) -> None:
    """The end of a write that was nobody's request."""


class GroupOffsets:
    """``arm_expiry(now_us)`` makes the shard look for expired offsets in time; ``new_group`` makes a simple group."""

    def __init__(
        self,
        effects: list[GroupEffect],
        groups: Groups,
        topics: Topics,
        metadata_max_bytes: int,
        wall_ms: Callable[[int], int],
        new_group: Callable[[str, int], object],
        arm_expiry: Callable[[int], None],
        is_share: Callable[[str], bool],
    ) -> None:
        self.store = OffsetStore()
        self._effects = effects
        self._groups = groups
        self._topics = topics
        self._metadata_max_bytes = metadata_max_bytes
        self._wall_ms = wall_ms
        self._new_group = new_group
        self._arm_expiry = arm_expiry
        self._is_share = is_share

    # --- commit ----------------------------------------------------------------------------------------------------

    def on_commit(self, request: OffsetCommitRequest, client_host: str, token: Token, now_us: int) -> None:
        error = self._commit_problem(request, now_us)
        if error is not ErrorCode.NONE:
            self._answer(token, OffsetCommitResponse(tuple((tp, error) for tp, _ in request.offsets)))
            return
        verdicts = {tp: self._offset_problem(tp, value) for tp, value in request.offsets}
        accepted = [(tp, value) for tp, value in request.offsets if verdicts[tp] is ErrorCode.NONE]

        def done(error: ErrorCode, now_us: int) -> None:
            for tp, value in accepted:
                if error is ErrorCode.NONE:
                    self.store.replay(request.group_id, tp, CommittedOffset(value, stamp_ms))
                else:
                    verdicts[tp] = _commit_error(error)
            self._answer(token, OffsetCommitResponse(tuple(verdicts.items())))

        stamp_ms = self._wall_ms(now_us)
        if not accepted:
            done(ErrorCode.NONE, now_us)
            return
        records: list[tuple[bytes, bytes | None]] = [
            (encode_offset_key(request.group_id, tp), encode_offset_value(value, stamp_ms, self._topic_id(tp.topic)))
            for tp, value in accepted
        ]
        self._effects.append(Persist(records, done))
        self._arm_expiry(now_us)

    def _topic_id(self, name: str) -> str:
        topic = self._topics.named(name)
        return "" if topic is None else topic.topic_id

    def _commit_problem(self, request: OffsetCommitRequest, now_us: int) -> ErrorCode:
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self._groups.get(request.group_id)
        if group is None:
            if request.generation_id >= 0 or self._is_share(request.group_id):
                return ErrorCode.GROUP_ID_NOT_FOUND
            self._new_group(request.group_id, now_us)
            return ErrorCode.NONE
        if isinstance(group, ConsumerGroupState):
            return self._consumer_problem(group, request)
        return _classic_problem(group, request, now_us)

    def _consumer_problem(self, group: ConsumerGroupState, request: OffsetCommitRequest) -> ErrorCode:
        epoch = request.generation_id
        if epoch < 0 and not group.members:
            return ErrorCode.NONE
        member = group.members.get(request.member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if epoch == member.member_epoch:
            return ErrorCode.NONE
        if epoch > member.member_epoch or not all(self._held_since(member, epoch, tp) for tp, _ in request.offsets):
            return _stale(member)
        return ErrorCode.NONE

    def _held_since(self, member: ConsumerMember, epoch: int, tp: TopicPartition) -> bool:
        topic = self._topics.named(tp.topic)
        if topic is None or tp.partition >= topic.partition_count:
            return True  # it gets an error of its own
        since = member.assignment_epoch(topic.topic_id, tp.partition)
        return since is not None and epoch >= since

    def _offset_problem(self, tp: TopicPartition, value: OffsetAndMetadata) -> ErrorCode:
        topic = self._topics.named(tp.topic)
        if topic is None or not 0 <= tp.partition < topic.partition_count:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if len(value.metadata.encode()) > self._metadata_max_bytes:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return ErrorCode.NONE

    # --- fetch -----------------------------------------------------------------------------------------------------

    def on_fetch(self, request: OffsetFetchRequest, client_host: str, token: Token, now_us: int) -> None:
        error = self._fetch_problem(request)
        if error is not ErrorCode.NONE:
            self._answer(token, OffsetFetchResponse(error))
            return
        if request.partitions is None:
            wanted = list(self.store.of_group(request.group_id))
        else:
            wanted = list(request.partitions)
        found = tuple((tp, self.store.get(request.group_id, tp) or UNCOMMITTED, ErrorCode.NONE) for tp in wanted)
        self._answer(token, OffsetFetchResponse(ErrorCode.NONE, found))

    def _fetch_problem(self, request: OffsetFetchRequest) -> ErrorCode:
        """Consumer groups want to know whose fetch it is, unless it is nobody's."""
        group = self._groups.get(request.group_id)
        if not isinstance(group, ConsumerGroupState) or (request.member_id is None and request.member_epoch < 0):
            return ErrorCode.NONE
        member = group.members.get(request.member_id or "")
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if request.member_epoch == member.member_epoch else _stale(member)

    # --- delete ----------------------------------------------------------------------------------------------------

    def on_delete(self, request: OffsetDeleteRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self._groups.get(request.group_id)
        if group is None:
            self._answer(token, OffsetDeleteResponse(ErrorCode.GROUP_ID_NOT_FOUND))
            return
        verdicts: dict[TopicPartition, ErrorCode] = {}
        for tp in request.partitions:
            subscribed = _is_subscribed(group, tp.topic)
            if subscribed is None:
                self._answer(token, OffsetDeleteResponse(ErrorCode.NON_EMPTY_GROUP))
                return
            verdicts[tp] = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE
        doomed = [
            tp
            for tp, verdict in verdicts.items()
            if verdict is ErrorCode.NONE and self.store.get(request.group_id, tp) is not None
        ]

        def done(error: ErrorCode, now_us: int) -> None:
            code = append_error(error)
            self._answer(token, OffsetDeleteResponse(code, tuple(verdicts.items()) if code is ErrorCode.NONE else ()))

        self.delete([(request.group_id, tp) for tp in doomed], done, now_us)

    def delete(self, doomed: list[tuple[str, TopicPartition]], done: Deleted, now_us: int) -> None:
        def deleted(error: ErrorCode, now_us: int) -> None:
            if error is ErrorCode.NONE:
                for group_id, tp in doomed:
                    self.store.replay(group_id, tp, None)
            done(error, now_us)

        if doomed:
            records: list[tuple[bytes, bytes | None]] = [
                (encode_offset_key(group_id, tp), None) for group_id, tp in doomed
            ]
            self._effects.append(Persist(records, deleted))
        else:
            deleted(ErrorCode.NONE, now_us)

    def delete_of(self, group_id: str, now_us: int) -> None:
        """A group is deleted, its offsets with it."""
        self.delete([(group_id, tp) for tp in self.store.of_group(group_id)], nobody_waits, now_us)

    def on_topics_deleted(self, topics: Iterable[str], now_us: int) -> None:
        """Offsets of a deleted topic are tombstoned."""
        self.delete(self.store.of_topics(topics), nobody_waits, now_us)

    # --- expiry ----------------------------------------------------------------------------------------------------

    def expire(self, group_id: str, retention_ms: int, now_us: int) -> bool:
        """Delete what is past its retention. Returns whether that was, or nothing is, all that the group has."""
        group = self._groups.get(group_id)
        empty_since_ms: int | None = None
        subscribed: Callable[[str], bool] = _never
        if isinstance(group, ConsumerGroupState):
            subscribed = group.is_subscribed_to
        elif group is not None:
            if group.state == EMPTY:
                empty_since_ms = None if group.is_simple() else self._wall_ms(group.state_since_us)
            elif group.state != STABLE or group.subscribed_topics() is None:
                return False
            topics = group.subscribed_topics() or frozenset()
            subscribed = topics.__contains__
        doomed = self.store.expired(group_id, self._wall_ms(now_us), retention_ms, empty_since_ms, subscribed)
        everything = len(doomed) == len(self.store.of_group(group_id))
        self.delete([(group_id, tp) for tp in doomed], nobody_waits, now_us)
        return everything

    def _answer(self, token: Token, response: object) -> None:
        self._effects.append(Answer(token, response))


def _never(topic: str) -> bool:
    return False


def _is_subscribed(group: ClassicGroup | ConsumerGroupState, topic: str) -> bool | None:
    """None where it cannot be known: members of another protocol than the consumers'."""
    if isinstance(group, ConsumerGroupState):
        return group.is_subscribed_to(topic)
    subscribed = group.subscribed_topics() if group.members else frozenset()
    return None if subscribed is None else topic in subscribed


def _stale(member: ConsumerMember) -> ErrorCode:
    return ErrorCode.STALE_MEMBER_EPOCH if member.classic is None else ErrorCode.ILLEGAL_GENERATION


def _classic_problem(group: ClassicGroup, request: OffsetCommitRequest, now_us: int) -> ErrorCode:
    """Who may commit: a member of the current generation, or anybody while the group has no members."""
    if request.generation_id < 0 and group.state == EMPTY:
        return ErrorCode.NONE
    if request.generation_id < 0 and not request.member_id and request.group_instance_id is None:
        return ErrorCode.UNKNOWN_MEMBER_ID
    member, error = group.member_for(request.member_id, request.group_instance_id)
    if member is None:
        return error
    if request.generation_id != group.generation_id:
        return ErrorCode.ILLEGAL_GENERATION
    if group.state == COMPLETING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    group.refresh(request.member_id, now_us)
    return ErrorCode.NONE


def _commit_error(error: ErrorCode) -> ErrorCode:
    if error is ErrorCode.MESSAGE_TOO_LARGE:
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return append_error(error)
