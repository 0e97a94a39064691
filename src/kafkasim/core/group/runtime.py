"""What the consumer groups of a shard stand on: settings, topics, timers, and the one way to the log.

Mirrors:  org.apache.kafka.coordinator.common.runtime.CoordinatorRuntime as the group coordinator uses it.
Effects:  Answer, Persist.
Rule 1:   records are replayed as soon as they are in the leader's log, and answered for when they are committed.
Rule 2:   an answer that rests on records of others that are not yet committed waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafkasim.core.group.consumer_records import ConsumerGroupRecord, KeyValue, encode
from kafkasim.core.group.effects import Answer, GroupEffect, Persist, Token
from kafkasim.core.group.members import TimerKey
from kafkasim.core.group.target import Topics
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.timers import Timers

Done = Callable[[ErrorCode, int], None]


def _no_own_configs(group_id: str) -> Mapping[str, str]:
    return {}


@slotted
class ConsumerGroupSettings:
    """The broker's settings for consumer groups; ``own_configs(group id)`` are those of the GROUP resource, if any."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    assignment_interval_ms: int = 1_000
    regex_refresh_interval_ms: int = 600_000
    max_size: int = 2_147_483_647
    assignors: tuple[str, ...] = ("uniform", "range")
    migration_policy: str = "bidirectional"
    own_configs: Callable[[str], Mapping[str, str]] = _no_own_configs

    def session_timeout_of(self, group_id: str) -> int:
        return self._own(group_id, "consumer.session.timeout.ms", self.session_timeout_ms)

    def heartbeat_interval_of(self, group_id: str) -> int:
        return self._own(group_id, "consumer.heartbeat.interval.ms", self.heartbeat_interval_ms)

    def assignment_interval_of(self, group_id: str) -> int:
        return self._own(group_id, "consumer.assignment.interval.ms", self.assignment_interval_ms)

    def _own(self, group_id: str, key: str, default: int) -> int:
        return int(self.own_configs(group_id).get(key, default))

    def allows(self, direction: str) -> bool:
        """``direction``: upgrade or downgrade."""
        return self.migration_policy.lower() in ("bidirectional", direction)


@slotted
class Plan:
    """What one request or timer comes to. ``before`` and ``after`` are records of the classic half, around ``records``.

    ``unless_refused`` and ``then`` run at the append, before and after the replay, with the time.
    """

    records: list[ConsumerGroupRecord] = fresh(factory=list)
    response: Any = None
    before: list[KeyValue] = fresh(factory=list)
    after: list[KeyValue] = fresh(factory=list)
    unless_refused: list[Callable[[int], None]] = fresh(factory=list)
    then: list[Callable[[int], None]] = fresh(factory=list)
    #: When committed, before the answer goes.
    committed: list[Callable[[int], None]] = fresh(factory=list)


class Runtime:
    def __init__(
        self,
        effects: list[GroupEffect],
        timers: Timers[TimerKey],
        settings: ConsumerGroupSettings,
        topics: Topics,
        new_id: Callable[[str], str],
        wall_offset_us: int,
        replay: Callable[[ConsumerGroupRecord], None],
    ) -> None:
        self.effects = effects
        self.timers = timers
        self.settings = settings
        self.topics = topics
        self.new_id = new_id
        self.wall_offset_us = wall_offset_us
        self._replay = replay
        #: Appends that are not committed yet, oldest first: who waits for each.
        self._in_flight: dict[int, list[Done]] = {}
        self._appends = 0

    def wall_ms(self, now_us: int) -> int:
        return (now_us + self.wall_offset_us) // 1000

    def answer(self, token: Token, response: Any) -> None:
        self.effects.append(Answer(token, response))

    def carry_out(self, plan: Plan, done: Done, now_us: int) -> None:
        """Write what the plan says; ``done`` hears the outcome once."""
        encoded = [*plan.before, *map(encode, plan.records), *plan.after]
        if not encoded:
            self._once_committed(plan, done, now_us)
            return
        waiting: list[Done] = [done]
        self._appends = number = self._appends + 1

        def appended(now_us: int) -> None:
            self._in_flight[number] = waiting
            for act in plan.unless_refused:
                act(now_us)
            for record in plan.records:
                self._replay(record)
            for act in plan.then:
                act(now_us)

        def committed(error: ErrorCode, now_us: int) -> None:
            self._in_flight.pop(number, None)
            if error is ErrorCode.NONE:
                for act in plan.committed:
                    act(now_us)
            for hear in waiting:
                hear(error, now_us)

        self.effects.append(Persist(encoded, committed, appended))

    def _once_committed(self, plan: Plan, done: Done, now_us: int) -> None:
        def finish(error: ErrorCode, now_us: int) -> None:
            if error is ErrorCode.NONE:
                for act in plan.committed:
                    act(now_us)
            done(error, now_us)

        if self._in_flight:
            self._in_flight[next(reversed(self._in_flight))].append(finish)
        else:
            finish(ErrorCode.NONE, now_us)
