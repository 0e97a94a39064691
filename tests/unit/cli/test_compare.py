"""``kafkasim compare rebalance``: its table, its files, its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kafkasim.cli import main

SMALL = [
    "compare",
    "rebalance",
    "--protocol",
    "eager",
    "--members",
    "2",
    "--partitions",
    "4",
    "--event",
    "join@3",
    "--for",
    "8s",
]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_it_prints_a_table_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table on stdout, the rest on stderr."""
    page = tmp_path / "out.html"
    assert run([*SMALL, "--html", str(page)]) == 0
    out, err = capsys.readouterr()
    assert "eager" in out
    assert "join@3" in out
    assert f"wrote {page}" in err
    assert page.stat().st_size > 1_000_000


def test_it_prints_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON on stdout."""
    assert run([*SMALL, "--json", "--config", "heartbeat.interval.ms=1000"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["runs"][0]["properties"]["heartbeat.interval.ms"] == "1000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--event", "explode@3"], "explode"),
        (["--protocol", "sticky"], "sticky"),
        (["--config", "nonsense"], "name=value"),
        (["--html", "/no/such/folder/out.html"], "no folder"),
        (["--for", "soon"], "soon"),
    ],
)
def test_a_mistake_is_named_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything runs."""
    assert run([*SMALL, *arguments]) == 2
    assert message in capsys.readouterr().err
