"""``kafkasim check``: hold a recorded history against what Kafka and its users promise.

Inputs:   a file of JSON lines, as ``cluster.save_history`` writes it on either backend.      Effects: the report on stdout.
Rule 1:   status 0 where nothing was broken, 1 where something was, 2 for a file or a promise that cannot be read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kafkasim.check.foreign import check_foreign
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.history_lines import read_history_lines
from kafkasim.check.report import Finding, Report
from kafkasim.core.model.history import HistoryEvent
from kafkasim.errors import ConfigurationError

_OK, _BROKEN, _USAGE_ERROR = 0, 1, 2
_FORM = "GROUP:PROMISE,PROMISE@TOPIC,TOPIC, for example billing:at_least_once,drained@orders"


def check_command(
    file: str,
    promises: Sequence[str],
    compacted: Sequence[str],
    replication_factor: int,
    min_insync: int,
    as_json: bool,
) -> int:
    """What ``kafkasim check`` does; returns the exit status."""
    try:
        guarantees = [_guarantee(text) for text in promises]
        events = _read(file)
    except ConfigurationError as problem:
        print(f"kafkasim check: {problem}", file=sys.stderr)
        return _USAGE_ERROR
    report = check_foreign(
        events,
        guarantees,
        replication_factor=replication_factor,
        min_insync_replicas=min_insync,
        compacted=frozenset(compacted),
    )
    report.count("events", len(events))
    print(json.dumps(_plain(report), indent=2) if as_json else report)
    return _OK if report.ok else _BROKEN


def _read(file: str) -> list[HistoryEvent]:
    try:
        with Path(file).open(encoding="utf-8") as lines:
            return read_history_lines(lines)
    except OSError as problem:
        raise ConfigurationError(f"{file} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is no text: a history is lines of JSON, as save_history writes it") from None
    except ConfigurationError as problem:
        raise ConfigurationError(f"{file}: {problem}") from None


def _guarantee(text: str) -> Guarantee:
    group, colon, rest = text.partition(":")
    names, _, topics = rest.partition("@")
    if not colon or not names:
        raise ConfigurationError(f"{text!r} is no promise: write {_FORM}")
    listed = [topic for topic in topics.split(",") if topic]
    values: dict[str, object] = {}
    for name in names.split(","):
        word, equals, number = name.partition("=")
        if word == "mirrors" and number:
            values[word] = number
            continue
        try:
            values[word] = float(number) if equals else True
        except ValueError:
            raise ConfigurationError(f"{name!r} of {text!r} is no number: write {word}=5") from None
    return Guarantee.of(group or None, listed, values)


def _plain(report: Report) -> dict[str, object]:
    return {
        "ok": report.ok,
        "looked_at": report.looked_at,
        "findings": [_finding(finding) for finding in report.findings],
        "allowed": [_finding(finding) for finding in report.allowed],
        "metrics": report.metrics,
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.id,
        "invariant": finding.invariant,
        "cause": finding.cause,
        "at_us": finding.at_us,
        "partition": None if finding.tp is None else str(finding.tp),
        "text": finding.text,
    }
