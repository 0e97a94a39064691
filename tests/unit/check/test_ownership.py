"""Who owned what, and what was committed for whom: against definitions on random histories, and by hand for who was fenced."""

from __future__ import annotations

import random
from typing import Any

from tests.unit.check.histories import ELSEWHERE, TP, draws

from kafkasim.check.budget import Budget
from kafkasim.check.commits import check_commits
from kafkasim.check.ownership import check_assignments, check_owners, overlaps
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    GROUP_ASSIGNED,
    GROUP_COMMITTED,
    GROUP_FETCHED,
    GROUP_FORGOTTEN,
    GROUP_GONE,
    GROUP_STATE,
    Assigned,
    Closed,
    Committed,
    Happened,
    HistoryEvent,
    Revoked,
)
from kafkasim.core.model.ids import TopicPartition


def takes(at_us: int, client: str, *partitions: TopicPartition, member: str = "", epoch: int = -1) -> Assigned:
    return Assigned(at_us, client, "g", partitions or (TP,), member, epoch)


def leaves(at_us: int, client: str, *partitions: TopicPartition) -> Revoked:
    return Revoked(at_us, client, "g", partitions or (TP,), False)


def note(at_us: int, kind: str, *, node: int = 1, **fields: Any) -> Happened:
    return Happened(at_us, node, kind, "g", tuple(fields.items()))


def told(at_us: int, member: str, epoch: int, *partitions: TopicPartition, protocol: str = "classic") -> Happened:
    return note(
        at_us,
        GROUP_ASSIGNED,
        member=member,
        epoch=epoch,
        partitions=partitions,
        protocol=protocol,
        instance=None,
    )


def owners_by_definition(events: list[HistoryEvent], at: int, tp: TopicPartition) -> set[str]:
    """Whose last word on the partition before ``at`` was that it has it."""
    owning = set()
    for client in "abc":
        for event in reversed(events[:at]):
            if getattr(event, "client", None) != client or isinstance(event, Committed):
                continue
            if isinstance(event, Closed):
                break
            if tp in event.partitions:  # type: ignore[union-attr]
                owning |= {client} if isinstance(event, Assigned) else set()
                break
    return owning


def test_overlaps_are_their_definition() -> None:
    """G1: somebody takes a partition over that somebody else has; and whether that one's commit was accepted meanwhile."""
    seen = 0
    for draw in draws("overlaps"):
        events: list[HistoryEvent] = []
        for at_us in range(draw.randrange(2, 10)):
            client, kind = draw.choice("abc"), draw.randrange(8)
            tps = draw.choice([(TP,), (ELSEWHERE,), (TP, ELSEWHERE)])
            if kind < 4:
                events.append(takes(at_us, client, *tps))
            elif kind < 6:
                events.append(leaves(at_us, client, *tps))
            elif kind == 6:
                error = draw.choice([ErrorCode.NONE, ErrorCode.ILLEGAL_GENERATION])
                events.append(Committed(at_us, client, "g", ((TP, 1, error),)))
            else:
                events.append(Closed(at_us, client))
        expected = [
            (at, tp, first, is_committed(events, at, tp, first, event.client))
            for at, event in enumerate(events)
            if isinstance(event, Assigned)
            for tp in event.partitions
            for first in owners_by_definition(events, at, tp) - {event.client}
        ]
        found = [(o.at, o.place[1], o.first.client, o.is_committed) for o in overlaps(events)]
        seen += len(found)
        assert sorted(found) == sorted(expected)
    assert seen


def is_committed(events: list[HistoryEvent], at: int, tp: TopicPartition, first: str, second: str) -> bool:
    for later in range(at + 1, len(events)):
        event = events[later]
        if not {first, second} <= owners_by_definition(events, later, tp):
            return False
        if isinstance(event, Committed) and event.client == first and event.offsets[0][::2] == (tp, ErrorCode.NONE):
            return True
    return False


def owners(*events: HistoryEvent) -> Report:
    report = Report()
    check_owners(events, report)
    return report


def test_a_fenced_member_is_no_owner() -> None:
    """Whoever is not in the newer generation, or is gone from a consumer group, may believe what it likes."""
    both = (takes(1, "a", member="ma", epoch=3), takes(2, "b", member="mb", epoch=4))
    assert owners(told(0, "ma", 3, TP), told(1, "mb", 4, TP), *both).ok
    assert owners(told(0, "ma", 3, TP), told(1, "ma", 4), told(1, "mb", 4, TP), *both).of("G1")
    late = (takes(1, "b", member="mb", epoch=4), takes(2, "a", member="ma", epoch=3))
    assert owners(told(0, "ma", 3, TP), told(1, "mb", 4, TP), *late).ok
    consumers = (told(0, "ma", 3, TP, protocol="consumer"), told(1, "mb", 4, TP, protocol="consumer"))
    assert owners(*consumers, *both).of("double-owner")
    assert owners(*consumers, note(1, GROUP_GONE, member="ma"), *both).ok


