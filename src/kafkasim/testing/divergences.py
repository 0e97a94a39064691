"""What the same tests did on the simulator and on real Kafka, side by side, and whether that is as it should be.

Inputs:   the outcomes of both runs (`outcomes`), and the list of known divergences (TOML: test id → reason).
Effects:  none; tables are returned as text.
Rule 1:   a test that passes on one side only diverges; one that the simulator skips and real Kafka does not, too.
Rule 2:   what real Kafka leaves out (it cannot cut a network) is told with its reason and judged no further, unless the simulator fails it.
Rule 3:   a test that diverged is tried once more, alone, on both sides; that it agreed then is a verdict of its own, and what it did
          at first is told.
Rule 4:   a listed divergence that is none any more is an error: the list may only say what is so.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError

SAME = "same"
SECOND_TRY = "same, second try"
LEFT_OUT = "left out on real Kafka"
DIVERGES = "diverges"
LISTED = "diverges, as listed"
WRONG = "fails on both"
MISSING = "ran on one side only"
#: Verdicts that a run must not have.
UNEXPECTED = (DIVERGES, WRONG, MISSING)
#: Where more tests than these diverge, they are not tried again: that is no accident of timing.
MOST_SECOND_TRIES = 5


@attrs.define(slots=True)
class Outcome:
    """One test on one side."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


@attrs.define(slots=True)
class Outcomes:
    """One side's run. ``is_whole`` is False where it was cut short, or could not collect its tests."""

    tests: dict[str, Outcome] = attrs.field(factory=dict)
    is_whole: bool = False
    seconds: float = 0.0


@attrs.define(slots=True)
class Row:
    """One test on both sides."""

    test: str
    simulator: Outcome | None
    real: Outcome | None
    verdict: str
    reason: str = ""


@attrs.define(slots=True)
class Comparison:
    """Every test's row in order, and the entries of the list that no longer hold."""

    rows: list[Row]
    stale: list[str]

    def count(self, *verdicts: str) -> int:
        """How many tests have one of these verdicts."""
        return sum(row.verdict in verdicts for row in self.rows)

    @property
    def ok(self) -> bool:
        """Something was compared, nothing diverges but what is listed, and all that is listed diverges."""
        return self.count(SAME, SECOND_TRY, LISTED) > 0 and not self.count(*UNEXPECTED) and not self.stale


def read_outcomes(file: Path) -> Outcomes:
    """Read what the plugin wrote, also of a run that was cut short."""
    outcomes = Outcomes()
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        entry = json.loads(line)
        if "id" in entry:
            outcomes.tests[entry["id"]] = Outcome(entry["outcome"], entry["detail"], entry["seconds"])
        else:
            outcomes.is_whole = True
    return outcomes


def read_divergences(file: Path) -> dict[str, str]:
    """The known divergences; a test id without its brackets stands for all of its parameters."""
    if not file.exists():
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise ConfigurationError(f"{file}: {problem}") from None
    listed = table.get("divergences", {})
    unknown = [name for name in table if name != "divergences"]
    if unknown or not isinstance(listed, dict):
        raise ConfigurationError(f'{file}: expected one table [divergences] of "test id" = "reason", found {unknown}')
    for test, reason in listed.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigurationError(f"{file}: {test} has no reason")
    return dict(listed)


def compare(simulator: Outcomes, real: Outcomes, listed: Mapping[str, str], *, is_part: bool = False) -> Comparison:
    """Judge every test; of a part of the suite, list entries for tests that did not run say nothing."""
    rows: list[Row] = []
    holds = dict.fromkeys(listed, False)
    seen = dict.fromkeys(listed, False)
    for test in dict.fromkeys([*real.tests, *simulator.tests]):
        row = Row(test, simulator.tests.get(test), real.tests.get(test), "")
        row.verdict = _verdict(row.simulator, row.real)
        entry = _entry_for(test, listed)
        if entry is not None:
            seen[entry] = True
            if row.verdict == DIVERGES:
                row.verdict, row.reason = LISTED, listed[entry]
                holds[entry] = True
        rows.append(row)
    stale = [entry for entry in listed if not holds[entry] and (seen[entry] or not is_part)]
    return Comparison(sorted(rows, key=lambda row: row.test), stale)


def to_try_again(comparison: Comparison) -> list[Row]:
    """The tests that diverge and are not listed, if they are few."""
    rows = [row for row in comparison.rows if row.verdict == DIVERGES]
    return rows if len(rows) <= MOST_SECOND_TRIES else []


