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


SHARED = """
[[share_groups]]
name = "ml-training"
topics = "calls"
members = 30
processing = "20ms"
batch = 50
poison = "release"
releases = 2
config = { "share.record.lock.duration.ms" = 20000 }
consumer = { "fetch.wait.max.ms" = 2000 }
promises = { no_archived = true, max_lag = 7 }
"""


def test_a_share_group() -> None:
    """As many members as one likes; what is said in [promises] holds for it too."""
    design = parse_design(SMALL + SHARED)
    [group] = design.share_groups
    assert (group.members, group.batch, group.poison, group.releases) == (30, 50, "release", 2)
    assert group.acknowledgement_mode == "explicit"
    assert group.config == {"share.record.lock.duration.ms": "20000"}
    assert group.consumer_config == {"fetch.wait.max.ms": 2000}
    promises = group.promises
    assert (promises.no_archived, promises.max_lag, promises.at_least_once) == (True, 7, True)
    assert design.groups[0].promises.no_archived is None
    text = SMALL + '[[faults]]\nat = 5\nwhat = "crash"\nmember = "ml-training-30"\n' + SHARED
    assert parse_design(text).faults[0].member == "ml-training-30"
    plain = parse_design(SMALL + '[[share_groups]]\nname = "x"\ntopics = "calls"\n').share_groups[0]
    assert (plain.acknowledgement_mode, plain.commit, plain.batch) == ("implicit", "poll", 500)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('name = "ml-training"', 'name = "billing"', 37, ["there is a group of this name already"]),
        ('topics = "calls"', 'topics = "call"', 38, ["did you mean 'calls'"]),
        ('topics = "calls"', 'topics = "^calls"', 38, ["no regular expressions"]),
        ("members = 30", "members = 300", 39, ["at most 200 members", "group.share.max.size"]),
        ('poison = "release"', 'poison = "eat"', 42, ['"accept", "release", "reject"']),
        ('poison = "release"', 'poison = "reject"', 43, ["only with poison"]),
        ("releases = 2", 'releases = 2\nacknowledgement_mode = "implicit"', 42, ["accepts every record"]),
        ("releases = 2", "instance_ids = true", 43, ["no static members"]),
        ("releases = 2", "batch_wait = 1", 43, ["fetch.wait.max.ms"]),
        ("releases = 2", 'commit = "after"', 43, ['"poll", "sync", "async"']),
        ("releases = 2", 'handler = "module"', 43, ["module:function"]),
        (
            'config = { "share.record.lock.duration.ms" = 20000',
            'config = { "share.record.lock.ms" = 20000',
            44,
            ["did you mean"],
        ),
        ("= 20000", "= 5000", 44, ["at least 15000", "group.share.min.record.lock.duration.ms"]),
        ("= 20000", "= 90000", 44, ["at most 60000"]),
        ("= 20000", '= "soon"', 44, ["share.record.lock.duration.ms"]),
        ('"fetch.wait.max.ms" = 2000', '"max.poll.records" = 20', 45, ["say it by 'batch'"]),
        ('"fetch.wait.max.ms" = 2000', '"auto.offset.reset" = "earliest"', 45, ["share.auto.offset.reset"]),
        (
            '"fetch.wait.max.ms" = 2000',
            '"isolation.level" = "read_committed"',
            45,
            ["not applicable for share consumer"],
        ),
        ("no_archived = true", "no_archive = true", 46, ["did you mean 'no_archived'"]),
    ],
)
def test_mistakes_in_share_groups_are_told_with_their_line(old: str, new: str, line: int, words: list[str]) -> None:
    """Also those of somebody who thinks of a consumer group."""
    assert old in SHARED
    error = error_of(SMALL + SHARED.replace(old, new))
    assert error.line == line, str(error)
    for word in words:
        assert word in str(error)


def test_poison_needs_its_own_word() -> None:
    """A dead-letter topic without a word on what becomes of the record; a promise that consumer groups cannot break."""
    text = SMALL + '[[share_groups]]\nname = "x"\ntopics = "calls"\ndead_letter_topic = "calls"\n'
    assert "say poison" in str(error_of(text))
    assert "only share groups archive" in str(error_of(SMALL.replace("max_lag = 100", "no_archived = true")))
    own = SMALL.replace("instance_ids = true", "instance_ids = true\npromises = { no_archived = true }")
    assert "unknown key 'no_archived'" in str(error_of(own))


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
    """The design of the examples is what its README says: ten groups, a share group, 24 partitions, a crash and a restart."""
    design = read_design("examples/call_analytics/design.toml")
    assert [group.name for group in design.groups] == [
        "billing", "crm", "embeddings", "qa-dashboard", "compliance", "coaching", "search", "alerts", "warehouse", "fraud"
    ]  # fmt: skip
    assert design.topics[0].partitions == 24
    [shared] = design.share_groups
    partitions = {topic.name: topic.partitions for topic in design.topics}
    assert (shared.name, shared.members > partitions[shared.topics[0]]) == ("ml-training", True)
    assert [fault.what for fault in design.faults] == ["crash", "restart"]
    assert issubclass(DesignError, ConfigurationError)
