"""The generated page docs/invariants.md: what ``kafkasim.check.invariants`` lists.

python -m tests.docs.invariants            # print what is out of date; status 1 if anything is
python -m tests.docs.invariants --write    # bring the page up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from kafkasim.check.invariants import CLIENTS, INVARIANTS, LAST, RECORDS, SERVERS, WORK, Invariant

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "invariants.md"

_INTRODUCTION = """# Invariants

What `cluster.check()` and `kafkasim check FILE.jsonl` hold a history against. This page is made from `kafkasim/check/invariants.py`
(`python -m tests.docs.invariants --write`). A breach where the settings in use promise otherwise is a finding; where they do not, it is
told under `allowed`, with the reason; metrics are told as numbers. A report puts the cause above its symptom, in the order of the sections
here. `finding.id` is the short name, `finding.cause` says how it came about in words that name no offset, time or client, and
`finding.signature` is the two together: findings with one signature are one bug.

*servers*: seen from inside, on simulated clusters only. *history*: seen by clients and user code, on every backend and in files.
"""
_SECTIONS = (
    (SERVERS, "What servers do"),
    (CLIENTS, "What groups and clients do"),
    (RECORDS, "What becomes of records"),
    (WORK, "What becomes of the work on them"),
    (LAST, "Metrics and remarks"),
)


def page() -> str:
    parts = [_INTRODUCTION]
    for rank, title in _SECTIONS:
        rows = [_row(invariant) for invariant in INVARIANTS if invariant.rank == rank]
        head = "| id | name | what must hold | when it is promised | seen by | module |\n|---|---|---|---|---|---|"
        parts.append(f"## {title}\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(invariant: Invariant) -> str:
    return (
        f"| {invariant.id} | `{invariant.name}` | {invariant.promise} | {invariant.needs} | {invariant.sees} | "
        f"`check/{invariant.module}` |"
    )


def main() -> int:
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
        return 0
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    print("docs/invariants.md is out of date: python -m tests.docs.invariants --write")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
