"""``kafkasim compare``: run a comparison, show its table, write its picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kafkasim.cli.run import parse_duration
from kafkasim.compare import PROTOCOLS, Comparison, rebalance
from kafkasim.errors import ConfigurationError

_FAILED = 1
_WIDTH_WITHOUT_TERMINAL = 170


def compare_rebalance(
    events: Sequence[str],
    protocols: Sequence[str],
    members: int,
    partitions: int,
    slow: Sequence[str],
    properties: Sequence[str],
    duration: str | None,
    seed: int,
    backend: str,
    html: str | None,
    png: str | None,
    as_json: bool,
) -> int:
    """The exit status."""
    duration_us = parse_duration("--for", duration)
    for path in (html, png):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ConfigurationError(f"{path}: there is no folder {Path(path).absolute().parent}")
    try:
        comparison = rebalance(
            members=members,
            partitions=partitions,
            events=events,
            slow=slow,
            duration=None if duration_us is None else duration_us / 1_000_000,
            protocols=protocols or tuple(PROTOCOLS),
            config=dict(map(_property, properties)),
            seed=seed,
            backend=backend,
            on_progress=_say,
        )
    except TimeoutError as problem:
        _say(str(problem))
        return _FAILED
    if as_json:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        _show(comparison)
    return _write_pictures(comparison, html, png)


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigurationError(f"--config {text}: expected name=value, as in session.timeout.ms=6000")
    return name.strip(), value.strip()


def _show(comparison: Comparison) -> None:
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    heads, rows = comparison.rows()
    table = Table(header_style="bold")
    for column, head in enumerate(heads):
        table.add_column(head, justify="left" if column == 0 else "right")
    for row in rows:
        table.add_row(*row, style=None if row[0].startswith(" ") else "bold")
    out.print(table)


def _write_pictures(comparison: Comparison, html: str | None, png: str | None) -> int:
    try:
        if html is not None:
            comparison.to_html(html)
            _say(f"wrote {html}")
        if png is not None:
            comparison.to_png(png)
            _say(f"wrote {png}")
    except (ImportError, OSError, RuntimeError) as problem:
        _say(str(problem))
        return _FAILED
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)
