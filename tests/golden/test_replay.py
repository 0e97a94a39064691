"""Recorded traces of Kafka 4.3.0 replay on the simulator; files that cannot be compared say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.golden import replay_consumer_groups
from tests.golden.replay import main, replay, replay_file, replayer_of

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


def test_a_changed_share_trace_is_different() -> None:
    """The replayer sees a wrong delivery count, a wrong error and a wrong lag."""
    source = json.loads((HERE / "data" / "share" / "share_lock_timeout.json").read_text())
    for path in (("result", 0, "dc"), ("result", 0, "LAG"), ("result", 0, "error", "error")):
        trace = json.loads(json.dumps(source))
        for step in trace["steps"]:
            at = step
            try:
                for name in path[:-1]:
                    at = at[name]
                at[path[-1]] = "7" if at[path[-1]] is not None else None
            except (KeyError, TypeError, IndexError):
                continue
        assert replayer_of(trace)(trace).kind == "different", path


def test_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for equal, 1 for a difference, 2 where nothing could be compared."""
    share = tmp_path / "share_x.json"
    share.write_text(json.dumps({"name": "share_x", "steps": [{"t": 0, "action": "moonwalk"}]}))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    table = tmp_path / "partitioner.json"
    table.write_text(json.dumps({"rows": [{"partitioner": "murmur2", "key": "00", "partitions": 7, "partition": 7}]}))
    assert main([str(HERE / "coordinator_partition.json"), str(share)]) == 0
    assert main([str(share), str(broken)]) == 2
    assert main([str(table)]) == 1
    output = capsys.readouterr().out
    assert "not comparable: the action 'moonwalk' is not driven" in output


def _scenario(name: str) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads((HERE / "data" / "groups" / f"scenario_{name}.json").read_text())
    return trace


def test_a_changed_scenario_is_different() -> None:
    """The replayer of group scenarios sees a callback too many, another outcome, another generation and another state."""
    trace = _scenario("sigstop-coop")
    trace["steps"][1]["members"]["m0"]["events"].append({"t": 1, "type": "lost", "partitions": {}})
    assert "events" in replay(trace).text
    trace = _scenario("partinc-eager-range")
    trace["steps"][1]["members"]["m0"]["gen"] += 1
    assert "gen: 4, got 3" in replay(trace).text
    trace = _scenario("commitsem-coop")
    trace["steps"][6]["again"][1] = "_STATE"
    assert "_NO_OFFSET" in replay(trace).text
    trace = _scenario("static-consumer-uniform")
    trace["steps"][1]["describe"]["state"] = "STABLE"
    assert 'state: "STABLE", got "UNKNOWN"' in replay(trace).text


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        ([], "a trace is a JSON object"),
        ({}, "of no known form"),
        ({"scenario": "sleepwalk", "steps": []}, "no such scenario as 'sleepwalk'"),
        ({"scenario": "static", "protocol": "streams", "steps": []}, "no such protocol as 'streams'"),
        ({"scenario": "static", "protocol": "coop", "steps": [{"event": "m0 sings"}]}, "step 0: 'm0 sings'"),
        ({"scenario": "partinc", "protocol": "coop", "steps": [3]}, "not of the form"),
        ({"scenario": "misc", "steps": {"pause_streams": {}}}, "no such protocol as 'streams'"),
        ({"scenarios": [{}]}, "no such protocol"),
        ({"steps": [{"step": 0, "action": {"op": "unplug"}, "after": {}}]}, "not of the form"),
    ],
)
def test_what_cannot_be_compared_says_why(trace: Any, reason: str) -> None:
    """Unknown kinds, scenarios, protocols and steps, and files of another shape: the reason, and no traceback."""
    verdict = replay(trace)
    assert verdict.kind == "not comparable", verdict
    assert reason in verdict.text


def test_a_changed_producer_trace_is_different() -> None:
    """The replayer of producer traces sees another offset, another sequence number and another error."""
    source = json.loads((HERE / "data" / "transactions" / "idem_log.json").read_text())
    trace = json.loads(json.dumps(source))
    trace["steps"][5]["result"][1]["o"] = 2
    assert "step 5 (delivery_reports)" in replay(trace).text
    trace = json.loads(json.dumps(source))
    trace["steps"][18]["result"][2]["baseSequence"] = "0"
    assert "step 18 (log_segments)" in replay(trace).text
    trace = json.loads((HERE / "data" / "transactions" / "idem_config.json").read_text())
    trace["steps"][0]["error"]["text"] = "no"
    assert "step 0 (Producer)" in replay(trace).text


def test_a_config_that_is_not_modelled_is_named() -> None:
    """A trace of a cluster with properties that the simulator refuses cannot be compared."""
    trace = json.loads((HERE / "data" / "replication" / "rf1_crash.json").read_text())
    trace["cluster"]["props"]["no.such.key"] = 1
    assert str(replay(trace)).startswith("not comparable: unknown broker config 'no.such.key'")


def test_an_unknown_action_is_named() -> None:
    """A replication trace with an action that nobody knows here says at which step."""
    trace = json.loads((HERE / "data" / "replication" / "rf1_crash.json").read_text())
    trace["steps"][1]["action"]["op"] = "unplug"
    assert str(replay(trace)) == "not comparable: step 1: no such action as 'unplug' here"


def test_a_failure_of_the_simulator_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that comes from below the replayer is no excuse not to compare."""
    monkeypatch.setattr("kafkasim.Cluster.run_for", mock.Mock(side_effect=RuntimeError("out of order")))
    verdict = replay(_scenario("partinc-eager-range"))
    assert verdict.kind == "different"
    assert "RuntimeError: out of order" in verdict.text
