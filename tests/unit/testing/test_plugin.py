"""The pytest plugin, driven by small test files of its own."""

from __future__ import annotations

import json

import pytest

pytest_plugins = "pytester"

PRODUCE = """
    def test_produce(kafka_cluster):
        kafka_cluster.create_topic("t")
        kafka_cluster.produce("t", [b"a"])
        assert [record.value for record in kafka_cluster.records("t")] == [b"a"]
"""
FAIL = """
    def test_fail(kafka_cluster):
        raise AssertionError(f"seed {kafka_cluster.seed}")
"""


def test_the_fixture_is_a_fresh_simulated_cluster(pytester: pytest.Pytester) -> None:
    """Without a flag each test gets a simulated cluster of its own under seed 0."""
    pytester.makepyfile(PRODUCE + PRODUCE.replace("test_produce", "test_again"))
    pytester.runpytest().assert_outcomes(passed=2)


def test_plain_code_of_a_test_lives_in_the_simulator(pytester: pytest.Pytester) -> None:
    """With no task at all: clients by the real package's names, sleeps, the clock and chance are the cluster's; afterwards none is."""
    pytester.makepyfile(
        """
        import random
        import time
        import confluent_kafka
        import kafkasim.confluent_kafka
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient, NewTopic

        drawn = []

        def test_it(kafka_cluster):
            assert Producer is kafkasim.confluent_kafka.Producer
            admin = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap_servers})
            admin.create_topics([NewTopic("orders", 3, 3)])["orders"].result(10)
            producer = confluent_kafka.Producer({"bootstrap.servers": kafka_cluster.bootstrap_servers})
            producer.produce("orders", b"1")
            assert producer.flush(10) == 0
            began = time.monotonic()
            time.sleep(5000)
            assert time.monotonic() - began >= 5000

        def test_chance(kafka_cluster):
            drawn.append(random.random())

        def test_chance_again(kafka_cluster):
            assert drawn == [random.random()]

        def test_afterwards():
            assert Producer is not kafkasim.confluent_kafka.Producer
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=4)


def test_a_failure_prints_one_line_that_replays_it(pytester: pytest.Pytester) -> None:
    """The report of a failed test ends with the command that runs it again."""
    pytester.makepyfile(test_it=FAIL)
    result = pytester.runpytest("--kafkasim-seed=7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*seed 7*", "*kafkasim replay*", "pytest test_it.py::test_fail --kafkasim-seed=7"])


def test_seeds_run_a_test_many_times(pytester: pytest.Pytester) -> None:
    """--kafkasim-seeds counts up from the seed, and the replay line names the one that failed without its test id."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.parametrize("letter", ["a"])
        def test_seeds(kafka_cluster, letter):
            assert kafka_cluster.seed != 6

        def test_without_a_cluster():
            pass
        """
    )
    result = pytester.runpytest("--kafkasim-seed=5", "--kafkasim-seeds=3")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["pytest 'test_it.py::test_seeds[[]a]' --kafkasim-seed=6"])


def test_a_replay_file_gives_seed_and_config(pytester: pytest.Pytester) -> None:
    """--kafkasim-replay reads both from JSON; the file wins over the marker."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.kafka(brokers=3)
        def test_replay(kafka_cluster):
            assert kafka_cluster.seed == 42
            assert len(kafka_cluster.bootstrap_servers.split(",")) == 1
        """
    )
    recorded = pytester.path / "run.json"
    recorded.write_text(json.dumps({"seed": 42, "config": {"brokers": 1}}))
    pytester.runpytest(f"--kafkasim-replay={recorded}").assert_outcomes(passed=1)


def test_an_unreadable_replay_file_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A missing file is named."""
    result = pytester.runpytest("--kafkasim-replay=absent.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*absent.json*"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--kafkasim-real=localhost:9092", "--kafkasim-seeds=3"],
        ["--kafkasim-real=local", "--kafkasim-check-determinism"],
        ["--kafkasim-seeds=0"],
    ],
)
def test_contradicting_flags_are_a_usage_error(pytester: pytest.Pytester, flags: list[str]) -> None:
    """A real cluster has no seed, and no seeds are no run."""
    assert pytester.runpytest(*flags).ret == pytest.ExitCode.USAGE_ERROR


def test_the_marker_shapes_the_cluster(pytester: pytest.Pytester) -> None:
    """brokers=, racks= and config= reach the cluster; the nearest marker wins."""
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.kafka(brokers=5, racks=["a", "b"])

        @pytest.mark.kafka(brokers=2)
        def test_two(kafka_cluster):
            assert len(kafka_cluster.bootstrap_servers.split(",")) == 2
            assert kafka_cluster.zone("a").state == "running"
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_an_unknown_word_in_the_marker_is_refused(pytester: pytest.Pytester) -> None:
    """A misspelt option fails the test instead of being ignored."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.kafka(broker=5)
        def test_misspelt(kafka_cluster):
            pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*does not know*broker*"])


@pytest.mark.parametrize("where", ["call", "setup"])
def test_unsupported_is_a_skip_with_its_reason(pytester: pytest.Pytester, where: str) -> None:
    """What a backend cannot do skips the test and says why, in the test or in a fixture."""
    pytester.makepyfile(
        f"""
        import kafkasim
        import pytest

        @pytest.fixture
        def broken():
            if {where!r} == "setup":
                raise kafkasim.Unsupported("no such thing here")

        def test_unsupported(broken, kafka_cluster):
            raise kafkasim.Unsupported("no such thing here")
        """
    )
    result = pytester.runpytest("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no such thing here*"])


def test_determinism_is_checked_by_running_twice(pytester: pytest.Pytester) -> None:
    """With --kafkasim-check-determinism a test that behaves the same passes, and one that does not is an error."""
    pytester.makepyfile(
        PRODUCE
        + """
    runs = []

    def test_different(kafka_cluster):
        runs.append(1)
        kafka_cluster.create_topic("t", partitions=len(runs))
        kafka_cluster.produce("t", [b"a"])
"""
    )
    result = pytester.runpytest("--kafkasim-check-determinism")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["not deterministic: seed 0 *"])


def test_unique_names_are_stable_on_the_simulator(pytester: pytest.Pytester) -> None:
    """unique() gives each test its own names, and the same ones in every run."""
    pytester.makepyfile(
        """
        import pytest

        seen = []

        @pytest.mark.parametrize("turn", [1, 2])
        def test_names(unique, turn):
            assert unique("orders") == unique("orders") != unique("other")
            assert unique("orders") not in seen
            seen.append(unique("orders"))
            print("NAME", unique("orders"))
        """
    )
    first, second = pytester.runpytest("-s"), pytester.runpytest("-s")
    first.assert_outcomes(passed=2)
    names = [[line for line in run.outlines if "NAME" in line] for run in (first, second)]
    assert names[0] == names[1] != []


def test_without_kafka_local_brokers_are_a_skip(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """--kafkasim-real local without a distribution says what is missing, and fails nothing."""
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.delenv("KAFKASIM_KAFKA_LIBS", raising=False)
    pytester.makepyfile(PRODUCE)
    result = pytester.runpytest("--kafkasim-real=local", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*KAFKASIM_KAFKA_LIBS*"])
