"""A history as lines: what is read back is what was written, and judged alike."""

from __future__ import annotations

import json
import random

import pytest

import kafkasim
from kafkasim.check.history_lines import history_lines, read_history_lines
from kafkasim.check.run import check_history
from kafkasim.core.model.history import Acked, Delivered, Happened
from kafkasim.errors import ConfigurationError


def written() -> tuple[list[str], kafkasim.Cluster]:
    cluster = kafkasim.Cluster(seed=2)
    cluster.create_topic("orders", partitions=2)
    cluster.produce("orders", [b"a", None, "ä"], keys=[b"k", None, b"k"])
    consumer = cluster.consumer("billing", ["orders"], {"auto.offset.reset": "earliest", "enable.auto.commit": False})
    for _ in range(12):
        consumer.poll(1.0)
    consumer.commit(asynchronous=False)
    consumer.close()
    cluster.broker(2).crash()
    return list(history_lines(cluster.history)), cluster


def test_a_history_is_the_same_after_being_written_and_read() -> None:
    """Every event, and the sharing of columns that oracles rest on."""
    lines, cluster = written()
    with cluster:
        events = read_history_lines(lines)
        assert [type(event) for event in events] == [type(event) for event in cluster.history]
        assert [event.at_us for event in events] == [event.at_us for event in cluster.history]
        acked = {id(event.batch.columns) for event in events if isinstance(event, Acked)}
        delivered = {id(event.batch.columns) for event in events if isinstance(event, Delivered)}
        assert delivered
        assert delivered <= acked
        assert list(history_lines(events)) == lines
        assert any(isinstance(event, Happened) and event.kind == "crash" for event in events)


def test_a_history_that_was_read_is_judged_like_the_run() -> None:
    """The same findings, without the cluster: here that a record was given twice."""
    lines, cluster = written()
    with cluster:
        again = [line for line in lines if '"Delivered"' in line]
        report = check_history(read_history_lines([*lines, again[0]]), {})
        assert [finding.invariant for finding in report.findings] == []
        spliced = [*lines[: lines.index(again[0])], *again[:1], *lines[lines.index(again[0]) :]]
        assert [finding.invariant for finding in check_history(read_history_lines(spliced), {}).findings] == [
            "poll-back"
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "empty"),
        (lambda lines: ["{}", *lines[1:]], "line 1.*no history"),
        (lambda lines: [json.dumps({"format": "kafkasim-history", "version": 99})], "version 99"),
        (lambda lines: [*lines, "{"], "cannot be read"),
        (lambda lines: [*lines, '{"event": "Exploded"}'], "Exploded"),
        (lambda lines: [lines[0], *(line for line in lines[1:] if '"event"' in line)], "cannot be read: KeyError"),
    ],
)
def test_lines_that_are_no_history_are_refused_with_their_number(change: object, message: str) -> None:
    """Never a traceback from inside, never a silent half."""
    lines, cluster = written()
    with cluster, pytest.raises(ConfigurationError, match=message):
        read_history_lines(change(lines))  # type: ignore[operator]


def test_mangled_lines_end_in_a_clear_error_or_in_events() -> None:
    """A thousand histories with a few characters changed."""
    lines, cluster = written()
    cluster.close()
    text = "\n".join(lines)
    draw = random.Random(1)
    for _ in range(1000):
        at = draw.randrange(len(text))
        mangled = text[:at] + draw.choice('{}[]",:0aé') + text[at + draw.randrange(3) :]
        try:
            read_history_lines(mangled.splitlines())
        except ConfigurationError:
            continue
