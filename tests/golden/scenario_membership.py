"""Programs of recorded scenarios about who is a member and who has what; each yields its steps as (event, what it came to)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.golden.scene import Scene

Fields = dict[str, Any]
Steps = Iterator[tuple[str | None, Fields]]

SESSION_S = 3.0
#: A broker resolves a regular expression anew after ten seconds at the earliest.
REGEX_S = 14.0
REFRESH = {"topic_metadata_refresh_interval_ms": 1000}


def _state(scene: Scene, *names: str) -> Fields:
    return {"members": scene.snapshots(*names), "describe": scene.describe()}


def static(scene: Scene) -> Steps:
    """Members with instance ids close and come back, in time and too late; two with the same id."""
    topic = scene.topic("st", 6)
    scene.join("m0", topic, group_instance_id="i-a")
    scene.settle(scene.gap("m0", "m1"))
    scene.join("m1", topic, group_instance_id="i-b")
    scene.settle()
    yield "both joined", _state(scene, "m0", "m1")
    scene.close("m1", pause=1.0)
    closed = scene.members["m1"].fresh()
    yield "static m1 closed; 1 s later (no rebalance expected)", {"closed": closed, **_state(scene, "m0")}
    scene.join("m1b", topic, group_instance_id="i-b")
    scene.settle()
    yield "same instance id rejoined as m1b", _state(scene, "m0", "m1b")
    scene.join("m1c", topic, group_instance_id="i-b")
    scene.settle(5.0)
    yield "duplicate instance id m1c joins while m1b alive; after 5 s", _state(scene, "m0", "m1b", "m1c")
    scene.close("m1b", "m1c", pause=0.0)
    yield "m1b,m1c closed", {"ev": scene.events("m1b", "m1c")}
    scene.settle(SESSION_S + 3.0)
    yield "after session timeout of i-b", _state(scene, "m0")
    scene.close("m0")
    yield "closed", {"ev": scene.members["m0"].fresh(), "describe": scene.describe()}


def partinc(scene: Scene) -> Steps:
    """A topic of two partitions grows to five."""
    topic = scene.topic("pi", 2)
    scene.two(topic, **REFRESH)
    yield "2 partitions", _state(scene, "m0", "m1")
    scene.settle(scene.pace)
    (grown,) = scene.admin.create_partitions([scene.ck_admin.NewPartitions(topic, 5)]).values()
    grown.result()
    scene.settle(6.0)
    yield "partitions 2->5", _state(scene, "m0", "m1")


def regex(scene: Scene) -> Steps:
    """A topic appears that the members' regular expression matches."""
    label = f"rx{scene.protocol.replace('-', '')}"
    scene.group = f"g-rx-{scene.protocol}"
    scene.cluster.create_topic(f"{label}-1", partitions=2)
    scene.two(f"^{label}-.*", **REFRESH)
    yield "regex 1 topic", _state(scene, "m0", "m1")
    scene.settle(scene.pace)
    scene.cluster.create_topic(f"{label}-2", partitions=2)
    scene.settle(REGEX_S)
    yield "new matching topic created", _state(scene, "m0", "m1")


def migrate(scene: Scene) -> Steps:
    """Members of the newer protocol join a classic group, stay when the classic ones leave, and leave themselves."""
    topic = scene.topic("mg", 6)
    newer = {"protocol": "consumer-uniform"}
    scene.join("c0", topic)
    scene.settle(scene.gap("c0", "c1"))
    scene.join("c1", topic)
    scene.settle()
    yield "two classic members", _state(scene, "c0", "c1")
    scene.join("n0", topic, **newer)
    scene.settle()
    yield "consumer-protocol member joins", _state(scene, "c0", "c1", "n0")
    scene.close("c0")
    scene.settle()
    yield "classic c0 closed", {"ev": scene.members["c0"].fresh(), **_state(scene, "c1", "n0")}
    scene.join("n1", topic, **newer)
    scene.settle()
    yield "consumer n1 joins", _state(scene, "c1", "n0", "n1")
    scene.close("c1")
    scene.settle()
    yield "last classic c1 closed", {"ev": scene.members["c1"].fresh(), **_state(scene, "n0", "n1")}
    scene.join("c2", topic)
    scene.settle()
    yield "classic c2 joins consumer group", _state(scene, "n0", "n1", "c2")
    scene.close("n0", "n1")
    scene.settle()
    yield "both consumer-protocol members closed (downgrade)", _state(scene, "c2")
    scene.close("c2")
    yield "closed", {"describe": scene.describe()}


def sigstop(scene: Scene) -> Steps:
    """A member's process stands still until its session is over, and goes on."""
    topic = scene.topic("ss", 4)
    _, second = scene.two(topic)
    yield "two", _state(scene, "m0", "m1")
    second.task.pause()
    scene.settle(SESSION_S + 3.0)
    yield "m1 SIGSTOP until session timeout (3 s)", _state(scene, "m0")
    second.task.resume()
    scene.settle()
    yield "m1 SIGCONT", _state(scene, "m0", "m1")
    scene.close("m1", "m0", pause=0.6)
    yield "closed", {"ev": scene.events("m0", "m1")}