def test_without_notes_only_an_accepted_commit_shows_that_nobody_was_fenced() -> None:
    """A real cluster does not tell who was fenced."""
    both = (takes(1, "a"), takes(2, "b"))
    assert owners(*both).ok
    assert owners(*both).allowed
    assert owners(*both, Committed(3, "a", "g", ((TP, 5, ErrorCode.NONE),))).of("G1")
    assert owners(*both, Committed(3, "a", "g", ((TP, 5, ErrorCode.ILLEGAL_GENERATION),))).ok


def test_legal_assignment_is_its_definition() -> None:
    """G6: two members were told one partition, of one generation, or (consumer protocol) at a time; or an epoch fell."""
    broken = 0
    for draw in draws("legal-assignment"):
        protocol = draw.choice(["classic", "consumer"])
        events = [random_note(draw, at_us, protocol) for at_us in range(draw.randrange(1, 7))]
        expected = False
        for at, event in enumerate(events):
            if event.kind == GROUP_GONE:
                continue
            fields: dict[str, Any] = dict(event.fields)
            last = last_told(events, at)
            expected |= fields["member"] in last and fields["epoch"] < last[fields["member"]][0]
            for tp in fields["partitions"]:
                newest = [e for e in events[:at] if e.kind == GROUP_ASSIGNED and tp in dict(e.fields)["partitions"]]  # type: ignore[operator]
                if not newest:
                    continue
                owner: Any = dict(newest[-1].fields)
                has_it = owner["member"] in last and tp in last[owner["member"]][1]
                is_now = protocol == "consumer" or owner["epoch"] == fields["epoch"]
                expected |= owner["member"] != fields["member"] and has_it and is_now
        report = Report()
        check_assignments(events, report)
        broken += expected
        assert bool(report.of("G6")) == expected
    assert broken


def random_note(draw: random.Random, at_us: int, protocol: str) -> Happened:
    member = draw.choice("abc")
    if draw.random() < 0.2:
        return note(at_us, GROUP_GONE, member=member)
    return told(at_us, member, draw.randrange(1, 4), *draw.choice([(), (TP,), (ELSEWHERE,)]), protocol=protocol)


def last_told(events: list[Happened], at: int) -> dict[str, tuple[int, tuple[TopicPartition, ...]]]:
    last: dict[str, tuple[int, tuple[TopicPartition, ...]]] = {}
    for event in events[:at]:
        fields: Any = dict(event.fields)
        if event.kind == GROUP_GONE:
            last.pop(fields["member"], None)
        else:
            last[fields["member"]] = (fields["epoch"], fields["partitions"])
    return last


def test_zombie_commit_is_its_definition() -> None:
    """G2: accepted of an older generation; of a member that is gone; or of somebody else's partition."""
    broken = 0
    for draw in draws("zombie-commit"):
        protocol = draw.choice(["classic", "consumer"])
        events = [random_note(draw, 0, protocol)]
        for at_us in range(1, draw.randrange(2, 8)):
            if draw.random() < 0.6:
                events.append(random_note(draw, at_us, protocol))
            else:
                member, epoch = draw.choice("abc"), draw.choice([-1, 1, 2, 3])
                events.append(note(at_us, GROUP_COMMITTED, member=member, epoch=epoch, offsets=((TP, 5),)))
        expected = False
        for at, event in enumerate(events):
            fields: Any = dict(event.fields)
            if event.kind != GROUP_COMMITTED or fields["epoch"] < 0:
                continue
            assigned = [dict(e.fields) for e in events[:at] if e.kind == GROUP_ASSIGNED]
            if protocol == "classic" and assigned:
                expected |= fields["epoch"] < max(each["epoch"] for each in assigned)  # type: ignore[type-var]
            gone = {dict(e.fields)["member"] for e in events[:at] if e.kind == GROUP_GONE}
            expected |= fields["member"] in gone
            last = last_told([e for e in events[:at] if e.kind != GROUP_COMMITTED], at)
            if protocol == "consumer" and assigned:
                newest = [each["member"] for each in assigned if TP in each["partitions"]]  # type: ignore[operator]
                is_held = bool(newest) and newest[-1] in last and TP in last[newest[-1]][1]
                own = last.get(fields["member"], (0, ()))[1]
                expected |= is_held and newest[-1] != fields["member"] and TP not in own
        report = Report()
        check_commits(events, report)
        broken += expected
        assert bool(report.of("G2")) == expected, events
    assert broken


