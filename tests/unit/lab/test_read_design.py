"""Design files: what is read, and how mistakes are told."""

from pathlib import Path

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.lab.read_design import parse_design, read_design
from kafkasim.lab.reading import DesignError, duration_us, rate_per_second

SMALL = """
[cluster]
brokers = 3
racks = ["a", "b", "c"]
duration = "1m30s"

[[topics]]
name = "calls"
partitions = 6
config = { "min.insync.replicas" = 2 }

[[workloads]]
topic = "calls"
rate = "600/min"
key = "pool"
key_count = 10
key_skew = 1.1

[[groups]]
name = "billing"
topics = ["calls"]
members = 2
processing = { per_record = "2ms", distribution = "lognormal", p99 = "9ms" }
instance_ids = true
consumer = { "fetch.min.bytes" = 1000 }

[[faults]]
at = 10
what = "crash"
broker = 1

[promises]
at_least_once = true
max_lag = 100
"""


def error_of(text: str) -> DesignError:
    with pytest.raises(DesignError) as caught:
        parse_design(text)
    return caught.value


def test_a_small_design() -> None:
    """Every part of a design comes out as checked values."""
    design = parse_design(SMALL)
    assert design.cluster.duration_us == 90_000_000
    assert design.topics[0].replication_factor == 3
    assert design.topics[0].config == {"min.insync.replicas": "2"}
    assert design.workloads[0].rate_per_second == 10
    group = design.groups[0]
    assert group.instance_ids == ("billing-1", "billing-2")
    assert group.processing.p99_us == 9000
    assert group.promises.at_least_once
    assert group.promises.max_lag == 100
    assert design.faults[0].target == "broker 1"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("partitions = 6", "partitons = 6", 9, ["unknown key 'partitons'", "topics[1]", "did you mean 'partitions'"]),
        ("partitions = 6", "partitions = 0", 9, ["topics[1].partitions = 0", "from 1 to 1000000"]),
        ("partitions = 6", 'partitions = "six"', 9, ["'six'", "whole number"]),
        ("partitions = 6", "replication_factor = 4", 9, ["at most 3, the number of brokers"]),
        ("brokers = 3", "brokers = 3\nseeds = 1", 4, ["did you mean 'seed'"]),
        ('racks = ["a", "b", "c"]', 'racks = ["a"]', 4, ["one rack for each of the 3 brokers"]),
        ('"min.insync.replicas" = 2', '"min.insync.replica" = 2', 10, ["did you mean 'min.insync.replicas'"]),
        ('"min.insync.replicas" = 2', '"min.insync.replicas" = 0', 10, ["at least 1"]),
        ('topic = "calls"', 'topic = "cals"', 13, ["no [[topics]] of this name", "did you mean 'calls'"]),
        ('rate = "600/min"', 'rate = "600/minute/"', 14, ['such as "50000/min"']),
        ('key = "pool"', 'key = "unique"', 16, ['only with key = "pool"']),
        ("members = 2", 'members = 2\ncommit = "later"', 23, ['one of "before", "after", "auto"']),
        ('p99 = "9ms"', 'p99 = "1ms"', 23, ["above its mean"]),
        ('"fetch.min.bytes" = 1000', '"fetch.min.byte" = 1000', 25, ["did you mean 'fetch.min.bytes'"]),
        ('"fetch.min.bytes" = 1000', '"fetch.min.bytes" = "x"', 25, ["Invalid value for configuration property"]),
        ('"fetch.min.bytes" = 1000', '"enable.auto.commit" = true', 25, ["say it by 'commit'"]),
        ("broker = 1", "broker = 9", 30, ["from 1 to 3"]),
        ("broker = 1", 'member = "biling-1"', 30, ["did you mean 'billing-1'"]),
        ('what = "crash"', 'what = "crush"', 29, ["did you mean 'crash'"]),
        ('what = "crash"', 'what = "disk_slow"', 29, ["'disk_slow' needs extra"]),
        ("at = 10", 'at = "1h"', 28, ["within the run"]),
        ("max_lag = 100", "max_lags = 100", 34, ["did you mean 'max_lag'"]),
    ],
)
def test_mistakes_are_told_with_their_line(old: str, new: str, line: int, words: list[str]) -> None:
    """A mistake names file, line, key, value and what is allowed."""
    assert old in SMALL
    error = error_of(SMALL.replace(old, new))
    assert error.line == line, str(error)
    assert str(error).startswith(f"design.toml:{line}: ")
    for word in words:
        assert word in str(error)


def test_what_is_not_toml() -> None:
    """A text that is no TOML is told with its line too."""
    error = error_of("[cluster]\nbrokers = \n")
    assert error.line == 2
    assert "not valid TOML" in str(error)


def test_share_groups_are_not_there_yet() -> None:
    """Share groups are refused with a word about it, and not as an unknown key."""
    error = error_of(SMALL + '\n[[share_groups]]\nname = "x"\n')
    assert "cannot be run yet" in str(error)


def test_promises_of_some_groups() -> None:
    """[[promises]] may name the groups that they hold for; a group's own promise wins."""
    text = SMALL.replace("[promises]", '[[promises]]\ngroups = ["billing"]').replace(
        "members = 2", "members = 2\npromises = { max_lag = 7 }"
    )
    promises = parse_design(text).groups[0].promises
    assert promises.max_lag == 7
    assert promises.at_least_once


def test_arrival_times_from_a_file(tmp_path: Path) -> None:
    """A CSV beside the design says when records arrive; a heading is passed over."""
    (tmp_path / "times.csv").write_text("at\n0.5\n0.25,x\n\n1\n")
    (tmp_path / "design.toml").write_text(SMALL.replace('rate = "600/min"', 'arrivals_csv = "times.csv"'))
    design = read_design(tmp_path / "design.toml")
    assert design.workloads[0].arrival_times_us == (250_000, 500_000, 1_000_000)
    (tmp_path / "times.csv").write_text("0.5\nsoon\n")
    with pytest.raises(DesignError, match=r"times.csv:2: 'soon'"):
        read_design(tmp_path / "design.toml")


def test_times_and_rates() -> None:
    """Times take seconds or units, also several; rates take a number per second or text."""
    assert duration_us("1m30s") == 90_000_000
    assert duration_us("250ms") == 250_000
    assert duration_us(1.5) == 1_500_000
    assert rate_per_second("50_000/min") == pytest.approx(833.33, abs=0.01)
    for wrong in ("5 parsecs", "", -1, True):
        with pytest.raises(ValueError):  # noqa: PT011
            duration_us(wrong)


def test_the_reference_design_is_read() -> None:
    """The design of the examples is what the issue of it says: ten groups, 24 partitions, a crash and a restart."""
    design = read_design("examples/call_analytics/design.toml")
    assert [group.name for group in design.groups] == [
        "billing", "crm", "embeddings", "qa-dashboard", "compliance", "coaching", "search", "alerts", "warehouse", "fraud"
    ]  # fmt: skip
    assert design.topics[0].partitions == 24
    assert [fault.what for fault in design.faults] == ["crash", "restart"]
    assert issubclass(DesignError, ConfigurationError)
