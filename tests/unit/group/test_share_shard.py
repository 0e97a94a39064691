"""Share groups of one shard: epochs as members come, change their minds and go, and what is counted along the way."""

from __future__ import annotations

import pytest

from kafkasim.core.group.effects import Answer, Persist
from kafkasim.core.group.share_shard import InitializeState, ShareGroupSettings, ShareGroupShard
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.share_messages import ShareGroupHeartbeatRequest

SECOND = 1_000_000
TOPICS = {"a": ("id-a", 2), "b": ("id-b", 1)}


class Driver:
    """Commits what the shard writes, makes the state that it asks for, and looks at its counts after every input."""

    def __init__(self):
        self.now_us = 0
        self.shard = ShareGroupShard(lambda group_id: ShareGroupSettings(), TOPICS.get, lambda group_id: False, 0)

    def beat(self, member_id, epoch, *topics):
        """A heartbeat two seconds after the last; its answer."""
        self.now_us += 2 * SECOND
        request = ShareGroupHeartbeatRequest("g", member_id, epoch, None, topics or None)
        self.shard.on_heartbeat(request, "/host", "token", self.now_us)
        return self._carry_out()

    def _carry_out(self):
        answer = None
        while self.shard.effects:
            effect = self.shard.effects.pop(0)
            if isinstance(effect, Answer):
                answer = effect.response
                assert answer.error is ErrorCode.NONE, answer
            elif isinstance(effect, Persist):
                effect.done(ErrorCode.NONE, self.now_us)
            else:
                assert isinstance(effect, InitializeState)
                self.shard.on_initialized("g", effect.partitions, (), self.now_us)
            self.shard.check()
        return answer

    @property
    def epoch(self):
        return self.shard.groups["g"].epoch


@pytest.fixture
def driver():
    return Driver()


def _assigned(answer):
    return {part.topic_id: part.partitions for part in answer.assignment}


def test_the_first_member_moves_the_epoch_twice(driver):
    """From 1 to 2 as it joins, to 3 with its next heartbeat, when there is something to assign; then no more."""
    joined = driver.beat("m", 0, "a")
    assert (joined.member_epoch, _assigned(joined), driver.epoch) == (2, {}, 2)
    second = driver.beat("m", 2)
    assert (second.member_epoch, _assigned(second), driver.epoch) == (3, {"id-a": (0, 1)}, 3)
    third = driver.beat("m", 3)
    assert (third.member_epoch, third.assignment, driver.epoch) == (3, None, 3)


def test_epochs_of_a_group_in_use(driver):
    """A join and a leave move it by one; a new topic by one, and by one more when its partitions can be assigned."""
    driver.beat("m", 0, "a")
    driver.beat("m", 2)
    assert driver.beat("n", 0, "a").member_epoch == 4
    driver.beat("m", 3)
    assert driver.beat("n", 4, "a", "b").member_epoch == 5
    driver.beat("m", 4)
    assert driver.epoch == 6
    assert sorted(_assigned(driver.beat("n", 5))) == ["id-a", "id-b"]
    driver.beat("n", -1)
    assert driver.epoch == 7
    driver.beat("m", -1)
    group = driver.shard.groups["g"]
    assert (group.epoch, group.state, group.subscribed, group.target) == (8, "Empty", [], {})
