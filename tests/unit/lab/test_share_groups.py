"""Designs with share groups, on a simulated cluster: what the result says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.lab.read_design import parse_design, read_design
from kafkasim.lab.result import GroupResult, Result
from kafkasim.lab.run import run_design

BASE = """
[cluster]
brokers = 3
duration = "20s"
drain = "60s"
config = { "group.share.min.record.lock.duration.ms" = 1000 }

[[topics]]
name = "calls"
partitions = 2
config = { "min.insync.replicas" = 2 }

[[topics]]
name = "letters"

[[workloads]]
topic = "calls"
rate = 40
key = "unique"
value_bytes = [100, 200]
malformed = 0.02
producer = { "linger.ms" = 100, "acks" = "all", "enable.idempotence" = true }

[[share_groups]]
name = "ml-training"
topics = "calls"
members = 5
config = { "share.auto.offset.reset" = "earliest" }
"""
PROMISES = "[promises]\nat_least_once = true\nno_loss = true\nfinal_lag = 0\n"


def run(text: str = "", seed: int = 1) -> tuple[Result, GroupResult]:
    result = run_design(parse_design(BASE + text), seed=seed)
    [group] = result.share_groups
    return result, group


def test_more_members_than_partitions_share_the_work() -> None:
    """Five members of two partitions keep up with what two could not; everything once."""
    result, group = run("processing = '80ms'\nbatch = 5\n" + PROMISES)
    acked = result.workloads[0].acked
    assert (group.delivered, group.duplicated, group.lost, group.final_lag) == (acked, 0, 0, 0)
    assert result.ok, result.promises
    assert result.groups == []
    assert group.commits > 20
    assert group.share is not None
    assert result.checks["share deliveries"] == acked
    assert json.loads(json.dumps(result.as_json()))["share_groups"][0]["lost"] == 0
    again, same = run("processing = '80ms'\nbatch = 5\n" + PROMISES)
    assert (again.fingerprint, same) == (result.fingerprint, group)


def test_poison_that_is_released_is_archived_at_the_limit() -> None:
    """Five deliveries each; at least once is kept until the limit, and no_archived is what forbids it."""
    result, group = run("poison = 'release'\n[promises]\nat_least_once = true\nno_archived = true\nfinal_lag = 0\n")
    poison = group.loss.archived
    assert poison > 5
    assert group.share is not None
    assert group.share.released == 5 * poison
    assert group.share.redelivered >= 4 * poison
    assert group.delivered == result.workloads[0].acked - poison
    kept = {promise.promise.split()[0]: promise.kept for promise in result.promises}
    assert kept == {"at_least_once": True, "no_archived": False, "final_lag": True}
    assert any("archived-unprocessed" in text for text in result.allowed)


def test_poison_that_is_rejected_goes_at_once() -> None:
    """Once seen, never again; with a dead-letter topic it is worked on."""
    result, group = run("poison = 'reject'\n" + PROMISES)
    assert group.share is not None
    assert group.share.rejected == group.loss.rejected > 5
    assert (group.share.redelivered, group.loss.archived) == (0, 0)
    assert result.ok
    result, group = run("poison = 'release'\nreleases = 1\ncommit = 'sync'\ndead_letter_topic = 'letters'\n" + PROMISES)
    assert group.share is not None
    assert group.dead_lettered == group.share.rejected == group.share.released > 5
    assert (group.delivered, group.loss.rejected) == (result.workloads[0].acked, 0)
    result, group = run("poison = 'release'\ncommit = 'async'\ndead_letter_topic = 'letters'\n" + PROMISES)
    assert group.share is not None
    assert (group.dead_lettered * 4, group.loss.archived) == (group.share.released, 0)


def crash(at: float, what: str, member: int) -> str:
    return f"[[faults]]\nat = {at}\nwhat = '{what}'\nmember = 'ml-training-{member}'\n"


def test_members_that_die_give_back_what_they_held() -> None:
    """What they had finished comes again, the rest comes to somebody else; nothing is lost."""
    faults = "".join(crash(8.2 + member / 3, "crash", member) for member in (1, 2, 3))
    result, group = run("processing = '110ms'\nbatch = 20\n" + faults + PROMISES)
    assert result.ok, result.promises
    assert group.share is not None
    assert 0 < group.duplicated <= group.share.redelivered


def test_a_member_that_stands_still_loses_its_locks() -> None:
    """Its records come to another when the lock runs out; what it does with them afterwards is done twice."""
    reset = '"share.auto.offset.reset" = "earliest"'
    base = BASE.replace(reset, f'{reset}, "share.record.lock.duration.ms" = 3000')
    faults = crash(8, "pause", 2) + crash(15, "resume", 2)
    result = run_design(parse_design(f"{base}processing = '60ms'\nbatch = 20\n{faults}{PROMISES}"), seed=1)
    [group] = result.share_groups
    assert result.ok, (result.promises, result.broken_checks)
    assert group.share is not None
    assert 0 < group.duplicated <= group.share.timed_out


def test_a_broker_that_dies_costs_locks_and_no_records() -> None:
    """Acknowledgements fail meanwhile; everything is worked on."""
    faults = "[[faults]]\nat = 5\nwhat = 'crash'\nbroker = 1\n[[faults]]\nat = 16\nwhat = 'restart'\nbroker = 1\n"
    result, group = run("processing = '20ms'\nbatch = 20\n" + faults + PROMISES)
    assert result.ok, result.promises
    assert set(result.faults[0].groups) == {"ml-training"}
    assert group.delivered - group.duplicated == result.workloads[0].acked


def test_a_handler_of_a_share_group(tmp_path: Path) -> None:
    """What it raises on is poison."""
    (tmp_path / "my_share_handler.py").write_text(
        "import json\ndef handle(message):\n    json.loads(message.value())\n"
    )
    path = tmp_path / "design.toml"
    for poison, commit in (("reject", "sync"), ("release", "async")):
        path.write_text(
            BASE + f"handler = 'my_share_handler:handle'\npoison = '{poison}'\ncommit = '{commit}'\n" + PROMISES
        )
        result = run_design(read_design(path), seed=1)
        [group] = result.share_groups
        assert result.ok, result.promises
        assert group.share is not None
        bad = group.loss.rejected + group.loss.archived
        assert bad > 5
        assert group.delivered == result.workloads[0].acked - bad
        assert group.errors == {"JSONDecodeError": group.share.released + group.share.rejected}


def test_a_group_config_that_the_brokers_refuse_is_told() -> None:
    """What the file could not know."""
    text = BASE.replace('"share.auto.offset.reset" = "earliest"', '"share.auto.offset.reset" = "by_duration:PT-5M"')
    with pytest.raises(ConfigurationError, match="by_duration"):
        run_design(parse_design(text))


def test_beside_a_consumer_group() -> None:
    """Both read all of it, and each keeps its promises."""
    result, shared = run("[[groups]]\nname = 'billing'\ntopics = 'calls'\nmembers = 2\n" + PROMISES)
    [group] = result.groups
    assert group.delivered == shared.delivered == result.workloads[0].acked
    assert {promise.group for promise in result.promises} == {"billing", "ml-training"}
    assert result.ok
