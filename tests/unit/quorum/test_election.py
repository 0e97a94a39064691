"""Votes, tallies and successors by themselves."""

from __future__ import annotations

import pytest

from kafkasim.core.model.ids import NO_NODE
from kafkasim.core.quorum.election import Election, can_grant_vote, successor_backoff_ms


@pytest.mark.parametrize(
    ("role", "pre_vote", "up_to_date", "has_leader", "has_fetched", "voted_id", "granted"),
    [
        ("unattached", False, True, False, False, NO_NODE, True),
        ("unattached", False, False, False, False, NO_NODE, False),
        ("unattached", False, True, True, False, NO_NODE, False),
        ("unattached", True, True, True, False, NO_NODE, True),
        ("unattached", True, False, False, False, NO_NODE, False),
        ("voted", False, True, False, False, 3, False),
        ("voted", False, False, False, False, 2, True),
        ("voted", True, True, False, False, 3, True),
        ("prospective", False, True, False, False, NO_NODE, True),
        ("prospective", False, True, True, False, NO_NODE, False),
        ("prospective", True, True, True, False, NO_NODE, True),
        ("prospective", True, False, True, False, NO_NODE, False),
        ("candidate", False, True, False, False, 1, False),
        ("candidate", True, True, False, False, 1, True),
        ("follower", False, True, True, False, NO_NODE, False),
        ("follower", True, True, True, False, NO_NODE, True),
        ("follower", True, True, True, True, NO_NODE, False),
        ("leader", True, True, True, False, 1, False),
        ("leader", False, True, True, False, 1, False),
        ("resigned", True, True, False, False, 1, True),
        ("resigned", False, True, False, False, 1, False),
    ],
)
def test_who_gets_a_vote(
    role: str, pre_vote: bool, up_to_date: bool, has_leader: bool, has_fetched: bool, voted_id: int, granted: bool
) -> None:
    """Each role's answer to candidate 2, as KIP-595 and KIP-996 have it."""
    assert (
        can_grant_vote(
            role,
            candidate_id=2,
            pre_vote=pre_vote,
            log_is_up_to_date=up_to_date,
            has_leader=has_leader,
            has_fetched_from_leader=has_fetched,
            voted_id=voted_id,
        )
        is granted
    )


@pytest.mark.parametrize(
    ("voters", "answers", "won", "lost"),
    [
        ((1,), [], True, False),
        ((1, 2), [], False, False),
        ((1, 2), [(2, False)], False, True),
        ((1, 2, 3), [(2, True)], True, False),
        ((1, 2, 3), [(2, False)], False, False),
        ((1, 2, 3), [(2, False), (3, False)], False, True),
        ((1, 2, 3, 4), [(2, True)], False, False),
        ((1, 2, 3, 4), [(2, False), (3, False)], False, True),
        ((1, 2, 3, 4, 5), [(2, True), (2, True)], False, False),
        ((1, 2, 3, 4, 5), [(2, True), (4, True)], True, False),
    ],
)
def test_a_majority_decides(voters: tuple[int, ...], answers: list[tuple[int, bool]], won: bool, lost: bool) -> None:
    """An election is won or lost as soon as the answers that are missing cannot change it; a voter counts once."""
    election = Election(voters, 1)
    for voter, granted in answers:
        election.record(voter, granted)
    assert (election.is_won, election.is_lost) == (won, lost)


@pytest.mark.parametrize(
    ("local_id", "successors", "expected_ms"),
    [
        (2, (2, 3, 4, 5), 0),
        (3, (2, 3, 4, 5), 125),
        (4, (2, 3, 4, 5), 250),
        (5, (2, 3, 4, 5), 500),
        (3, (2, 3), 500),
        (9, (2, 3), 0),
    ],
)
def test_successors_space_themselves_out(local_id: int, successors: tuple[int, ...], expected_ms: int) -> None:
    """The best-placed successor goes at once, each later one waits twice as long as the one before."""
    assert successor_backoff_ms(local_id, successors, 1000) == expected_ms
