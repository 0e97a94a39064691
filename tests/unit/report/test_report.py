"""Reports of a run: what the story holds, and what becomes of it as page, trace and diagram."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kafkasim import faults, sinks
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster
from kafkasim.report import Story, sequence_diagram, story_of, trace_events, write_page, write_sequence, write_trace
from kafkasim.sim.exchanges import Exchanges


def _billing(cluster: Cluster, sink: sinks.Sink) -> None:
    """Commits before its work: the bug of the tutorial."""
    consumer = cluster.consumer("billing", ["calls"], {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            consumer.commit(message, asynchronous=False)
            cluster.run_for(0.2)
            sink(message)


@pytest.fixture(scope="module")
def ended() -> Iterator[tuple[Cluster, Story]]:
    """A run with a killed consumer, a crashed leader and a cut-off broker, and its story."""
    with Cluster(seed=1) as cluster:
        exchanges = Exchanges(cluster, ("calls-0",))
        cluster.create_topic("calls", partitions=2, config={"min.insync.replicas": 2})
        sink = sinks.Sink(cluster, "invoices", group="billing")
        cluster.guarantee("billing", topics="calls", at_least_once=True)
        cluster.spawn(_billing, cluster, sink, name="billing-1")
        plan = faults.plan(
            faults.kill("client:billing-1", on="OffsetCommit.arrived", nth=5),
            faults.crash("leader:calls-0", at=12.0, down=20.0),
            faults.isolate("broker:3", at=25, lasting=5),
        )
        injection = cluster.inject(plan)
        cluster.produce("calls", [f"call-{number}" for number in range(12)])
        cluster.run_for(30.0)
        cluster.spawn(_billing, cluster, sink, name="billing-2")
        cluster.run_for(60.0)
        story = story_of(
            cluster,
            title="billing <1>",
            report=cluster.check(),
            fired=injection.fired,
            exchanges=exchanges,
            replay="pytest 'x'",
        )
        yield cluster, story


def test_a_server_is_down_from_its_crash_to_its_start(ended: tuple[Cluster, Story]) -> None:
    """States follow one another without a gap, and the crashed one is among them."""
    _, story = ended
    states = {node: [span.state for span in spans] for node, spans in story.servers.items()}
    assert sorted(states.values()) == [["running"], ["running"], ["running", "crashed", "running"]]
    for spans in story.servers.values():
        assert spans[0].from_s == 0.0
        assert spans[-1].to_s == story.end_s
        assert all(one.to_s == other.from_s for one, other in pairwise(spans))


def test_the_crashed_leader_leaves_the_isr_and_comes_back(ended: tuple[Cluster, Story]) -> None:
    """The bands of calls-0 tell who led it, and each change carries its chain of causes."""
    _, story = ended
    partition = next(partition for partition in story.partitions if partition.name == "calls-0")
    leaders = [span for span in partition.spans if span.role == "leader"]
    assert len({span.replica for span in leaders}) >= 2
    first = leaders[0].replica
    roles = [span.role for span in partition.spans if span.replica == first]
    assert roles[0] == "leader"
    assert "in sync" in roles[1:]
    assert any("crashed" in change.why for change in partition.changes)


def test_the_partition_of_the_breach_is_shown_record_by_record(ended: tuple[Cluster, Story]) -> None:
    """The order view is of a partition that the findings name, with all its observers."""
    _, story = ended
    assert any(story.order_of in line for line in story.broken)
    observers = {sighting.observer for sighting in story.order}
    assert observers == {"acknowledged", "billing: given", "billing: committed", "billing: done"}


def test_a_killed_member_owns_nothing_after_its_death(ended: tuple[Cluster, Story]) -> None:
    """Ownership ends with the process, long before the group notices; members have their task's name."""
    _, story = ended
    (group,) = story.groups
    killed = next(mark for mark in story.faults if "kill" in mark.text)
    first = [span for span in group.owners if span.member.startswith("billing-1")]
    assert first
    assert all(span.to_s == pytest.approx(killed.at_s, abs=0.001) for span in first)
    assert {span.member.partition(" ")[0] for span in group.owners} == {"billing-1", "billing-2"}


