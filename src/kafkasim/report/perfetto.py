"""A run as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

Mirrors:  the Trace Event Format: a process for each node, a thread for each role, async spans for requests, counters.
Inputs:   a story.      Effects: a list of events; a file, whole or absent.
Rule 1:   timestamps are virtual microseconds, so that two runs of one seed give the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kafkasim.core.model.ids import FIRST_CLIENT_NODE
from kafkasim.report.story import Story
from kafkasim.sim.files import write_whole

#: Processes that are no node.
_NEMESIS, _GROUPS, _PARTITIONS = 1_000_000, 1_000_001, 1_000_002


def write_trace(story: Story, path: str | Path) -> None:
    """Write ``trace_events`` as JSON."""
    values = {"traceEvents": trace_events(story), "displayTimeUnit": "ms", "otherData": {"seed": story.seed}}
    write_whole(Path(path), json.dumps(values, separators=(",", ":")))


def trace_events(story: Story) -> list[dict[str, Any]]:
    """Names first, then spans and counters, each list in order of time."""
    events = [*_servers(story), *_faults(story), *_partitions(story), *_groups(story)]
    if story.exchanges is not None:
        events += _exchanges(story)
        events += _watermarks(story)
    return events


def _servers(story: Story) -> list[dict[str, Any]]:
    events = []
    for node, spans in story.servers.items():
        events.append(_process(node, f"node {node}"))
        events.append(_thread(node, 0, "process"))
        events += [_slice(node, 0, span.state, span.from_s, span.to_s) for span in spans]
        events.append(_thread(node, 1, "active controller"))
    events += [_slice(node, 1, "active controller", from_s, to_s) for node, from_s, to_s in story.controllers]
    return events


def _faults(story: Story) -> list[dict[str, Any]]:
    events = [_process(_NEMESIS, "faults and findings"), _thread(_NEMESIS, 0, "faults"), _thread(_NEMESIS, 1, "broken")]
    events += [
        {"ph": "i", "s": "g", "pid": _NEMESIS, "tid": 0, "ts": _us(fault.at_s), "name": fault.text}
        for fault in story.faults
    ]
    events += [
        {"ph": "i", "s": "g", "pid": _NEMESIS, "tid": 1, "ts": _us(story.end_s), "name": text} for text in story.broken
    ]
    return events


def _partitions(story: Story) -> list[dict[str, Any]]:
    events = [_process(_PARTITIONS, "partitions")]
    for tid, partition in enumerate(story.partitions):
        events.append(_thread(_PARTITIONS, tid, partition.name))
        leaders = [span for span in partition.spans if span.role == "leader"]
        events += [
            _slice(_PARTITIONS, tid, f"leader {span.replica}", span.from_s, span.to_s)
            for span in sorted(leaders, key=lambda span: span.from_s)
        ]
        moments = sorted({span.from_s for span in partition.spans} | {span.to_s for span in partition.spans})
        for at_s in moments[:-1]:
            roles = [span.role for span in partition.spans if span.from_s <= at_s < span.to_s]
            sizes = {"ISR": len([role for role in roles if role != "eligible"]), "ELR": roles.count("eligible")}
            events.append(_counter(_PARTITIONS, f"{partition.name} ISR and ELR", at_s, sizes))
    return events


def _groups(story: Story) -> list[dict[str, Any]]:
    events = [_process(_GROUPS, "groups")]
    tid = 0
    for group in story.groups:
        events += [_counter(_GROUPS, f"{group.name} lag", at_s, {"records": lag}) for at_s, lag in group.lag]
        for partition in dict.fromkeys(span.partition for span in group.owners):
            tid += 1
            events.append(_thread(_GROUPS, tid, f"{group.name}: {partition}"))
            events += [
                _slice(_GROUPS, tid, span.member, span.from_s, span.to_s)
                for span in group.owners
                if span.partition == partition
            ]
    return events


def _exchanges(story: Story) -> list[dict[str, Any]]:
    """A request as an async span at its requester, and what the server did with it as one inside it."""
    assert story.exchanges is not None
    end_us = _us(story.end_s)
    events: list[dict[str, Any]] = []
    clients: set[int] = set()
    for number, exchange in enumerate(story.exchanges.all):
        if exchange.requester >= FIRST_CLIENT_NODE and exchange.requester not in clients:
            clients.add(exchange.requester)
            events.append(_process(exchange.requester, f"client {exchange.requester}"))
        until_us = exchange.arrived_us if exchange.is_whole else end_us
        common = {"cat": "request", "id": number, "pid": exchange.requester, "tid": 2}
        to = f"{exchange.api} to {exchange.server}"
        name = to if exchange.is_whole else f"{to} (no answer)"
        events.append({"ph": "b", "ts": exchange.sent_us, "name": name, **common})
        if exchange.received_us >= 0:
            done_us = exchange.answered_us if exchange.answered_us >= 0 else until_us
            served = {**common, "pid": exchange.server, "cat": "served"}
            events.append(
                {"ph": "b", "ts": exchange.received_us, "name": f"{exchange.api} from {exchange.requester}", **served}
            )
            events.append({"ph": "e", "ts": done_us, "name": f"{exchange.api} from {exchange.requester}", **served})
        events.append({"ph": "e", "ts": until_us, "name": name, **common})
    return events


def _watermarks(story: Story) -> list[dict[str, Any]]:
    assert story.exchanges is not None
    return [
        _counter(
            _PARTITIONS,
            f"{watched.tp} log",
            at_us / 1e6,
            {"log end offset": log_end, "high watermark": high_watermark},
        )
        for watched in story.exchanges.watermarks
        for at_us, _leader, log_end, high_watermark in watched.samples
    ]


# --- the format -----------------------------------------------------------------------------------------------------


def _process(pid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}


def _thread(pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}


def _slice(pid: int, tid: int, name: str, from_s: float, to_s: float) -> dict[str, Any]:
    return {"ph": "X", "pid": pid, "tid": tid, "ts": _us(from_s), "dur": _us(to_s) - _us(from_s), "name": name}


def _counter(pid: int, name: str, at_s: float, values: dict[str, int]) -> dict[str, Any]:
    return {"ph": "C", "pid": pid, "tid": 0, "ts": _us(at_s), "name": name, "args": values}


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
