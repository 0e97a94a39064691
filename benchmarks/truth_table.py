"""What this and other stand-ins for a Kafka cluster do with one small program (``truth_program``), as a Markdown table.

The peers are no dependencies: they live in a virtual environment of their own.

    python -m venv peers && peers/bin/pip install mockafka-py kafka-mocha "confluent-kafka[schemaregistry]" certifi
    python -m benchmarks.truth_table --peers-python peers/bin/python [--write README.md]

Every cell is what was observed in this run. A peer that is not installed, or has no call for a question, says so. Each peer runs twice, so
that "the same in two runs" can be answered; what it costs in wall time is the last row.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import ROOT, fresh_environment

PROGRAM = ROOT / "benchmarks" / "truth_program.py"
PEERS = ("kafkasim", "librdkafka", "mockafka", "mocha")
TITLES = {"librdkafka": "librdkafka mock", "mockafka": "mockafka-py", "mocha": "kafka-mocha"}
BEGIN, END = "<!-- truth table: begin -->", "<!-- truth table: end -->"
TIMEOUT_SECONDS = 300

#: key, question, what Kafka documents
ROWS = (
    ("assignment", "partitions of two members of a group, when nothing more happens", "2 + 2"),
    ("callbacks", "rebalance callbacks", "1st: assign 4, revoke 4, assign 2; 2nd: assign 2"),
    ("records", "records that two members of one group read", "40 in all, 0 to both"),
    ("join", "wall time until both have their partitions", "seconds"),
    ("produce without a partition", "`produce(topic, value, key)`", "ok"),
    ("delivery callbacks", "delivery callbacks", "40 of 40"),
    ("watermarks", "`get_watermark_offsets`, summed", "lows 0, highs 40"),
    ("rejoin", "after commit and `close()`, a new member of the group", "0 read again"),
    ("other group", "another group, by `poll()`", "40 of 40"),
    ("create_topics", "`AdminClient.create_topics`", "ok"),
    ("isr", "ISR after a follower died", "ISR 2 of 3"),
    ("same leaders", "the same leaders in two runs", "by chance"),
    ("wall", "wall time of the program, its waiting included", ""),
)


def observe(python: str, peer: str) -> tuple[str, dict[str, str], float]:
    """One run: the peer's name with version, its cells, its wall seconds. Without the peer: why not."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [python, str(PROGRAM), peer],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            env=fresh_environment(),
        )
    except subprocess.TimeoutExpired:
        return TITLES.get(peer, peer), {"missing": f"did not end in {TIMEOUT_SECONDS} s"}, TIMEOUT_SECONDS
    seconds = time.perf_counter() - started
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if peer == "kafkasim":
            raise SystemExit(done.stderr)
        missing = "not installed" if "ModuleNotFoundError" in last else last[:60]
        return TITLES.get(peer, peer), {"missing": f"not run: {missing}"}, seconds
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return answer["name"], answer["cells"], seconds


def column(python: str, peer: str) -> tuple[str, dict[str, str]]:
    name, cells, seconds = observe(python, peer)
    if "missing" not in cells:
        _, again, _ = observe(python, peer)
        if "leaders" in again and not cells["leaders"].startswith(("raises", "not run")):
            same = cells["leaders"] == again["leaders"]
            constant = " (one broker leads all)" if same and len(set(cells["leaders"].split())) == 1 else ""
            cells["same leaders"] = ("yes" if same else "no") + constant
        cells["wall"] = f"{seconds:.1f} s"
    return name, cells


def table(columns: list[tuple[str, dict[str, str]]]) -> str:
    names = ["question", "Kafka", *(name for name, _ in columns)]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for key, question, expected in ROWS:
        cells = [_text(cells, key) for _, cells in columns]
        lines.append("| " + " | ".join([question, expected, *cells]) + " |")
    return "\n".join(lines)


def _text(cells: dict[str, str], key: str) -> str:
    return cells.get("missing", cells.get(key, "not run")).replace("|", "\\|")


def write(page: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    content = page.read_text()
    before, rest = content.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the environment with the peers")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--write", type=Path, help="put the table into this page, between its marks")
    options = parser.parse_args()
    columns = [column(sys.executable if peer == "kafkasim" else options.peers_python, peer) for peer in options.only]
    text = table(columns)
    print(text)
    if options.write is not None:
        today = datetime.datetime.now(tz=datetime.UTC).date()
        write(options.write, f"Observed on {today}; `python -m benchmarks.truth_table` runs it again.\n\n{text}")


if __name__ == "__main__":
    main()
