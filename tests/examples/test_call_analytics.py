"""The reference fan-out, as scripts side by side and as a design."""

import json
import re
import sqlite3
from pathlib import Path

import pytest

from kafkasim.cli import main

FOLDER = Path(__file__).parents[2] / "examples" / "call_analytics"


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_the_scripts_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Producer, SQLite consumer, batching consumer and dead-letter router: every call is stored, malformed ones are routed."""
    address = "--bootstrap-server anywhere:9092"
    single, bulk = tmp_path / "single.db", tmp_path / "bulk.db"
    also = [
        f"{FOLDER}/producer.py {address} --count 300 --rate 50 --malformed-every 100",
        f"{FOLDER}/sqlite_consumer.py {address} --database {single}",
        f"{FOLDER}/batching_consumer.py {address} --database {bulk}",
    ]
    options = [word for text in also for word in ("--also", text)]
    topics = ["--topic", "call.completed:6", "--topic", "call.completed.dlq:1"]
    router = [f"{FOLDER}/dead_letter_router.py", *address.split(), "--idle", "10"]
    assert status_of("exec", *topics, *options, "--", *router) == 0
    out = capsys.readouterr().out
    for words in (
        "delivered 300, failed 0",
        "297 good, 3 dead letters",
        "billing: 300 messages",
        "warehouse: 297 calls",
    ):
        assert words in out
    for path in (single, bulk):
        assert sqlite3.connect(path).execute("SELECT count(*) FROM calls").fetchone() == (297,)


def test_share_workers_set_poison_records_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two workers of a share group: every good call is done once, malformed ones are tried three times and become dead letters."""
    address = "--bootstrap-server anywhere:9092"
    late = tmp_path / "late.py"  # a share group begins with what comes after its members
    late.write_text(
        "import runpy, sys, time\ntime.sleep(15)\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    also = [
        f"{late} {FOLDER}/producer.py {address} --count 300 --rate 50 --malformed-every 100",
        f"{FOLDER}/share_worker.py {address} --idle 40",
    ]
    options = [word for text in also for word in ("--also", text)]
    topics = ["--topic", "call.completed:6", "--topic", "call.completed.dlq:1"]
    worker = [f"{FOLDER}/share_worker.py", *address.split(), "--idle", "50"]
    assert status_of("exec", *topics, *options, "--", *worker) == 0
    out = capsys.readouterr().out
    told = [list(map(int, re.findall(r"\d+", line))) for line in out.splitlines() if line.startswith("ml-training")]
    assert [sum(column) for column in zip(*told, strict=True)] == [297, 6, 3]


def test_the_design_keeps_its_promises_at_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten virtual seconds of it: ten groups and a share group, each record once for each."""
    assert status_of("run", str(FOLDER / "design.toml"), "--for", "10s", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [group["delivered"] for group in result["groups"]] == [result["workloads"][0]["acked"]] * 10
    assert result["workloads"][0]["arrived"] in (8333, 8334)
    [shared] = result["share_groups"]
    assert (shared["name"], shared["delivered"] + shared["share"]["rejected"]) == (
        "ml-training",
        result["workloads"][1]["acked"],
    )
