"""The recorder of traces, as far as it needs no cluster: dumps of the metadata log, batches, scenarios, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.golden.replay_replication import Replay
from tests.real import metadata_log, record, requests

DUMP = """
Dumping /data/__cluster_metadata-0/00000000000000000000.log
baseOffset: 5 lastOffset: 8 count: 4 isTransactional: false CreateTime: 1000 size: 3
| offset: 5 CreateTime: 1000 keySize: -1 payload: {"type":"TOPIC_RECORD","version":0,"data":{"name":"t","topicId":"id"}}
| offset: 6 CreateTime: 1000 keySize: -1 payload: {"type":"PARTITION_RECORD","version":1,"data":{"partitionId":0,"topicId":"id",\
"replicas":[1,2],"isr":[1,2],"leader":1,"leaderEpoch":0,"partitionEpoch":0,"directories":["a","b"]}}
| offset: 7 CreateTime: 1500 keySize: -1 payload: {"type":"NO_OP_RECORD","version":0,"data":{}}
| offset: 8 CreateTime: 2000 keySize: -1 payload: {"type":"PARTITION_CHANGE_RECORD","version":0,"data":{"partitionId":0,\
"topicId":"id","isr":[1],"eligibleLeaderReplicas":[2]}}
| offset: 9 CreateTime: 2100 keySize: -1 payload: {"type":"PARTITION_CHANGE_RECORD","version":0,"data":{"partitionId":0,\
"topicId":"id","isr":[],"leader":-1}}
| offset: 10 CreateTime: 3000 keySize: -1 payload: {"type":"CLEAR_ELR_RECORD","version":0,"data":{"topicName":"t"}}
| offset: 11 CreateTime: 4000 keySize: -1 payload: {"type":"REMOVE_TOPIC_RECORD","version":0,"data":{"topicId":"id"}}
"""


def test_a_dump_names_topics_and_counts_epochs() -> None:
    """Each record bears its topic's name and the epochs that follow from it; ids and idle records are left out."""
    records = list(metadata_log.read(DUMP))
    assert [each.type for each in records] == [
        "TOPIC_RECORD",
        "PARTITION_RECORD",
        "PARTITION_CHANGE_RECORD",
        "PARTITION_CHANGE_RECORD",
        "CLEAR_ELR_RECORD",
        "REMOVE_TOPIC_RECORD",
    ]
    assert not any("topicId" in each.data or "directories" in each.data for each in records)
    epochs = [(each.data.get("partitionEpochAfter"), each.data.get("leaderEpochAfter")) for each in records[1:4]]
    assert epochs == [(0, 0), (1, 0), (2, 1)]
    assert records[4].data == {"topicName": "t", "partitionEpochAfterByPartition": {"t-0": 3}}
    assert records[5].data == {"topic": "t"}
    assert records[5].partition_epochs == {}


def test_a_batch_is_what_kafka_checks() -> None:
    """The checksum is CRC-32C (its published check value), and the reader of fetched batches reads what was written."""
    assert requests._crc32c(b"123456789") == 0xE3069283
    batch = requests.record_batch([b"x", b"yy"], 1_700_000_000_000)
    assert requests._batches(batch + batch) == [[0, -1, 2], [0, -1, 2]]


def test_every_scenario_uses_known_actions() -> None:
    """Whatever a stored scenario does, the recorder and the replayer know how."""
    recorder = record.record_replication.Recording(None)  # type: ignore[arg-type]
    replayer = Replay.__new__(Replay)
    for path in record.SCENARIOS.glob("*.json"):
        for step in record.load(path.stem)["steps"]:
            assert step["action"]["op"] in recorder._own
            assert Replay._doer(replayer, step["action"]["op"]) is not None


def test_a_trace_gives_its_scenario_back(tmp_path: Path) -> None:
    """The steps of a recorded trace can be recorded again; a pause that awaited the fence awaits it again."""
    trace = {
        "name": "n",
        "cluster": {"props": {"a": 1}},
        "steps": [
            {"action": {"op": "pause", "broker": 1}, "took_ms": 4000, "condition_met_ms": 3000},
            {"action": {"op": "pause", "broker": 2}, "took_ms": 7000},
        ],
    }
    path = tmp_path / "n.json"
    path.write_text(json.dumps(trace))
    scenario = record.from_trace(path)
    assert [(step.get("until"), step.get("seconds")) for step in scenario["steps"]] == [("fenced", None), (None, 7.0)]


def test_a_trace_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What cannot be written leaves no file of the trace's name; what can leaves nothing beside it."""
    with pytest.raises(TypeError):
        record.write("n", {"steps": [object()]}, tmp_path)
    assert not (tmp_path / "n.json").exists()
    written = record.write("n", {"steps": []}, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [written.name]


def test_an_unknown_scenario_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The way out is the list of those that exist."""
    with pytest.raises(SystemExit):
        record.main(["no_such_scenario"])
    assert "no scenario 'no_such_scenario'; known are" in capsys.readouterr().err
