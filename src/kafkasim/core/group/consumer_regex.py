"""The regular expressions that members of a consumer group subscribe to: when they are resolved, and what that changes.

Mirrors:  GroupMetadataManager.maybeUpdateRegularExpressions, handleRegularExpressionsResult, TopicRegexResolver.
Inputs:   on_heartbeat, on_resolved.
Rule 1:   all expressions of a group are resolved at once, aside; the outcome comes as an input of its own, after the heartbeat.
Rule 2:   again after ten seconds at the earliest, if one is unresolved, topics are new, or the refresh interval is over.
Differs:  resolving takes no virtual time.
"""

from __future__ import annotations

from enum import Enum

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer_records import GroupEpochRecord, RegexRecord
from kafkasim.core.group.consumer_state import ConsumerGroupState, ConsumerMember, Refused, counted
from kafkasim.core.group.java_order import string_set_order
from kafkasim.core.group.members import TimerKey
from kafkasim.core.group.regex import InvalidRegex, compile_regex, matching
from kafkasim.core.group.runtime import Plan, Runtime
from kafkasim.core.group.target import Subscriptions
from kafkasim.core.model.errors import ErrorCode

_MIN_REFRESH_INTERVAL_MS = 10_000
_NEVER_MS = -(1 << 62)


class RegexStatus(Enum):
    """What a heartbeat did to a member's expression."""

    NO_CHANGE = 0
    UPDATED = 1
    UPDATED_AND_RESOLVED = 2


class RegularExpressions:
    def __init__(self, runtime: Runtime, groups: dict[str, ClassicGroup | ConsumerGroupState]) -> None:
        self._runtime = runtime
        self._groups = groups
        #: What is being resolved: group -> expressions.
        self._resolving: dict[str, tuple[str, ...]] = {}

    def on_heartbeat(
        self, group: ConsumerGroupState, member: ConsumerMember, updated: ConsumerMember, plan: Plan, now_us: int
    ) -> RegexStatus:
        old, new = member.topic_regex, updated.topic_regex
        status, is_new = RegexStatus.NO_CHANGE, False
        if old != new:
            status = RegexStatus.UPDATED
            if old and group.regexes.get(old) == 1:
                plan.records.append(RegexRecord(group.group_id, old, is_tombstone=True))
            if new and new not in group.regexes:
                _refuse_invalid(new)
                is_new = True
            elif not new or new in group.resolved:
                status = RegexStatus.UPDATED_AND_RESOLVED
        self._maybe_resolve(group, old, new, is_new, now_us)
        return status

    def _maybe_resolve(self, group: ConsumerGroupState, old: str, new: str, is_new: bool, now_us: int) -> None:
        key: TimerKey = ("regex", group.group_id, "")
        if (not is_new and not group.regexes) or key in self._runtime.timers:
            return
        now_ms = self._runtime.wall_ms(now_us)
        latest = next(iter(group.resolved.values()), None)
        refreshed_ms = _NEVER_MS if latest is None else latest.timestamp_ms
        if now_ms <= refreshed_ms + _MIN_REFRESH_INTERVAL_MS:
            return
        regexes = dict(group.regexes)
        if old:
            counted(regexes, old, -1)
        if new:
            counted(regexes, new, 1)
        is_due = (
            is_new
            or len(regexes) != len(group.resolved)
            or (0 if latest is None else latest.version) < self._runtime.topics.newest
            or now_ms > refreshed_ms + self._runtime.settings.regex_refresh_interval_ms
        )
        if is_due and regexes:
            self._resolving[group.group_id] = tuple(regexes)
            self._runtime.timers.arm(key, now_us)

    def on_resolved(self, group_id: str, now_us: int) -> None:
        """The expressions were matched against all topics: new matches move the group epoch."""
        regexes = self._resolving.pop(group_id, ())
        group = self._groups.get(group_id)
        if not isinstance(group, ConsumerGroupState):
            return
        topics, now_ms = self._runtime.topics, self._runtime.wall_ms(now_us)
        plan = Plan()
        subscriptions = Subscriptions(dict(group.by_name), dict(group.by_regex), dict(group.regexes))
        bumps = False
        for regex in regexes:
            if regex not in group.regexes:
                continue
            found = tuple(string_set_order(matching(regex, topics.names())))
            before = group.resolved[regex].topics if regex in group.resolved else ()
            if set(found) != set(before):
                bumps = True
                for name in before:
                    counted(subscriptions.by_regex, name, -1)
                for name in found:
                    counted(subscriptions.by_regex, name, 1)
            plan.records.append(RegexRecord(group_id, regex, found, topics.version, now_ms))
        metadata_hash = subscriptions.metadata_hash(topics)
        if bumps or metadata_hash != group.metadata_hash:
            plan.records.append(GroupEpochRecord(group_id, group.group_epoch + 1, metadata_hash))
        self._runtime.carry_out(plan, lambda error, now_us: None, now_us)


def _refuse_invalid(regex: str) -> None:
    try:
        compile_regex(regex)
    except InvalidRegex as problem:
        raise Refused(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {problem}.",
        ) from None
