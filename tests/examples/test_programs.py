"""Six programs in the style of confluent-kafka's own examples run on a simulated cluster without an edit."""

import io
from pathlib import Path

import pytest

from kafkasim.cli import main

PROGRAMS = Path(__file__).parent / "programs"


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["exec", *arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def seeded(tmp_path: Path) -> str:
    """A program that fills a topic and then waits."""
    path = tmp_path / "fill.py"
    path.write_text(
        "import time\nfrom confluent_kafka import Producer\nproducer = Producer({'bootstrap.servers': 'x'})\n"
        "for number in range(6):\n    producer.produce('calls', f'value {number}', partition=number % 2)\n"
        "producer.flush()\ntime.sleep(1000)\n"
    )
    return str(path)


@pytest.fixture
def late(tmp_path: Path) -> str:
    """Runs another program after five virtual seconds."""
    path = tmp_path / "late.py"
    path.write_text(
        "import runpy, sys, time\ntime.sleep(5)\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return str(path)


def test_producer_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is delivered and told."""
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\nthree\n"))
    assert status_of("--topic", "calls:1", "--", str(PROGRAMS / "produce_stdin.py"), "localhost:9092", "calls") == 0
    err = capsys.readouterr().err
    assert [f"% calls [0] @ {offset}" in err for offset in range(3)] == [True] * 3


def test_consumers_print_their_assignments(seeded: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two members of one group split the partitions; every message is printed once; both give their partitions back."""
    program = PROGRAMS / "consume_and_print_assignments.py"
    command = f"{program} localhost:9092 readers calls"
    assert (
        status_of("--topic", "calls:4", "--for", "30s", "--also", seeded, "--also", command, "--", *command.split())
        == 0
    )
    out, err = capsys.readouterr()
    lines = out.strip().split("\n")
    assert sorted(line for line in lines if line.startswith("b'")) == [f"b'value {number}'" for number in range(6)]
    assigned = sorted(line for line in lines if line.startswith("assigned"))
    assert assigned == ["assigned: calls[0], calls[1]", "assigned: calls[2], calls[3]"]
    assert sum(line.startswith("revoked") for line in lines) == 2
    assert "Traceback" not in err


def test_assign_with_offsets(seeded: str, late: str, capsys: pytest.CaptureFixture[str]) -> None:
    """assign() from the beginning, seek(), the end of the partition, and offsets by time."""
    program = [late, str(PROGRAMS / "assign_offsets.py"), "x:1", "calls", "0", "beginning"]
    assert status_of("--topic", "calls:2", "--also", seeded, "--", *program) == 0
    assert capsys.readouterr().out.split("\n") == [
        "assignment: [('calls', 0)]",
        *["0: value 0", "1: value 2", "2: value 4"],
        "end of calls [0] at 3",
        "position: 3",
        *["1: value 2", "2: value 4"],
        "end of calls [0] at 3",
        "first offset since 1970: 0",
        "",
    ]


def test_admin_lists_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """Brokers, topics, groups and configs; a topic is created, refused, extended and deleted."""
    assert status_of("--topic", "calls:2:3", "--", str(PROGRAMS / "list_cluster.py"), "x:1", "calls") == 0
    out = capsys.readouterr().out
    for words in (
        "scratch: done\nscratch: TOPIC_ALREADY_EXISTS\nscratch: done\n",
        "3 brokers, controller",
        'topic "calls" with 2 partition(s)\n    partition 0: 3 replicas, 3 in sync',
        "cleanup.policy = delete",
        "0 groups, 0 errors",
    ):
        assert words in out


def test_watermarks(seeded: str, late: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lag of a group that has committed nothing: everything."""
    program = [late, str(PROGRAMS / "watermarks.py"), "x:1", "readers", "calls"]
    assert status_of("--topic", "calls:2", "--also", seeded, "--", *program) == 0
    rows = [line.split() for line in capsys.readouterr().out.strip().split("\n")[2:]]
    assert rows == [["calls", "[0]", "-", "3"], ["calls", "[1]", "-", "3"]]


def test_context_managers(capsys: pytest.CaptureFixture[str]) -> None:
    """With statements flush and close."""
    assert status_of(str(PROGRAMS / "context_managers.py"), "x:1") == 0
    out = capsys.readouterr().out
    assert "created managed" in out
    assert "consumed: value-0, value-1, value-2, value-3, value-4" in out
    assert "after the end: Consumer closed" in out
