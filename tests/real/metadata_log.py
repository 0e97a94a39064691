"""The metadata log of a real controller, read with Kafka's own tool and put in the words of the replication traces.

A trace names topics instead of their ids, leaves out what only one cluster knows (ids, directories, end points) and says which
epochs a partition has after each record: those are counted here, as a controller counts them while it reads its log.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Fields = dict[str, Any]

_LINE = re.compile(r"offset: (\d+) CreateTime: (\d+) .*?payload: (\{.*\})\s*$")
_KEPT = {"REGISTER_BROKER_RECORD": ("brokerId", "brokerEpoch", "rack", "fenced", "inControlledShutdown")}
_LEFT_OUT = ("topicId", "directories", "logDirs")
# It says nothing: the controller writes one every half second, so that followers of the log see it move.
_IDLE = "NO_OP_RECORD"


@dataclass
class _Partition:
    epoch: int
    leader_epoch: int
    elr: list[int]
    last_known_elr: list[int]


@dataclass
class Record:
    """One record as a trace holds it, with the time at which the controller appended it."""

    offset: int
    timestamp_ms: int
    type: str
    data: Fields
    partition_epochs: dict[tuple[str, int], int] = field(default_factory=dict)


def dump(java_command: Sequence[str], data_folder: Path) -> list[Record]:
    """All records of the log under a controller's data folder, in order."""
    segments = sorted((data_folder / "__cluster_metadata-0").glob("*.log"))
    tool = [*java_command, "org.apache.kafka.tools.DumpLogSegments", "--cluster-metadata-decoder"]
    done = subprocess.run([*tool, "--files", ",".join(map(str, segments))], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"DumpLogSegments failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return list(read(done.stdout))


def read(text: str) -> Iterator[Record]:
    """The records of a dump."""
    log = _Log()
    for line in text.splitlines():
        found = _LINE.search(line)
        if found is None:
            continue
        payload = json.loads(found.group(3))
        if payload["type"] != _IDLE:
            yield log.record(int(found.group(1)), int(found.group(2)), payload["type"], payload["data"])


class _Log:
    """What the records so far amount to: names of topics, epochs of partitions."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._partitions: dict[tuple[str, int], _Partition] = {}

    def record(self, offset: int, timestamp_ms: int, kind: str, data: Fields) -> Record:
        topic = self._names.get(data.get("topicId", ""))
        if kind == "TOPIC_RECORD":
            topic = self._names[data["topicId"]] = data["name"]
        kept = {name: value for name, value in data.items() if name not in _LEFT_OUT}
        if kind in _KEPT:
            kept = {name: kept[name] for name in _KEPT[kind] if name in kept}
        if topic is not None:
            kept["topic"] = topic
        if kind in ("PARTITION_RECORD", "PARTITION_CHANGE_RECORD") and topic is not None:
            place = (topic, data["partitionId"])
            state = self._changed(place, data) if kind == "PARTITION_CHANGE_RECORD" else _made(data)
            self._partitions[place] = state
            kept |= {"partitionEpochAfter": state.epoch, "leaderEpochAfter": state.leader_epoch}
        elif kind == "CLEAR_ELR_RECORD":
            cleared = self._clear(data.get("topicName") or "")
            kept["partitionEpochAfterByPartition"] = cleared
        elif kind == "REMOVE_TOPIC_RECORD":
            self._partitions = {place: each for place, each in self._partitions.items() if place[0] != topic}
        epochs = {place: each.epoch for place, each in self._partitions.items()}
        return Record(offset, timestamp_ms, kind, kept, epochs)

    def _changed(self, place: tuple[str, int], data: Fields) -> _Partition:
        before = self._partitions[place]
        bumped = data.get("leader", -2) != -2
        # A change that does not name the ELR leaves it as it was.
        elr = data.get("eligibleLeaderReplicas", before.elr)
        return _Partition(
            before.epoch + 1, before.leader_epoch + bumped, elr, data.get("lastKnownElr", before.last_known_elr)
        )

    def _clear(self, topic: str) -> Fields:
        """A record without a topic's name clears all of them."""
        cleared = {}
        for place, state in self._partitions.items():
            if (state.elr or state.last_known_elr) and topic in ("", place[0]):
                state.elr = state.last_known_elr = []
                state.epoch += 1
                cleared[f"{place[0]}-{place[1]}"] = state.epoch
        return cleared


def _made(data: Fields) -> _Partition:
    return _Partition(data["partitionEpoch"], data["leaderEpoch"], [], [])
