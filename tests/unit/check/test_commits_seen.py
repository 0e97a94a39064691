"""Offsets that were forgotten, as clients see it: against its definition on random histories."""

from __future__ import annotations

import random

import pytest
from tests.unit.check.histories import TP, draws

from kafkasim.check.commits import check_commits
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    GROUP_COMMITTED,
    GROUP_RESET,
    Assigned,
    Committed,
    Happened,
    HistoryEvent,
    OffsetsFetched,
)


def committed(at_us: int, client: str, offset: int, error: ErrorCode = ErrorCode.NONE) -> Committed:
    return Committed(at_us, client, "g", ((TP, offset, error),))


def assigned(at_us: int, client: str) -> Assigned:
    return Assigned(at_us, client, "g", (TP,))


def fetched(at_us: int, offset: int, asked_us: int = -1, error: ErrorCode = ErrorCode.NONE) -> OffsetsFetched:
    return OffsetsFetched(at_us, "c", "g", ((TP, offset, error),), at_us if asked_us < 0 else asked_us)


def found(*events: HistoryEvent) -> list[str]:
    report = Report()
    check_commits(events, report)
    return [finding.cause for finding in report.of("G8")]


def test_a_lower_answer_than_everything_that_may_be_committed_is_told() -> None:
    """Nothing, or less; not what another client may have committed last, nor what failed and may have been applied."""
    went_back, lost = ["committed offsets went back"], ["committed offsets were lost"]
    first, second = committed(1, "a", 3), committed(2, "a", 7)
    assert found(first, second, fetched(3, 7)) == found(first, second, fetched(3, 8)) == []
    assert found(first, second, fetched(3, 3)) == went_back
    assert found(first, second, fetched(3, -1)) == lost
    assert found(first, second, fetched(3, -1, error=ErrorCode.NOT_COORDINATOR)) == []
    assert found(first, second, fetched(3, 3, asked_us=1)) == []
    assert found(first, committed(2, "b", 7), fetched(3, 3)) == []
    assert found(first, assigned(1, "b"), committed(2, "b", 7), fetched(3, 3)) == went_back
    assert found(committed(1, "a", 3, ErrorCode._TIMED_OUT), second, fetched(3, 3)) == []


def test_offsets_that_somebody_set_by_hand_are_not_forgotten() -> None:
    """Nor is anything concluded where the coordinator's own notes say more."""
    events = [committed(1, "a", 3), fetched(2, -1)]
    noted = Happened(1, 1, GROUP_COMMITTED, "g", (("member", "a"), ("epoch", -1), ("offsets", ((TP, 3),))))
    assert found(*events)
    assert found(Happened(0, -1, GROUP_RESET, "g"), *events) == found(noted, *events) == []


def random_history(draw: random.Random) -> list[HistoryEvent]:
    events: list[HistoryEvent] = []
    for at_us in range(draw.randrange(2, 12)):
        kind, client = draw.randrange(6), draw.choice("ab")
        if kind <= 2:
            error = draw.choice([ErrorCode.NONE] * 5 + [ErrorCode._TIMED_OUT])
            events.append(committed(at_us, client, draw.randrange(5), error))
        elif kind == 3:
            events.append(assigned(at_us, client))
        else:
            events.append(fetched(at_us, draw.randrange(-1, 5), at_us - draw.randrange(2)))
    return events


def is_forgotten(events: list[HistoryEvent], index: int) -> bool:
    """Some order of the commits explains the answer, or it is not below all that were acknowledged and not overwritten."""
    answer = events[index]
    assert isinstance(answer, OffsetsFetched)
    offset = answer.offsets[0][1]
    commits = [(at, each) for at, each in enumerate(events[:index]) if isinstance(each, Committed)]

    def is_overwritten(at: int, commit: Committed) -> bool:
        if commit.offsets[0][2] is not ErrorCode.NONE:
            return False
        for later, other in commits:
            if later <= at or other.offsets[0][2] is not ErrorCode.NONE:
                continue
            since = [e.at_us for e in events[:later] if isinstance(e, Assigned) and e.client == other.client]
            if other.client == commit.client or (since and commit.at_us <= since[-1]):
                return True
        return False

    standing = [each for at, each in commits if not is_overwritten(at, each)]
    sure = [each for each in standing if each.offsets[0][2] is ErrorCode.NONE]
    if not sure or sure[-1].at_us > answer.asked_us:
        return False
    return offset not in [each.offsets[0][1] for each in standing] and all(offset < e.offsets[0][1] for e in sure)


def test_offset_amnesia_by_what_clients_saw_is_its_definition() -> None:
    """On random histories of two clients that commit, fail, are assigned and ask."""
    broken = 0
    for draw in draws("offset amnesia seen"):
        events = random_history(draw)
        expected = sum(is_forgotten(events, at) for at, e in enumerate(events) if isinstance(e, OffsetsFetched))
        broken += bool(expected)
        assert len(found(*events)) == expected, events
    assert broken


@pytest.mark.parametrize("is_sound", [True, False])
def test_it_is_told_in_words(is_sound: bool) -> None:
    """Who committed what when, and what was told instead."""
    report = Report()
    check_commits([committed(1_000_000, "a", 3), fetched(2_000_000, 3 if is_sound else -1)], report)
    assert report.ok == is_sound
    if not is_sound:
        expected = "group g: 3 was committed for orders-0 at 1.000000 s, c was told that nothing was"
        assert report.findings[0].text == expected
