"""The comparison of rebalance protocols: what may be asked, what is measured, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kafkasim
from kafkasim.compare import Comparison, Event, Scenario
from kafkasim.compare.observe import Observed, Ownership, duplicates, lag_curve, longest, owners_at, pauses
from kafkasim.compare.rebalancing import generation_of
from kafkasim.errors import ConfigurationError

SLOW_APPLICATION = {
    "members": 6,
    "partitions": 12,
    "slow": ["0:0.3/4.3"],
    "events": ["join@10", "join@21", "join@32"],
    "duration": 45,
    "config": {"heartbeat.interval.ms": 500},
}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """One short comparison, read by several tests."""
    return kafkasim.compare.rebalance(protocols=["eager", "cooperative"], events=["join@10", "leave@30"], duration=50)


@pytest.fixture(scope="module")
def slow_application() -> Comparison:
    return kafkasim.compare.rebalance(protocols=["eager", "cooperative"], **SLOW_APPLICATION)


# --- what may be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("join@10", Event("join", 10.0)),
        ("crash@40:2", Event("crash", 40.0, 2.0)),
        ("grow@80.5:48", Event("grow", 80.5, 48.0)),
    ],
)
def test_events_are_read_from_text_and_print_as_it(text: str, event: Event) -> None:
    """What a user types is what an event prints."""
    assert Event.parse(text) == event
    assert str(event) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": ["explode@3"]}, "explode"),
        ({"events": ["join"]}, "what@seconds"),
        ({"events": ["leave@3:9"]}, "no member 9"),
        ({"events": ["crash@1", "crash@2"], "members": 2}, "leave no member"),
        ({"events": ["grow@3:5"]}, "24 partitions"),
        ({"events": ["join@80"], "duration": 60}, "from 0 to 60"),
        ({"events": ["roll@3:0"]}, "restart takes 3 s"),
        ({"slow": ["9:0.3/4.3"]}, "slow member 9"),
        ({"slow": ["often"]}, "0:0.3/4.3"),
        ({"slow": ["0:5/4"]}, "not exceed"),
        ({"members": 0}, "members"),
        ({"protocols": ["sticky"]}, "sticky"),
        ({"protocols": []}, "no protocols"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, object], message: str) -> None:
    """Nothing runs, and the message has the value that is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        kafkasim.compare.rebalance(**options)  # type: ignore[arg-type]


def test_a_run_lasts_until_a_minute_after_its_last_event() -> None:
    """Unless the caller says how long."""
    scenario = Scenario.of(
        members=2, partitions=2, records_per_second=1, events=["leave@9", "join@5"], slow=(), duration=None
    )
    assert scenario.duration_s == 69.0
    assert [event.what for event in scenario.events] == ["join", "leave"]


# --- what is measured ----------------------------------------------------------------------------------------------


def test_a_pause_reaches_over_the_edges_of_its_window() -> None:
    """Silence before the first and after the last delivery counts, cut to the window."""
    assert pauses([1.0, 2.0, 7.0], (0.5, 9.0)) == [(0.5, 1.0), (1.0, 2.0), (2.0, 7.0), (7.0, 9.0)]
    assert longest(pauses([], (0.0, 3.0))) == 3.0
    assert pauses([1.0, 5.0], (2.0, 4.0)) == [(2.0, 4.0)]


def test_duplicates_are_records_below_what_the_group_had_reached() -> None:
    """A partition read again from an earlier offset by another member."""
    observed = Observed([], {0: [(1.0, "a", 0, 5), (2.0, "b", 3, 8), (3.0, "b", 8, 9)]}, [], 4.0)
    assert duplicates(observed) == [(2.0, 2)]


def test_lag_is_what_was_acknowledged_and_not_yet_delivered() -> None:
    """Deliveries of the same records again do not lower it."""
    observed = Observed([], {0: [(2.0, "a", 0, 3), (3.0, "b", 1, 4)]}, [(1.0, 5)], 4.0)
    assert lag_curve(observed) == [(1.0, 5), (2.0, 2), (3.0, 1)]


