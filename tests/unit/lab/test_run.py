"""Small designs on a simulated cluster: what the result says of them."""

import json
from pathlib import Path

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.lab.design import Design
from kafkasim.lab.read_design import parse_design, read_design
from kafkasim.lab.result import Result
from kafkasim.lab.run import Progress, run_design

BASE = """
[cluster]
brokers = 3
duration = "20s"
drain = "20s"

[[topics]]
name = "calls"
partitions = 4
config = { "min.insync.replicas" = 2 }

[[topics]]
name = "letters"

[[workloads]]
topic = "calls"
rate = 100
key = "unique"
value_bytes = [100, 200]
malformed = 0.02
headers = { ce_id = "{id}", ce_type = "call" }
producer = { "linger.ms" = 50, "acks" = "all", "enable.idempotence" = true }

[[groups]]
name = "billing"
topics = "calls"
members = 2
batch = 50
"""


def design_of(text: str) -> Design:
    return parse_design(BASE + text)


def run(text: str = "", seed: int = 1) -> Result:
    return run_design(design_of(text), seed=seed)


def test_a_calm_run_delivers_everything_once() -> None:
    """Every record arrives, is acknowledged, and is worked on once; the promises hold."""
    result = run("processing = '1ms'\n[promises]\nat_least_once = true\nno_duplicates = true\nfinal_lag = 0\n")
    [workload], [group] = result.workloads, result.groups
    assert workload.arrived == workload.acked in (1999, 2000)
    assert (group.delivered, group.lost, group.duplicated, group.final_lag) == (workload.acked, 0, 0, 0)
    assert group.latency_p50_ms is not None
    assert 20 < group.latency_p50_ms < 600
    assert result.ok
    assert result.checks["deliveries"] == workload.acked
    assert json.loads(json.dumps(result.as_json()))["ok"] is True


def test_the_same_seed_gives_the_same_run() -> None:
    """Two runs of one seed agree in everything but wall time; another seed differs."""
    first, second, other = run(seed=5), run(seed=5), run(seed=6)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.groups == second.groups


def test_a_crashed_leader_loses_nothing_with_acks_all() -> None:
    """A broker dies and comes back: partitions were without leader and under-replicated, nothing is lost."""
    result = run(
        "[[faults]]\nat = 2\nwhat = 'crash'\nbroker = 1\n[[faults]]\nat = 16\nwhat = 'restart'\nbroker = 1\n"
        "[promises]\nno_loss = true\nat_least_once = true\n"
    )
    crash, restart = result.faults
    assert result.ok, result.promises
    assert crash.isr_whole_s is not None
    assert 14 <= crash.isr_whole_s <= 17
    assert crash.leaders_back_s is not None
    assert 8 < crash.leaders_back_s < 14
    assert restart.target == "broker 1"
    assert max(partition.under_replicated_s for partition in result.partitions) > 3


@pytest.mark.parametrize(("commit", "lost", "duplicated"), [("before", True, False), ("after", False, True)])
def test_a_crashed_member_loses_or_repeats_by_when_it_commits(commit: str, lost: bool, duplicated: bool) -> None:
    """Commit before the work loses what a killed member had in hand; commit after it brings the finished part again."""
    result = run(
        f"processing = '15ms'\ncommit = '{commit}'\nconsumer = {{ \"session.timeout.ms\" = 6000 }}\n"
        "[[faults]]\nat = 10.2\nwhat = 'crash'\nmember = 'billing-1'\n[promises]\nat_least_once = true\n"
    )
    [group] = result.groups
    assert (group.lost > 0, group.duplicated > 0) == (lost, duplicated)
    assert (group.loss.skipped > 0) == lost
    assert result.ok is not lost
    assert group.rebalances > 2


def test_a_slow_group_falls_behind_and_that_is_no_loss() -> None:
    """What waits in the log at the end is pending: lag breaks its promise, at-least-once does not."""
    result = run("processing = '200ms'\n[promises]\nat_least_once = true\nmax_lag = 100\n")
    [group] = result.groups
    assert group.loss.pending > 100
    assert group.final_lag >= group.loss.pending - 100
    kept = {promise.promise.split()[0]: promise.kept for promise in result.promises}
    assert kept == {"at_least_once": True, "max_lag": False}
    assert not result.ok


