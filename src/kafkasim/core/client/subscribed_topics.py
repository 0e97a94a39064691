"""Which topics a subscription means at the moment, and the metadata that takes.

Mirrors:  rd_kafka_cgrp_metadata_refresh, rd_kafka_cgrp_update_subscribed_topics, rd_kafka_propagate_consumer_topic_errors.
Rule 1:   an error of a topic is told once, until it is another one.
Rule 2:   a subscribed topic that does not exist is asked for with every regular refresh, and not before.
"""

from __future__ import annotations

from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.items import AppQueue, ConsumerError
from kafkasim.core.client.subscription import TopicMatcher
from kafkasim.core.model.errors import ErrorCode


class SubscribedTopics:
    """``counts``: numbers of partitions of the topics that exist, by name, in order."""

    def __init__(self, core: ClientCore, queue: AppQueue) -> None:
        self._core = core
        self._queue = queue
        self.matcher: TopicMatcher | None = None
        self.counts: dict[str, int] = {}
        self._errored: dict[str, ErrorCode] = {}
        self._refresh_us = core.config.ms("topic.metadata.refresh.interval.ms") * 1000
        self._timer: Timer | None = None
        #: When all topics were last listed; -1: never.
        self.full_metadata_us = -1

    def set(self, matcher: TopicMatcher | None) -> None:
        self.matcher = matcher
        self._core.wants_all_topics = matcher is not None and matcher.has_patterns

    def missing(self) -> bool:
        """Is some subscribed topic not answered for yet?"""
        assert self.matcher is not None
        metadata = self._core.metadata
        known = all((topic := metadata.topic(name)) and topic.refreshed_us >= 0 for name in self.matcher.names)
        return not known or (self.matcher.has_patterns and self.full_metadata_us < 0)

    def ask(self, now_us: int) -> bool:
        """Ask for what the subscription needs; False if all of it is known."""
        assert self.matcher is not None
        core = self._core
        if self.matcher.has_patterns:
            if self.full_metadata_us >= 0 and now_us - self.full_metadata_us <= 3 * self._refresh_us:
                return False
            core.refresh_all(now_us)
            return True
        missing = []
        for name in self.matcher.names:
            topic = core.metadata.want(name, now_us)
            if topic.partitions:
                core.want_topic(name, now_us)
            elif topic.refreshed_us < 0:
                missing.append(name)
        if missing:
            core.refresh_topics(missing, now_us)
        return bool(missing)

    def update(self) -> bool:
        """Take over what the subscription means now; True if that is something else."""
        assert self.matcher is not None
        counts, errored = self.matcher.effective(self._core.metadata)
        before, self._errored = self._errored, dict(errored)
        for name, code in errored:
            if before.get(name) != code:
                text = f"Subscribed topic not available: {name}: {error_text(code)}"
                self._queue.put_error(ConsumerError(code, text, topic=name))
                self._core.wake = True
        if counts == self.counts:
            return False
        self.counts = counts
        return True

    def watch(self, now_us: int) -> None:
        """Keep the metadata of what exists fresh, and look for the rest now and then."""
        for name in self.counts:
            self._core.want_topic(name, now_us)
        if (self._timer is None or self._timer.callback is None) and self._refresh_us > 0 and self._errored:
            self._timer = self._core.call_at(now_us + self._refresh_us, self._ask_missing)

    def _ask_missing(self, now_us: int) -> None:
        if self.matcher is not None and self._errored and not self._core.closed:
            self._core.refresh_topics(tuple(self._errored), now_us)
            self.watch(now_us)