def test_offset_amnesia_is_its_definition() -> None:
    """G8: the newest coordinator tells less than what was committed last and not forgotten since."""
    broken = 0
    home = TopicPartition("__consumer_offsets", 7)
    for draw in draws("offset-amnesia"):
        events: list[Happened] = []
        for at_us in range(draw.randrange(1, 8)):
            kind, node = draw.randrange(7), draw.choice([1, 1, 1, 2])
            if kind <= 2:
                offsets = ((TP, draw.randrange(4)),)
                events.append(note(at_us, GROUP_COMMITTED, node=node, member="a", epoch=-1, offsets=offsets))
            elif kind <= 4:
                offsets = ((TP, draw.randrange(-1, 4)),)
                events.append(note(at_us, GROUP_FETCHED, node=node, member="a", offsets=offsets, partition=7))
            elif kind == 5:
                events.append(note(at_us, GROUP_FORGOTTEN, node=node, partitions=(TP,)))
            else:
                events.append(Happened(at_us, node, "became leader", home, (("leader_epoch", 1), ("log_end", 0))))
        expected = False
        for at, event in enumerate(events):
            if event.kind != GROUP_FETCHED:
                continue
            leaders = [e.node for e in events[:at] if e.kind == "became leader"]
            changes = [e for e in events[:at] if e.kind in (GROUP_COMMITTED, GROUP_FORGOTTEN)]
            if (not leaders or leaders[-1] == event.node) and changes and changes[-1].kind == GROUP_COMMITTED:
                expected |= dict(event.fields)["offsets"][0][1] < dict(changes[-1].fields)["offsets"][0][1]  # type: ignore[index]
        report = Report()
        check_commits(events, report)
        broken += expected
        assert bool(report.of("G8")) == expected
    assert broken


def test_the_time_to_a_new_assignment_is_measured() -> None:
    """G7: from a classic group's first move to Stable; from a consumer group's new epoch to the last member that has it."""
    classic = [note(1000, GROUP_STATE, state="PreparingRebalance", epoch=0)]
    classic += [
        note(4000, GROUP_STATE, state="CompletingRebalance", epoch=1),
        note(9000, GROUP_STATE, state="Stable", epoch=1),
    ]
    report = Report()
    check_assignments(classic, report)
    assert list(report.metrics.values()) == [8]
    consumers = [note(1000, GROUP_STATE, state="consumer", epoch=2)]
    consumers += [told(3000, "a", 2, protocol="consumer"), told(6000, "b", 2, protocol="consumer")]
    report = Report()
    check_assignments(consumers, report)
    assert list(report.metrics.values()) == [5]


class _LostHome(Budget):
    """A budget under which the records of every group were lost."""

    def __init__(self) -> None:
        super().__init__(())

    def excuse(self, tp: TopicPartition, offset: int, at_us: int) -> str | None:
        return f"{tp} lost power everywhere" if tp.topic == "__consumer_offsets" else None


def test_a_group_that_was_lost_begins_anew() -> None:
    """Its coordinator forgot the old owner because its records are gone: allowed, with the reason; otherwise a breach."""
    events = [
        told(1, "a", 1, TP),
        note(2, GROUP_FETCHED, member="a", offsets=((TP, -1),), partition=7),
        told(3, "b", 1, TP),
    ]
    report = Report()
    check_assignments(events, report)
    assert [finding.invariant for finding in report.findings] == ["legal-assignment"]
    excused = Report()
    check_assignments(events, excused, _LostHome())
    assert excused.ok
    assert "__consumer_offsets-7 lost power everywhere" in str(excused.allowed[0])


def test_a_former_coordinator_tells_late_of_what_it_accepted() -> None:
    """It stood still between the commit and its answer; meanwhile its successor begins a generation. At one coordinator: a breach."""

    def history(coordinator: int) -> list[HistoryEvent]:
        commit = {"member": "a", "epoch": 1, "offsets": ((TP, 1),)}
        return [
            told(1, "a", 1, TP),
            note(
                2,
                GROUP_ASSIGNED,
                node=coordinator,
                member="b",
                epoch=2,
                partitions=(TP,),
                protocol="classic",
                instance=None,
            ),
            note(3, GROUP_COMMITTED, **commit),
        ]

    late, wrong = Report(), Report()
    check_commits(history(2), late)
    check_commits(history(1), wrong)
    assert late.ok
    assert [finding.invariant for finding in wrong.findings] == ["zombie-commit"]