def test_malformed_records_go_to_the_dead_letter_topic() -> None:
    """As many dead letters as malformed records, and the group goes on."""
    result = run("dead_letter_topic = 'letters'\n")
    [group] = result.groups
    assert group.dead_lettered > 10
    assert group.delivered == result.workloads[0].acked
    assert result.checks["acknowledged records"] == result.workloads[0].acked + group.dead_lettered


def test_a_handler_gets_real_messages(tmp_path: Path) -> None:
    """``handler`` is called with each Message; what it raises makes a dead letter."""
    (tmp_path / "my_handler_module.py").write_text(
        "import json, time\nseen = []\n"
        "def handle(message):\n    time.sleep(0.001)\n    json.loads(message.value())\n    seen.append(message.key())\n"
    )
    path = tmp_path / "design.toml"
    path.write_text(BASE + "handler = 'my_handler_module:handle'\ndead_letter_topic = 'letters'\n")
    result = run_design(read_design(path))
    [group] = result.groups
    assert group.delivered == result.workloads[0].acked
    assert group.errors == {"JSONDecodeError": group.dead_lettered}
    path.write_text(BASE + "handler = 'my_handler_module:handel'\n")
    with pytest.raises(ConfigurationError, match="no function 'handel'"):
        run_design(read_design(path))


def test_members_can_be_paused_and_stopped() -> None:
    """A paused member goes on afterwards, a stopped one leaves the group in order: nothing is lost or repeated."""
    result = run(
        "[[faults]]\nat = 5\nwhat = 'pause'\nmember = 'billing-1'\n[[faults]]\nat = 7\nwhat = 'resume'\nmember = 'billing-1'\n"
        "[[faults]]\nat = 12\nwhat = 'shutdown'\nmember = 'billing-2'\n"
        "[[faults]]\nat = 15\nwhat = 'restart'\nmember = 'billing-2'\n[promises]\nat_least_once = true\nmax_stall = 5\n"
    )
    [group] = result.groups
    assert group.delivered == result.workloads[0].acked
    assert result.ok, result.promises
    assert result.faults[0].what == "pause"


def test_network_faults_between_brokers() -> None:
    """A broker cut off from the others drops out of the ISR and returns after the network has healed."""
    result = run(
        "[[faults]]\nat = 2\nwhat = 'partition'\nbetween = [[1], [2, 3]]\n[[faults]]\nat = 14\nwhat = 'heal'\n"
        "[promises]\nno_loss = true\n"
    )
    assert result.faults[0].isr_whole_s is not None
    assert result.faults[0].isr_whole_s > 1
    assert result.faults[1].target == "everything"
    assert not result.broken_checks


def test_disks_that_are_full_and_slow() -> None:
    """A broker with a full disk ends, comes back with space on it and loses nothing; a slow one is no loss either."""
    result = run(
        "[[faults]]\nat = 2\nwhat = 'disk_full'\nbroker = 1\n[[faults]]\nat = 15\nwhat = 'disk_heal'\nbroker = 1\n"
        "[[faults]]\nat = 16\nwhat = 'restart'\nbroker = 1\n"
        "[[faults]]\nat = 3\nwhat = 'disk_slow'\nbroker = 2\nextra = '2ms'\n[promises]\nno_loss = true\n"
    )
    full = next(fault for fault in result.faults if fault.what == "disk_full")
    assert full.leaders_back_s is not None
    assert 8 < full.leaders_back_s < 14
    assert max(partition.under_replicated_s for partition in result.partitions) > 3
    assert result.ok, result.promises


def test_progress_and_an_early_end() -> None:
    """Progress is told each virtual second; a run that is ended early says so and is not ok."""
    told: list[Progress] = []
    result = run_design(design_of(""), on_progress=told.append, should_stop=lambda: len(told) >= 3)
    assert [round(one.virtual_s) for one in told] == [1, 2, 3]
    assert told[0].total_s == 40
    assert not result.complete
    assert not result.ok
    assert result.groups[0].delivered > 100