def test_owners_are_those_whose_span_covers_the_time() -> None:
    """A partition in between has none."""
    observed = Observed([Ownership(0, "a", 0.0, 2.0), Ownership(0, "b", 3.0, 9.0)], {}, [], 9.0)
    assert owners_at(observed, 1.0) == {0: ("a",)}
    assert owners_at(observed, 2.5) == {}
    assert owners_at(observed, 9.0) == {0: ("b",)}


def test_the_generation_is_read_from_group_metadata() -> None:
    """As librdkafka writes it."""
    assert generation_of(b"CGMDv2:\x07\x00\x00\x00group\x00member\x00\x00") == 7


# --- what it shows -------------------------------------------------------------------------------------------------


def test_eager_moves_everything_and_stops_nobody_for_long(comparison: Comparison) -> None:
    """With healthy members and default timers the old members of an eager group pause for a moment only."""
    join = comparison["eager"].moments[0]
    assert join.member_pause_s < 0.5
    assert join.partition_pause_s < 0.5
    assert comparison["eager"].rebalances == 2


def test_cooperative_stops_only_what_moves_and_for_a_heartbeat(comparison: Comparison) -> None:
    """The partitions that the newcomer gets wait for the others' next heartbeat; nobody else waits."""
    join = comparison["cooperative"].moments[0]
    assert join.member_pause_s < 0.2
    assert join.moved == join.stopped_partitions == 3
    assert 1.0 < join.partition_pause_s < 4.0


def test_one_slow_application_stops_an_eager_group_only(slow_application: Comparison) -> None:
    """Everybody waits until the slow one polls; cooperative members go on."""
    assert slow_application["eager"].member_pause_s > 1.5
    assert slow_application["cooperative"].member_pause_s < 0.5


def test_static_members_that_come_back_in_time_move_nothing() -> None:
    """A rolling restart within the session timeout costs no rebalance."""
    roll = kafkasim.compare.rebalance(protocols=["static"], members=3, partitions=6, events=["roll@5:4"], duration=30)
    assert roll["static"].moved == 0
    assert roll["static"].rebalances == 0


def test_a_grown_topic_is_read_whole() -> None:
    """New partitions are found by metadata refresh and owned."""
    grown = kafkasim.compare.rebalance(
        protocols=["cooperative"],
        members=2,
        partitions=4,
        events=["grow@5:6"],
        duration=25,
        config={"topic.metadata.refresh.interval.ms": 1000},
    )
    assert grown["cooperative"].observed.partitions == [0, 1, 2, 3, 4, 5]


def test_the_same_seed_gives_the_same_figures() -> None:
    """Down to the last digit, as everything here."""
    options = {"protocols": ["eager"], "members": 2, "partitions": 4, "events": ["join@5"], "duration": 12, "seed": 3}
    assert kafkasim.compare.rebalance(**options).as_json() == kafkasim.compare.rebalance(**options).as_json()  # type: ignore[arg-type]


def test_a_comparison_prints_and_is_json(comparison: Comparison, tmp_path: Path) -> None:
    """A row for each protocol and event; a file that a machine reads."""
    lines = str(comparison).splitlines()
    assert [line.split()[0] for line in lines[2:]] == [
        "eager",
        "join@10",
        "leave@30",
        "cooperative",
        "join@10",
        "leave@30",
    ]
    assert comparison._repr_html_().count("<tr>") == len(lines) - 1
    comparison.to_json(tmp_path / "comparison.json")
    read = json.loads((tmp_path / "comparison.json").read_text())
    assert [run["protocol"] for run in read["runs"]] == ["eager", "cooperative"]
    with pytest.raises(KeyError, match="eager"):
        comparison["consumer"]


def test_the_picture_has_a_panel_for_each_protocol(comparison: Comparison, tmp_path: Path) -> None:
    """Bars for owners, a curve for the lag; the page needs no network."""
    figure = comparison.figure()
    assert [note.text for note in figure.layout.annotations][:2] == ["eager", "cooperative"]
    assert {trace.name for trace in figure.data} == {*(f"m{number}" for number in range(7)), "lag"}
    comparison.to_html(tmp_path / "comparison.html")
    page = (tmp_path / "comparison.html").read_text()
    assert "<script src=" not in page
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.html"]
