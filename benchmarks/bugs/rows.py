"""All rows, in the catalogue's order; a module holds each family."""

from __future__ import annotations

from benchmarks.bugs.consumers import CONSUMERS
from benchmarks.bugs.epochs import EPOCHS
from benchmarks.bugs.fan_out import FAN_OUT
from benchmarks.bugs.groups import GROUPS
from benchmarks.bugs.moves import MOVES
from benchmarks.bugs.near_reads import NEAR_READS
from benchmarks.bugs.replication import REPLICATION
from benchmarks.bugs.row import Row
from benchmarks.bugs.services import SERVICES
from benchmarks.bugs.settings import SETTINGS
from benchmarks.bugs.share_state import SHARE_STATE
from benchmarks.bugs.shares import SHARES
from benchmarks.bugs.truncation import TRUNCATION

ROWS: tuple[Row, ...] = (
    *REPLICATION,
    *TRUNCATION,
    *MOVES,
    *NEAR_READS,
    *SETTINGS,
    *EPOCHS,
    *CONSUMERS,
    *GROUPS,
    *SHARES,
    *SHARE_STATE,
    *SERVICES,
    *FAN_OUT,
)


def chosen(only: str | None) -> list[Row]:
    """The rows whose number is ``only`` or whose name contains it. Raises SystemExit where there is none."""
    found = [row for row in ROWS if only is None or only == row.number or only in row.name]
    if not found:
        raise SystemExit(f"no row {only!r}; there are: {', '.join(f'{row.number} {row.name}' for row in ROWS)}")
    return found
