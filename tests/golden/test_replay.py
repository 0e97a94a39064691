"""Recorded traces of Kafka 4.3.0 replay on the simulator; files that cannot be compared say why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.golden import replay_consumer_groups
from tests.golden.replay import main, replay_file, replayer_of

HERE = Path(__file__).parent
FILES = [
    *sorted((HERE / "data").glob("*/*.json")),
    HERE / "assignors.json",
    HERE / "coordinator_partition.json",
    HERE / "partitioner.json",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_trace_replays(path: Path) -> None:
    """Step by step the same leaders, ISRs, ELRs, epochs, offsets and answers as the real cluster."""
    verdict = replay_file(path)
    assert verdict.kind == "equal", verdict


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_the_coordinator_alone_lives_as_recorded(assignor: str) -> None:
    """Without any client: the same epochs and assignments, listed in the order of the broker's table of members."""
    trace = json.loads((HERE / "data" / "groups" / f"live_consumer-{assignor}.json").read_text())
    verdict = replay_consumer_groups.replay_live(trace)
    assert verdict.kind == "equal", verdict


def test_a_changed_trace_is_different(tmp_path: Path) -> None:
    """The replayer sees a wrong leader epoch, a wrong offset and a wrong answer."""
    source = json.loads((HERE / "data" / "replication" / "rf1_crash.json").read_text())
    for change in ("leaderEpoch", "partitionEpoch"):
        trace = json.loads(json.dumps(source))
        trace["steps"][1]["after"]["partitions"][0][change] += 1
        verdict = replayer_of(trace)(trace)
        assert verdict.kind == "different"
        assert change in verdict.text
    trace = json.loads(json.dumps(source))
    trace["steps"][1]["produce_result"]["baseOffset"] = 77
    assert "baseOffset" in replayer_of(trace)(trace).text


def test_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for equal, 1 for a difference, 2 where nothing could be compared."""
    share = tmp_path / "share_x.json"
    share.write_text(json.dumps({"name": "share_x", "steps": [{"t": 0, "action": "poll"}]}))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    table = tmp_path / "partitioner.json"
    table.write_text(json.dumps({"rows": [{"partitioner": "murmur2", "key": "00", "partitions": 7, "partition": 7}]}))
    assert main([str(HERE / "coordinator_partition.json"), str(share)]) == 0
    assert main([str(share), str(broken)]) == 2
    assert main([str(table)]) == 1
    output = capsys.readouterr().out
    assert "not comparable: share groups are not modelled yet" in output
