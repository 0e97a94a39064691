"""The verdict over two runs of one suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.testing import divergences
from kafkasim.testing.divergences import (
    DIVERGES,
    MOST_SECOND_TRIES,
    Comparison,
    Outcome,
    Outcomes,
    Row,
    compare,
    to_try_again,
    tried_again,
)

pytest_plugins = ["pytester"]


def side(**outcomes: str) -> Outcomes:
    """A whole run."""
    return Outcomes({name: Outcome(outcome, f"{name} is {outcome}") for name, outcome in outcomes.items()}, True)


def verdicts(comparison: Comparison) -> dict[str, str]:
    """Verdict by test."""
    return {row.test: row.verdict for row in comparison.rows}


@pytest.mark.parametrize(
    ("simulator", "real", "verdict"),
    [
        ("passed", "passed", divergences.SAME),
        ("passed", "failed", divergences.DIVERGES),
        ("failed", "passed", divergences.DIVERGES),
        ("skipped", "passed", divergences.DIVERGES),
        ("skipped", "failed", divergences.DIVERGES),
        ("failed", "skipped", divergences.DIVERGES),
        ("failed", "failed", divergences.WRONG),
        ("passed", "skipped", divergences.LEFT_OUT),
        ("skipped", "skipped", divergences.LEFT_OUT),
    ],
)
def test_the_verdict_of_a_test(simulator: str, real: str, verdict: str) -> None:
    """What the simulator cannot show and real Kafka can is a divergence; what real Kafka leaves out is none."""
    comparison = compare(side(one="passed", two=simulator), side(one="passed", two=real), {})
    assert verdicts(comparison)["two"] == verdict
    assert comparison.ok == (verdict in (divergences.SAME, divergences.LEFT_OUT))


def test_a_test_that_ran_on_one_side_only() -> None:
    """A run that was cut short is not taken for agreement."""
    comparison = compare(side(one="passed", two="passed"), side(one="passed"), {})
    assert verdicts(comparison) == {"one": divergences.SAME, "two": divergences.MISSING}
    assert not comparison.ok


def test_nothing_compared_is_not_ok() -> None:
    """Without Kafka everything is left out: that proves nothing."""
    assert not compare(side(one="passed"), side(one="skipped"), {}).ok
    assert not compare(Outcomes(), Outcomes(), {}).ok


def test_a_listed_divergence_is_expected() -> None:
    """It keeps its reason, by its own id or by the id of all parameters."""
    simulator = Outcomes({"f::a[1]": Outcome("failed"), "f::b[2]": Outcome("failed"), "c": Outcome("passed")}, True)
    real = Outcomes({name: Outcome("passed") for name in simulator.tests}, True)
    comparison = compare(simulator, real, {"f::a": "because", "f::b[2]": "also"})
    assert comparison.ok
    assert [(row.test, row.verdict, row.reason) for row in comparison.rows if row.reason] == [
        ("f::a[1]", divergences.LISTED, "because"),
        ("f::b[2]", divergences.LISTED, "also"),
    ]


def test_a_stale_entry_is_an_error() -> None:
    """The list may not say what is no longer so, nor name a test that is not there; of a part, absent tests say nothing."""
    both = side(one="passed")
    assert compare(both, both, {"one": "was so"}).stale == ["one"]
    assert compare(both, both, {"gone": "was so"}).stale == ["gone"]
    assert not compare(both, both, {"gone": "was so"}).ok
    assert compare(both, both, {"gone": "was so", "one": "was so"}, is_part=True).stale == ["one"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[divergences\n", "list.toml"),
        ('[divergence]\n"a" = "b"\n', "expected one table"),
        ('[divergences]\n"a" = ""\n', "a has no reason"),
        ('[divergences]\n"a" = 1\n', "a has no reason"),
    ],
)
def test_a_list_that_cannot_be_read(tmp_path: Path, text: str, problem: str) -> None:
    """The file and what is wrong are named."""
    file = tmp_path / "list.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        divergences.read_divergences(file)


def test_tables() -> None:
    """The report shows every test, the unexpected first, and why; the page shows counts and the list, and no detail of a run."""
    comparison = compare(
        side(a="passed", b="failed", c="failed"), side(a="passed", b="passed", c="passed"), {"c": "x|y"}
    )
    report = divergences.as_markdown(comparison, {"Kafka": "4.3.0"})
    rows = [line for line in report.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `b` | failed | passed | diverges | simulator: b is failed; real: b is passed |",
        "| `c` | failed | passed | diverges, as listed | x\\|y |",
        "| `a` | passed | passed | same | simulator: a is passed; real: a is passed |",
    ]
    page = divergences.as_document(comparison, {"Kafka": "4.3.0"})
    assert "| Kafka | 4.3.0 |" in page
    assert "| tests | 3 |" in page
    assert "| `c` | failed | passed | x\\|y |" in page
    assert "b is failed" not in page
    assert divergences.as_json(comparison, {}, {"real": 1.26})["counts"]["diverges"] == 1


def test_outcomes_are_collected(pytester: pytest.Pytester) -> None:
    """Body, fixtures and clean-up count; reasons and messages are kept in one line; a whole run says so at its end."""
    pytester.makepyfile(
        test_all="""
        import pytest

        @pytest.fixture
        def bad_start():
            raise ValueError("no start")

        @pytest.fixture
        def bad_end():
            yield
            raise ValueError("no end")

        def test_good(): pass
        def test_bad(): assert 1 == 2, "one\\nis not two"
        def test_start(bad_start): pass
        def test_end(bad_end): pass
        def test_left_out(): pytest.skip("not here")
        """
    )
    file = pytester.path / "outcomes.jsonl"
    pytester.runpytest_subprocess("-p", "kafkasim.testing.outcomes", f"--kafkasim-outcomes={file}")
    found = divergences.read_outcomes(file)
    assert found.is_whole
    assert {
        name.partition("::")[2]: (each.outcome, each.detail.split("assert")[0].strip())
        for name, each in found.tests.items()
    } == {
        "test_good": ("passed", ""),
        "test_bad": ("failed", "AssertionError: one is not two"),
        "test_start": ("failed", "ValueError: no start"),
        "test_end": ("failed", "ValueError: no end"),
        "test_left_out": ("skipped", "not here"),
    }


def test_a_run_that_was_cut_short_is_told_apart(pytester: pytest.Pytester) -> None:
    """Interrupted: what ran is there, and that it is not all."""
    pytester.makepyfile(test_cut="def test_a(): pass\ndef test_b(): raise KeyboardInterrupt\n")
    file = pytester.path / "outcomes.jsonl"
    pytester.runpytest_subprocess("-p", "kafkasim.testing.outcomes", f"--kafkasim-outcomes={file}")
    found = divergences.read_outcomes(file)
    assert not found.is_whole
    assert list(found.tests) == ["test_cut.py::test_a"]
    assert divergences.read_outcomes(pytester.path / "absent.jsonl").tests == {}


def test_many_divergences_are_not_tried_again() -> None:
    """Few may be accidents; where many differ, nothing is run a second time."""
    for number, again in ((MOST_SECOND_TRIES, MOST_SECOND_TRIES), (MOST_SECOND_TRIES + 1, 0)):
        names = [f"t{index}" for index in range(number)]
        passed = Outcomes({name: Outcome("passed") for name in names})
        failed = Outcomes({name: Outcome("failed") for name in names})
        assert len(to_try_again(compare(passed, failed, {}))) == again


@pytest.mark.parametrize(("simulator", "real"), [("passed", "failed"), ("failed", "passed"), ("passed", None)])
def test_a_second_try_that_differs_stays_a_divergence(simulator: str, real: str | None) -> None:
    """Only two passes agree; a second try that did not run is none."""
    row = Row("t", Outcome("passed"), Outcome("failed", "why"), DIVERGES)
    again = [Outcomes({} if word is None else {"t": Outcome(word)}) for word in (simulator, real)]
    tried_again(row, *again)
    assert row.verdict == DIVERGES
    assert "real: failed why; second try, alone" in row.reason
