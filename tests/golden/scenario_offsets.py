"""Programs of recorded scenarios about positions, commits and calls; each yields its steps as (event, what it came to)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from tests.golden.members import Member, by_topic, generation, is_eager, outcome, places, poll_error
from tests.golden.scene import Scene

Fields = dict[str, Any]
Steps = Iterator[tuple[str | None, Fields]]


def _commit(consumer: Any, *partitions: Any) -> Any:
    return consumer.commit(offsets=list(partitions) or None, asynchronous=False)


def _ends(recorded: Any, topic: str, partitions: int, total: int) -> dict[int, int]:
    """How the recorded program's records lay on the partitions: what is said of offsets, and the rest shared out."""
    found: dict[int, int] = {}

    def look(value: Any) -> None:
        if isinstance(value, list):
            if len(value) == 4 and value[0] == topic and isinstance(value[1], int) and isinstance(value[2], int):
                found[value[1]] = max(found.get(value[1], 0), value[2])
            for each in value:
                look(each)
        elif isinstance(value, dict):
            for each in value.values():
                look(each)

    look(recorded)
    counts = {number: found[number] for number in range(partitions) if found.get(number, 0) > 2}
    missing = [number for number in range(partitions) if number not in counts]
    left = total - sum(counts.values())
    for place, number in enumerate(missing):
        counts[number] = max(1, left // len(missing) + (place < left % len(missing)))
    return counts


# --- fenced by its own silence ---------------------------------------------------------------------------------------


def fenced(scene: Scene) -> Steps:
    """A member stops polling and is put out; commits and calls of one that is in a group; admin requests."""
    topic = scene.topic("fe", 4)
    scene.fill(topic, _ends(scene.steps, topic, 4, 40))
    first, second = scene.two(topic, enable_auto_commit=False, max_poll_interval_ms=4000)
    yield "two members", {"members": scene.snapshots("m0", "m1"), "describe": scene.describe()}
    identity = first.tell(lambda consumer: [consumer.memberid(), generation(consumer)])
    first.polling = False
    scene.settle(8.0)
    yield (
        "m0 stopped polling 8 s (max.poll.interval 4 s)",
        {"m0_identity_before": identity, "m1": second.snapshot(), "describe": scene.describe()},
    )
    own = first.call(lambda consumer: consumer.assignment())
    yield (
        "m0 commit(sync) own partition before polling again",
        {
            "result": first.tell(lambda consumer: _commit(consumer, scene.tp(topic, own[0].partition, 1)), places),
            "assignment_seen": first.tell(lambda consumer: consumer.assignment(), by_topic),
            "memberid": first.tell(lambda consumer: [consumer.memberid(), generation(consumer)]),
        },
    )
    first.polling = True
    scene.settle()
    yield "m0 polls again", {"members": scene.snapshots("m0", "m1"), "describe": scene.describe()}
    yield from _calls_of_a_member(scene, topic, first, second)
    yield "admin on active group", scene.admin_outcomes(topic)
    scene.close("m0", "m1")
    yield "closed", {"ev": scene.events("m0", "m1"), "describe": scene.describe()}
    yield "admin on empty group (delete_active now deletes)", scene.admin_outcomes(topic)
    yield "admin on deleted group", {**scene.admin_outcomes(topic), "describe": scene.describe()}


def _calls_of_a_member(scene: Scene, topic: str, first: Member, second: Member) -> Steps:
    other = second.call(lambda consumer: by_topic(consumer.assignment()))[topic][0]
    yield (
        "m0 commits a partition assigned to m1",
        {"result": first.tell(lambda consumer: _commit(consumer, scene.tp(topic, other, 2)), places)},
    )
    yield (
        "m0 store_offsets of unassigned partition",
        {"result": first.tell(lambda consumer: consumer.store_offsets(offsets=[scene.tp(topic, other, 2)]))},
    )
    missing = (scene.tp(topic, 99, 1), scene.tp("nope", 0, 1))
    yield (
        "m0 commit nonexistent partition 99 / topic nope",
        {"result": [first.tell(functools.partial(_commit_one, place=place), places) for place in missing]},
    )
    every = [scene.tp(topic, number) for number in range(4)]
    yield (
        "position/committed of unassigned, commit nothing",
        {
            "result": [
                first.tell(lambda consumer: consumer.position([scene.tp(topic, other)]), places),
                first.tell(lambda consumer: consumer.committed(every), places),
                first.tell(_commit, lambda found: [str(part) for part in found]),
                first.tell(lambda consumer: consumer.pause([scene.tp(topic, other)])),
                first.tell(lambda consumer: consumer.seek(scene.tp(topic, other, 0))),
            ]
        },
    )
    yield (
        "simple consumer (no subscribe) commits into active group",
        {"result": outcome(lambda: _commit(scene.simple(), scene.tp(topic, 0, 1)), places)},
    )


def _commit_one(consumer: Any, place: Any) -> Any:
    return _commit(consumer, place)


# --- where a consumer without a position starts ----------------------------------------------------------------------


POLICIES = [
    *(policy for policy in ("earliest", "latest", "error") for _ in range(3)),
    *("smallest", "none", "by_duration:PT1H", "largest", "beginning", "end"),
]
#: Java's alone.
_NO_POLICIES = ("none", "by_duration:PT1H")


def reset(scene: Scene) -> Steps:
    """Every policy, for offsets that were never committed, that are gone, and that do not exist yet."""
    done: dict[str, int] = {}
    for policy in [str(step["policy"]) for step in scene.steps] or POLICIES:
        topic = f"rs-{scene.protocol}-{policy}"
        scene.group = f"g-{topic}"
        told: Fields = {"policy": policy}
        if policy in _NO_POLICIES:
            told |= {"config_error": _refusal(scene, policy)}
        elif policy not in done:
            told |= {"log": "10 before join, 3 after", **_no_commit(scene, topic, policy)}
        elif done[policy] == 1:
            told |= {"scenario": "committed 5, log start 8, end 13, then 1 more"}
            told |= _after_commit(scene, topic, policy, 5, more=1)
        else:
            told |= {"scenario": "committed 500 beyond end", **_after_commit(scene, topic, policy, 500, more=0)}
        done[policy] = done.get(policy, 0) + 1
        yield None, told


def _refusal(scene: Scene, policy: str) -> str:
    try:
        scene.cluster.consumer(scene.group, (), {"auto.offset.reset": policy})
    except scene.ck.KafkaException as problem:
        return repr(problem.args[0])
    return "created"


def _no_commit(scene: Scene, topic: str, policy: str) -> Fields:
    scene.cluster.create_topic(topic, partitions=1)
    scene.fill(topic, {0: 10})
    member = scene.join("m", topic, auto_offset_reset=policy, enable_auto_commit=False)
    scene.settle(2.0)
    scene.fill(topic, {0: 3})
    scene.settle(2.0)
    position = member.tell(lambda consumer: consumer.position([scene.tp(topic, 0)]), places)
    events = member.fresh()
    member.close()
    offsets = [offset for _, offset in member.got]
    return {"first": offsets[:1], "n": len(offsets), "position": position, "events": events}


def _after_commit(scene: Scene, topic: str, policy: str, offset: int, more: int) -> Fields:
    """Below the log's start (a first time, when records are deleted), or beyond its end."""
    committing = scene.simple()
    commit = outcome(lambda: _commit(committing, scene.tp(topic, 0, offset)), places)
    committing.close()
    if more:
        (deleted,) = scene.admin.delete_records([scene.tp(topic, 0, 8)]).values()
        deleted.result()
    member = scene.join("m", topic, auto_offset_reset=policy, enable_auto_commit=False)
    scene.settle(2.0)
    scene.fill(topic, {0: more})
    scene.settle(2.0)
    events = member.fresh()
    member.close()
    return {"commit": commit, "got": [offset for _, offset in member.got], "events": events}


# --- what is stored and committed when -------------------------------------------------------------------------------


def commitsem(scene: Scene) -> Steps:
    """Commits by timer, on close, of stored offsets and by call; pause, seek, unsubscribe; no callback for losses."""
    topic = scene.topic("cs", 2)
    committed = functools.partial(scene.committed, topic, 2)
    scene.fill(topic, {0: 5, 1: 5})
    member = scene.join("m0", topic, enable_partition_eof=True, auto_commit_interval_ms=1000)
    scene.settle(4.0)
    both = [scene.tp(topic, 0), scene.tp(topic, 1)]
    yield (
        "auto commit on, eof on, 5+5 msgs",
        {
            "events": member.fresh(),
            "committed": committed(),
            "position": member.tell(lambda consumer: consumer.position(both), places),
            "n": len(member.got),
        },
    )
    scene.fill(topic, {0: 2})
    scene.cluster.run_until(lambda: len(member.got) == 12)
    member.close()
    yield "2 more then close (commit on close)", {"events": member.fresh(), "committed": committed()}
    scene.fill(topic, {1: 3})
    member = scene.join("m1", topic, enable_auto_offset_store=False, auto_commit_interval_ms=1000)
    scene.settle(4.0)
    yield (
        "auto.offset.store=false, auto commit: nothing stored",
        {"committed": committed(), "n": len(member.got), "first": _listed(member)[:3]},
    )
    yield (
        "store_offsets(p1,7) then close",
        {"result": member.tell(lambda consumer: consumer.store_offsets(offsets=[scene.tp(topic, 1, 7)]))},
    )
    member.close()
    yield "closed", {"committed": committed(), "events": member.fresh()}
    yield from _by_call(scene, topic, both)
    yield from _without_on_lost(scene, topic)


def _by_call(scene: Scene, topic: str, both: list[Any]) -> Steps:
    member = scene.join("m2", topic, enable_auto_commit=False)
    scene.settle(2.0)
    yield "resume from committed", {"first": _listed(member)}
    yield (
        "commit() sync no args returns",
        {
            "result": member.tell(_commit, places),
            "again": member.tell(_commit, places),
            "committed": scene.committed(topic, 2),
        },
    )
    place = scene.tp(topic, 1)
    asked = [
        member.tell(lambda consumer: consumer.pause([place])),
        member.tell(lambda consumer: consumer.seek(scene.tp(topic, 1, 0))),
        member.tell(lambda consumer: consumer.position([place]), places),
    ]
    yield "pause p1, seek p1 to 0, resume", {"r": asked}
    before = len(member.got)
    scene.settle(2.0)
    paused = len(member.got) - before
    member.call(lambda consumer: consumer.resume([place]))
    scene.settle(1.0)
    yield None, {"paused_new": paused, "after_resume": _listed(member)[before:]}
    yield "unsubscribe", {"r": member.tell(lambda consumer: consumer.unsubscribe())}
    scene.settle(1.5)
    yield None, {"ev": member.fresh(), "describe": scene.describe()}
    member.close()
    yield None, {"ev": member.fresh()}


def _without_on_lost(scene: Scene, topic: str) -> Steps:
    member = scene.join("m3", enable_auto_commit=False, max_poll_interval_ms=3000)
    del member.callbacks["on_lost"]
    member.subscribe(topic)
    scene.settle(2.0)
    member.fresh()
    member.polling = False
    scene.settle(6.0)
    member.polling = True
    scene.settle()
    yield "no on_lost callback, max.poll exceeded then polls again", {"events": member.fresh()}
    member.close()
    yield None, {"ev": member.fresh()}


def _listed(member: Member) -> list[list[int]]:
    return [list(each) for each in member.got]


# --- calls within callbacks ------------------------------------------------------------------------------------------


def cbcommit(scene: Scene) -> Steps:
    """Commits, positions and assignments as seen from within callbacks; errors raised there; offsets set there."""
    topic = scene.topic("cb", 4)
    scene.fill(topic, _ends(scene.steps, topic, 4, 40))
    log: list[list[Any]] = []
    first = scene.join("m0", enable_auto_commit=False)
    first.callbacks.update(_logging(log))
    first.subscribe(topic)
    scene.settle(1.5)
    second = scene.join("m1", topic, enable_auto_commit=False)
    scene.settle()
    yield (
        "m1 joins; m0 commits synchronously inside on_revoke",
        {"n": [len(first.got), len(second.got)], "log": log[:], "m1": second.fresh()},
    )
    log.clear()
    first.close()
    yield "m0 close: commit inside on_revoke during close", {"log": log[:]}
    second.close()
    yield "committed afterwards", {"committed": ["ok", scene.committed(topic, 4)]}
    yield "after close", {"r": _calls_after_close(first.consumer)}
    yield "exception raised in on_assign", _raising(scene, topic)
    event = "offset=2 passed to assign in on_assign (2nd call is the wrong flavour)"
    yield event, _assigning(scene, topic)


def _logging(log: list[list[Any]]) -> Fields:
    def on_assign(consumer: Any, partitions: list[Any]) -> None:
        found = ["assign", by_topic(partitions), "committed"]
        found += [outcome(lambda: consumer.committed(partitions), places), "assignment_in_cb"]
        log.append([*found, outcome(consumer.assignment, by_topic), "gen", generation(consumer)])

    def on_revoke(consumer: Any, partitions: list[Any]) -> None:
        found = ["revoke", by_topic(partitions), "commit_sync", outcome(lambda: _commit(consumer), places)]
        found += ["assignment_in_cb", outcome(consumer.assignment, by_topic), "gen", generation(consumer)]
        log.append([*found, "position", outcome(lambda: consumer.position(partitions), places)])

    return {"on_assign": on_assign, "on_revoke": on_revoke}


def _calls_after_close(consumer: Any) -> list[list[Any]]:
    calls: list[Callable[[], Any]] = [
        lambda: consumer.poll(0),
        consumer.assignment,
        lambda: consumer.commit(asynchronous=False),
        consumer.close,
        consumer.memberid,
    ]
    return [outcome(call) for call in calls]


def _alone(scene: Scene, group: str) -> Any:
    from tests.golden.members import client_config

    config = {**client_config(scene.protocol), "enable.auto.commit": False}
    return scene.cluster.consumer(f"{scene.group}-{group}", (), config)


def _raising(scene: Scene, topic: str) -> Fields:
    consumer = _alone(scene, "raising")

    def on_assign(_: Any, __: list[Any]) -> None:
        raise ValueError("boom in on_assign")

    consumer.subscribe([topic], on_assign=on_assign)
    polls: list[list[Any]] = []
    for _ in range(200):
        told = outcome(lambda: consumer.poll(0.1))
        if told != ["ok", None]:
            polls.append(["ok", "msg"] if told[0] == "ok" else told)
    assignment = outcome(consumer.assignment, by_topic)
    consumer.close()
    return {"polls": polls[:4], "n": sum(told[0] == "ok" for told in polls), "assignment": assignment}


def _assigning(scene: Scene, topic: str) -> Fields:
    consumer = _alone(scene, "assigning")
    calls: list[list[Any]] = []

    def on_assign(member: Any, partitions: list[Any]) -> None:
        for part in partitions:
            part.offset = 2
        flavours = [member.assign, member.incremental_assign]
        ordered = flavours if is_eager(scene.protocol) else flavours[::-1]
        calls.extend(outcome(functools.partial(flavour, partitions)) for flavour in ordered)

    consumer.subscribe([topic], on_assign=on_assign)
    first: dict[str, int] = {}
    for _ in range(100):
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            first.setdefault(str(message.partition()), message.offset())
    consumer.close()
    return {"calls": calls, "first_offset": first}


# --- without membership ----------------------------------------------------------------------------------------------


def manual(scene: Scene) -> Steps:
    """assign() instead of subscribe(), odd commits, incremental calls, configurations that are refused."""
    topic = scene.topic("ma", 2)
    scene.fill(topic, {0: 5, 1: 5})
    member = scene.join("m0", auto_commit_interval_ms=500)
    member.call(lambda consumer: consumer.assign([scene.tp(topic, 0)]))
    scene.settle()
    place = [scene.tp(topic, 0)]
    yield (
        "assign() without subscribe, auto commit",
        {
            "n": len(member.got),
            "committed": member.tell(lambda consumer: consumer.committed(place), places),
            "memberid": member.tell(lambda consumer: consumer.memberid()),
            "describe": scene.describe(),
            "types": ["ok", scene.groups()],
        },
    )
    odd = (scene.tp(topic, 1, 3), scene.tp(topic, 0, -1), scene.tp(topic, 0, 1, metadata="x" * 5000))
    yield (
        "commit partition not assigned / offset -1 / metadata too long",
        {"r": [member.tell(functools.partial(_commit_one, place=each), places) for each in odd]},
    )
    one, zero = [scene.tp(topic, 1)], [scene.tp(topic, 0)]
    yield (
        "incremental_assign p1, incremental_unassign p0, unassign",
        {
            "r": [
                member.tell(lambda consumer: consumer.incremental_assign(one)),
                member.tell(lambda consumer: consumer.assignment(), by_topic),
                member.tell(lambda consumer: consumer.incremental_assign(one)),
                member.tell(lambda consumer: consumer.incremental_unassign(zero)),
                member.tell(lambda consumer: consumer.assignment(), by_topic),
                member.tell(lambda consumer: consumer.incremental_unassign(zero)),
                member.tell(lambda consumer: consumer.unassign()),
                member.tell(lambda consumer: consumer.assignment(), by_topic),
            ]
        },
    )
    member.polling = False
    subscribed = member.tell(lambda consumer: consumer.subscribe([f"missing-{scene.protocol}"]))
    polled = member.tell(lambda consumer: consumer.poll(2.0), _error_only)
    yield "bad calls", {"r": {"subscribe_missing": subscribed, "poll": polled}}
    yield from _refused_configs(scene)


def _error_only(message: Any) -> Any:
    if message is None or message.error() is None:
        return None
    told = poll_error(message)
    return [told["code"], told["msg"], told["fatal"]]


def _refused_configs(scene: Scene) -> Steps:
    newer = {"group.protocol": "consumer"}
    odd: list[tuple[str, Fields]] = [
        ("group.protocol=consumer + session.timeout.ms", {**newer, "session.timeout.ms": 3000}),
        (
            "group.protocol=consumer + partition.assignment.strategy=range",
            {**newer, "partition.assignment.strategy": "range"},
        ),
        ("group.protocol=consumer + heartbeat.interval.ms=500", {**newer, "heartbeat.interval.ms": 500}),
        ("group.protocol=consumer + group.protocol.type=consumer", {**newer, "group.protocol.type": "consumer"}),
        ("group.protocol=consumer + group.remote.assignor=bogus", {**newer, "group.remote.assignor": "bogus"}),
        ("mixed eager+coop strategies", {"partition.assignment.strategy": "range,cooperative-sticky"}),
        ("strategy sticky", {"partition.assignment.strategy": "sticky"}),
    ]
    for event, config in odd:
        made: list[Any] = []
        told = outcome(lambda config=config, made=made: made.append(scene.cluster.consumer("g-odd", (), config)))
        yield event, {"r": "created" if made else told}
        if made:
            made[0].subscribe([f"ma-{scene.protocol}"])
            polls = (outcome(lambda consumer=made[0]: consumer.poll(0.1), _error_only) for _ in range(50))
            yield None, {"poll": next((told for told in polls if told != ["ok", None]), ["ok", None])}


# --- one question each -----------------------------------------------------------------------------------------------


def _list_missing(scene: Scene) -> list[Any]:
    asked = scene.ck.ConsumerGroupTopicPartitions("g-missing")
    (future,) = scene.admin.list_consumer_group_offsets([asked]).values()
    return outcome(future.result, lambda value: [places(value.topic_partitions)])


MISC: dict[str, Callable[[Scene], Any]] = {
    "delete_missing": lambda scene: scene.delete("g-missing"),
    "list_offsets_missing": _list_missing,
    "describe_missing": lambda scene: scene.describe("g-missing"),
}


def pause(scene: Scene) -> Fields:
    """Partitions are paused, a rebalance takes some and leaves others, records come: those that stay are still paused."""
    topic = scene.topic("py", 4)
    scene.fill(topic, dict.fromkeys(range(4), 10))
    member = scene.join("m0", topic, enable_auto_commit=False)
    scene.settle(2.0)
    before = len(member.got)
    member.call(lambda consumer: consumer.pause(consumer.assignment()))
    other = scene.join("m1", topic, enable_auto_commit=False)
    scene.settle()
    scene.fill(topic, dict.fromkeys(range(4), 5))
    scene.settle()
    still = member.call(lambda consumer: by_topic(consumer.assignment()))
    came = len(member.got) - before
    other.close()
    return {"before": before, "new_after_rebalance": came, "still_assigned": still}