def tried_again(row: Row, simulator: Outcomes, real: Outcomes) -> None:
    """What a test came to when it ran alone. It agrees only if it passed on both sides; what it did at first stays in the report."""
    second = (simulator.tests.get(row.test), real.tests.get(row.test))
    agrees = all(outcome is not None and outcome.outcome == "passed" for outcome in second)
    first = "; ".join(
        f"{side}: {outcome.outcome} {outcome.detail}".rstrip()
        for side, outcome in (("simulator", row.simulator), ("real", row.real))
        if outcome is not None
    )
    if agrees:
        row.verdict, row.reason = SECOND_TRY, f"first try: {first}"
    else:
        words = f"simulator {_word(second[0])}, real {_word(second[1])}"
        row.reason = f"{first}; second try, alone: {words}"


def _verdict(simulator: Outcome | None, real: Outcome | None) -> str:
    if simulator is None or real is None:
        return MISSING
    sides = (simulator.outcome, real.outcome)
    if sides == ("passed", "passed"):
        return SAME
    if real.outcome == "skipped" and simulator.outcome != "failed":
        return LEFT_OUT
    return WRONG if sides == ("failed", "failed") else DIVERGES


def _entry_for(test: str, listed: Mapping[str, str]) -> str | None:
    if test in listed:
        return test
    whole = test.partition("[")[0]
    return whole if whole in listed else None


# --- tables -------------------------------------------------------------------------------------


def as_json(comparison: Comparison, versions: Mapping[str, str], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "ok": comparison.ok,
        "versions": dict(versions),
        "seconds": {side: round(value, 1) for side, value in seconds.items()},
        "counts": counts(comparison),
        "stale": comparison.stale,
        "tests": [
            {
                "test": row.test,
                "verdict": row.verdict,
                "reason": row.reason,
                "simulator": None if row.simulator is None else attrs.asdict(row.simulator),
                "real": None if row.real is None else attrs.asdict(row.real),
            }
            for row in comparison.rows
        ],
    }


def counts(comparison: Comparison) -> dict[str, int]:
    """Tests by verdict."""
    verdicts = (SAME, SECOND_TRY, LISTED, DIVERGES, WRONG, MISSING, LEFT_OUT)
    return {"tests": len(comparison.rows), **{verdict: comparison.count(verdict) for verdict in verdicts}}


def as_markdown(comparison: Comparison, versions: Mapping[str, str]) -> str:
    """The whole table, what needs attention first."""
    rows = sorted(comparison.rows, key=lambda row: (row.verdict not in UNEXPECTED, row.verdict == SAME))
    lines = ["# Simulator and real Kafka, test by test", "", *_summary(comparison, versions), ""]
    lines += [f"- Listed, but no longer so: `{entry}`" for entry in comparison.stale]
    lines += ["", "| test | simulator | real | verdict | why |", "|---|---|---|---|---|"]
    for row in rows:
        why = row.reason or "; ".join(
            f"{side}: {outcome.detail}"
            for side, outcome in (("simulator", row.simulator), ("real", row.real))
            if outcome is not None and outcome.detail
        )
        lines.append(_line(f"`{row.test}`", _word(row.simulator), _word(row.real), row.verdict, why))
    return "\n".join(lines) + "\n"


def as_document(comparison: Comparison, versions: Mapping[str, str]) -> str:
    """The page that the documentation cites: nothing in it changes from run to run unless the result does."""
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`, which runs the suite `tests/conformance/` on real Kafka and on the simulator. Do not edit by hand.",
        "",
        *_summary(comparison, versions),
        "",
        "## Listed divergences",
    ]
    listed = [row for row in comparison.rows if row.verdict == LISTED]
    if listed:
        lines += ["| test | simulator | real | reason |", "|---|---|---|---|"]
        lines += [_line(f"`{row.test}`", _word(row.simulator), _word(row.real), row.reason) for row in listed]
    else:
        lines.append("None.")
    return "\n".join(lines) + "\n"


def _summary(comparison: Comparison, versions: Mapping[str, str]) -> list[str]:
    lines = ["| | |", "|---|---|"]
    lines += [_line(name, version) for name, version in versions.items()]
    lines += [_line(name, str(number)) for name, number in counts(comparison).items()]
    return lines


def _word(outcome: Outcome | None) -> str:
    return "did not run" if outcome is None else outcome.outcome


def _line(*cells: str) -> str:
    escaped: Sequence[str] = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"
