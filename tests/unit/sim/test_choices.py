"""Choices: streams by label, tapes, and what happens when a replay departs from its tape."""

from __future__ import annotations

import pytest

from kafkasim.sim.choices import ChoiceDiverged, Choices


def test_streams_depend_on_seed_and_label_alone() -> None:
    """The same seed and label give the same values, however the labels interleave."""
    first, second = Choices(7), Choices(7)
    a = [first.draw("a", 1000) for _ in range(20)]
    for _ in range(5):
        second.draw("b", 10)
    assert [second.draw("a", 1000) for _ in range(20)] == a
    assert [first.draw("b", 1000) for _ in range(20)] != a
    assert [Choices(8).draw("a", 1000) for _ in range(20)] != a


def test_values_are_fixed() -> None:
    """Seeds in bug reports keep their meaning: these values may not change."""
    choices = Choices(7)
    assert [choices.draw("net.latency", 301) for _ in range(4)] == [135, 97, 149, 170]


def test_bounds() -> None:
    """Draws stay below their bound, small or huge, and reach all of it."""
    choices = Choices(1)
    assert {choices.draw("small", 3) for _ in range(100)} == {0, 1, 2}
    assert choices.draw("one", 1) == 0
    assert all(0 <= choices.entropy("wide") < 1 << 63 for _ in range(100))
    assert max(choices.entropy("wide") for _ in range(100)) > 1 << 60
    assert {choices.draw_between("between", 5, 6) for _ in range(50)} == {5, 6}
    assert len(choices.bytes("bytes", 16)) == 16


def test_tape_replays() -> None:
    """A recorded tape gives the same values back without the seed."""
    recorded = Choices(3, record=True)
    values = [recorded.draw("a", 10), recorded.entropy("b"), recorded.draw("a", 10)]
    assert recorded.tape is not None
    assert [(entry.label, entry.use, entry.bound) for entry in recorded.tape] == [
        ("a", 1, 10),
        ("b", 1, 1 << 63),
        ("a", 2, 10),
    ]
    replay = Choices.replaying(recorded.tape)
    assert [replay.draw("a", 10), replay.entropy("b"), replay.draw("a", 10)] == values
    assert replay.exhausted()


def test_strict_replay_names_the_first_difference() -> None:
    """A replay that asks for something else says what it wanted and what it found."""
    tape = Choices(3, record=True)
    tape.draw("a", 10)
    tape.draw("a", 10)
    assert tape.tape is not None
    replay = Choices.replaying(tape.tape)
    replay.draw("a", 10)
    with pytest.raises(ChoiceDiverged, match=r"use 2 of 'a'.*bound 10.*bound 11") as diverged:
        replay.draw("a", 11)
    assert (diverged.value.label, diverged.value.use) == ("a", 2)


def test_loose_replay_is_benign_where_the_tape_is_silent() -> None:
    """A shrinker's tape may have holes: they are zeros, and values are cut to their bounds."""
    replay = Choices.replaying([("a", 2, 10, 9)], strict=False)  # type: ignore[list-item]
    assert [replay.draw("a", 10), replay.draw("a", 5), replay.draw("b", 9)] == [0, 4, 0]


def test_user_generators_are_seeded_from_the_tape() -> None:
    """random_for gives one generator a label, the same in every run of the seed."""
    first, second = Choices(5), Choices(5)
    assert first.random_for("user") is first.random_for("user")
    assert first.random_for("user").random() == second.random_for("user").random()


def test_another_seed_from_now_on() -> None:
    """What was drawn stays; what comes is what the other seed's streams begin with."""
    choices, other = Choices(1), Choices(2)
    first = [choices.draw("a", 1000) for _ in range(3)]
    choices.reseed(2)
    assert [choices.draw("a", 1000) for _ in range(3)] == [other.draw("a", 1000) for _ in range(3)]
    assert first == [Choices(1).draw("a", 1000), *first[1:]]


def test_calm_labels_draw_the_benign_value_and_move_no_other() -> None:
    """And are recorded like any other."""
    calm = Choices(1, record=True, calm=["a"])
    assert [calm.draw("a", 9), calm.draw("b", 9), calm.draw("a", 9)] == [0, Choices(1).draw("b", 9), 0]
    assert calm.tape is not None
    assert len(calm.tape) == 3


def test_a_divergence_is_remembered_though_the_program_swallows_it() -> None:
    """The first one, and what the tape would have given."""
    tape = Choices(3, record=True)
    tape.draw("a", 10)
    assert tape.tape is not None
    replay = Choices.replaying(tape.tape)
    assert replay.diverged is None
    for label in ("b", "a"):
        with pytest.raises(ChoiceDiverged, match="use 1 of 'b'"):
            replay.draw(label, 10)
    assert replay.diverged is not None
    assert replay.next_on_tape == tape.tape[0]


def test_a_replay_can_be_recorded() -> None:
    """So that what a loose one made of its tape is a tape again."""
    tape = Choices(3, record=True)
    tape.draw("a", 10)
    assert tape.tape is not None
    loose = Choices.replaying(tape.tape, strict=False, record=True)
    values = [loose.draw("a", 10), loose.draw("c", 10)]
    assert loose.tape is not None
    assert [entry.value for entry in loose.tape] == values
