"""Record group scenarios: the replayer's own programs, run by the real client against one real broker.

A program is written once (`tests/golden/scenario_membership`, `tests/golden/scenario_offsets`); the simulator is held against what it
came to here. Members are threads, so `sigstop`, which stops a member's process, cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.golden import replay_scenarios, scenario_offsets
from tests.golden.members import CLIENTS
from tests.golden.scene import BROKER_CONFIG, Scene

from kafkasim.real.cluster import RealCluster
from kafkasim.real.local_kafka import LocalKafka

Fields = dict[str, Any]

NOT_RECORDED = ("sigstop",)
MISC = "misc-all"


def names() -> Iterable[str]:
    """Every scenario with every protocol, and the one that has all of them."""
    for name in replay_scenarios.PROGRAMS:
        if name not in NOT_RECORDED:
            for protocol in CLIENTS:
                if name != "migrate" or not protocol.startswith("consumer"):
                    yield f"{name}-{protocol}"
    yield MISC


class GroupRecorder:
    """One broker for any number of scenarios; each has topics and groups of its own."""

    def __init__(self) -> None:
        self._kafka = LocalKafka(1, config=BROKER_CONFIG)

    def __enter__(self) -> GroupRecorder:
        self._kafka.start()
        # The first group ever waits for the internal topic; a second member could overtake the first one there.
        with RealCluster(self._kafka.bootstrap_servers, local=self._kafka) as cluster:
            cluster.wait_for_coordinators()
        return self

    def __exit__(self, *_: object) -> None:
        self._kafka.close()

    def record(self, name: str) -> Fields:
        """What the scenario came to, as a trace."""
        if name == MISC:
            return {"scenario": "misc", "steps": self._misc()}
        scenario, protocol = name.split("-", 1)
        trace: Fields = {"scenario": scenario, "protocol": protocol, "steps": []}
        with (
            RealCluster(self._kafka.bootstrap_servers, local=self._kafka) as cluster,
            Scene(trace, protocol, 0, cluster) as scene,
        ):
            for event, fields in replay_scenarios.PROGRAMS[scenario](scene):
                trace["steps"].append({**({} if event is None else {"event": event}), **fields})
        return trace

    def _misc(self) -> Fields:
        found: Fields = {}
        for key, ask in scenario_offsets.MISC.items():
            with RealCluster(self._kafka.bootstrap_servers, local=self._kafka) as cluster:
                found[key] = ask(Scene({"steps": []}, "eager-range", 0, cluster))
        for protocol in CLIENTS:
            with RealCluster(self._kafka.bootstrap_servers, local=self._kafka) as cluster:
                found[f"pause_{protocol}"] = scenario_offsets.pause(Scene({"steps": []}, protocol, 0, cluster))
        return found


def record(name: str) -> Fields:
    """One scenario on a broker of its own."""
    with GroupRecorder() as recorder:
        return recorder.record(name)
