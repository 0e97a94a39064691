"""Swim lanes: the last things that servers noted, a column for each server and a row for each moment.

Inputs:   a history.      Effects: lines of text, no more than a screen.
Rule 1:   faults always have their row; of what else happened the latest rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kafkasim.core.model.history import Happened, HistoryEvent

MOST_ROWS = 12
_WIDTH = 24
_FAULTS = ("crash", "power_loss", "shutdown", "pause", "resume", "start")
#: Told by every server about itself all the time, and no help to a reader.
_DULL = ("metadata-", "broker-state", "group ", "data lost")


def lanes(history: Iterable[HistoryEvent], servers: Sequence[int]) -> list[str]:
    """A head and at most `MOST_ROWS` rows."""
    told = [event for event in history if isinstance(event, Happened) and not event.kind.startswith(_DULL)]
    faults = [event for event in told if event.kind in _FAULTS][-MOST_ROWS:]
    others = [event for event in told if event.kind not in _FAULTS]
    room = MOST_ROWS - len(faults)
    rows = sorted([*faults, *(others[-room:] if room else [])], key=lambda event: event.at_us)
    head = f"{'t (s)':>12} " + "".join(f"{f'node {server}':<{_WIDTH}}" for server in servers)
    return [head.rstrip(), *(_row(event, servers) for event in rows)]


def _row(event: Happened, servers: Sequence[int]) -> str:
    text = event.kind if event.subject == event.node else f"{event.kind} {event.subject}"
    fields = " ".join(f"{name}={_short(value)}" for name, value in event.fields)
    whole = f"{text} {fields}".strip()
    if event.node not in servers:
        return f"{event.at_us / 1e6:12.6f} {whole}"
    before = "".join(f"{'.':<{_WIDTH}}" for _ in range(servers.index(event.node)))
    return f"{event.at_us / 1e6:12.6f} {before}{whole}"


def _short(value: object) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else str(value)