def test_a_fault_of_the_plan_is_told_once(ended: tuple[Cluster, Story]) -> None:
    """The crash is in the plan and in the servers' notes; the page shows it once."""
    _, story = ended
    assert sorted(mark.text.split()[0] for mark in story.faults) == ["crash", "isolate", "kill"]


def test_only_wanted_partitions_are_told(ended: tuple[Cluster, Story]) -> None:
    """Named partitions come in the order of their names on the call; an unknown one is refused with those there are."""
    cluster, _ = ended
    assert [one.name for one in story_of(cluster, partitions=["calls-1"]).partitions] == ["calls-1"]
    with pytest.raises(
        ConfigurationError, match="no partition calls-7 to report on: this cluster had calls-0, calls-1"
    ):
        story_of(cluster, partitions=["calls-7"])


def test_the_page_is_one_file_with_its_words_escaped(ended: tuple[Cluster, Story], tmp_path: Path) -> None:
    """Title and findings are text, never markup; nothing is fetched from elsewhere."""
    _, story = ended
    write_page(story, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text()
    assert "<h1>billing &lt;1&gt;</h1>" in page
    assert "commit-ahead: group billing committed" in page
    assert 'src="http' not in page
    assert "pytest &#x27;x&#x27;" in page


def test_the_trace_pairs_its_spans_and_keeps_its_clock(ended: tuple[Cluster, Story], tmp_path: Path) -> None:
    """Every async span that begins ends, not before it began; counters hold lag and watermarks."""
    _, story = ended
    write_trace(story, tmp_path / "run.json")
    events: list[dict[str, Any]] = json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert events == json.loads(json.dumps(trace_events(story)))
    begun = {(event["cat"], event["id"]): event["ts"] for event in events if event["ph"] == "b"}
    ended_at = {(event["cat"], event["id"]): event["ts"] for event in events if event["ph"] == "e"}
    assert begun.keys() == ended_at.keys()
    assert all(ended_at[key] >= begun[key] for key in begun)
    counters = {event["name"] for event in events if event["ph"] == "C"}
    assert {"billing lag", "calls-0 log", "calls-0 ISR and ELR"} <= counters
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")


def test_the_diagram_shows_the_last_requests_before_a_moment(ended: tuple[Cluster, Story], tmp_path: Path) -> None:
    """Participants first, then arrows in order of time; a request without an answer is crossed out."""
    _, story = ended
    killed = next(mark for mark in story.faults if "kill" in mark.text)
    text = sequence_diagram(story, until_s=killed.at_s, apis=("OffsetCommit",))
    lines = text.splitlines()
    assert lines[0] == "sequenceDiagram"
    assert sum("->>" in line and "-->>" not in line for line in lines) == 5
    assert any("Note over" in line and "kill" in line for line in lines)
    write_sequence(story, tmp_path / "run.md")
    assert (tmp_path / "run.md").read_text().startswith("```mermaid\nsequenceDiagram")


def test_a_story_without_exchanges_has_no_diagram(ended: tuple[Cluster, Story]) -> None:
    """The error says how to get one."""
    cluster, _ = ended
    with pytest.raises(ConfigurationError, match=r"Exchanges\(cluster\)"):
        sequence_diagram(story_of(cluster))


def test_watching_changes_nothing_of_a_run() -> None:
    """A run with its exchanges kept has the fingerprint of one without."""

    def run(watched: bool) -> tuple[str, int]:
        with Cluster(seed=3) as cluster:
            exchanges = Exchanges(cluster, ("t-0",), most=5) if watched else None
            cluster.create_topic("t")
            cluster.produce("t", ["a", "b"])
            return cluster.fingerprint(), 0 if exchanges is None else exchanges.left_out

    plain, watched = run(False), run(True)
    assert plain[0] == watched[0]
    assert watched[1] > 0
