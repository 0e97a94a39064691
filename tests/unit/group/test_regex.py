"""Regular expressions on the server: RE2's syntax, and when groups resolve them."""

from __future__ import annotations

import pytest
from tests.unit.group.consumer_member import Member, group_of, settle
from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.group.regex import InvalidRegex, compile_regex, matching
from kafkasim.core.model.errors import ErrorCode

NAMES = ["calls", "calls-eu", "calls.us", "Calls", "a1", "_b"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("calls.*", ["calls", "calls-eu", "calls.us"]),
        ("^calls$", ["calls"]),
        ("calls", ["calls"]),
        (r"calls\.us", ["calls.us"]),
        ("(?i)calls", ["calls", "Calls"]),
        ("(?i:c)alls", ["calls", "Calls"]),
        ("a(?i)1|CALLS", ["calls", "Calls", "a1"]),
        ("((?i)CALLS|nothing)(?:-eu)?", ["calls", "calls-eu", "Calls"]),
        ("(?i)(?-i)Calls", ["Calls"]),
        ("[[:alpha:]][[:digit:]]", ["a1"]),
        ("[^[:lower:]]b", ["_b"]),
        (r"\pL\d", ["a1"]),
        (r"\p{Lu}.*", ["Calls"]),
        (r"[\W]?_b", ["_b"]),
        (r"\Qcalls.us\E", ["calls.us"]),
        (r"(?P<root>calls)(?:-eu)?", ["calls", "calls-eu"]),
        (r"\Acalls\z", ["calls"]),
        ("a{1}1", ["a1"]),
        ("calls|a1", ["calls", "a1"]),
        ("[a-c]alls", ["calls"]),
        ("", []),
        ("calls.*?", ["calls", "calls-eu", "calls.us"]),
        (r"\x61\x{31}", ["a1"]),
    ],
)
def test_matches(pattern: str, found: list[str]) -> None:
    """The whole name has to match."""
    assert matching(pattern, NAMES) == found


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", ")", "[", "*a", "a**", "a++", "a{1001}", "a{2,1}", r"(a)\1", "(?=a)", "(?!a)", "(?<=a)", "(?>a)", "(?"),
        *(r"\y", "[b-a]", r"\p{Klingon}", "[[:nope:]]", "\\"),
    ],
)
def test_refused(pattern: str) -> None:
    """What RE2 has not, a broker does not take."""
    with pytest.raises(InvalidRegex):
        compile_regex(pattern)


def regex_group() -> tuple[ShardDriver, Member]:
    driver = ShardDriver()
    driver.wait(20)
    member = Member(driver, "m0", None, regex="cal.*")
    member.beat()
    return driver, member


def test_an_expression_is_resolved_aside() -> None:
    """The first heartbeat gives nothing; the next one, once it is resolved, everything."""
    driver, member = regex_group()
    assert (member.partitions, member.epoch) == ([], 1)
    driver.wait(1)
    member.beat()
    assert (len(member.partitions), member.epoch) == (8, 2)


def test_new_topics_are_found_ten_seconds_later_at_the_earliest() -> None:
    """By a heartbeat after that."""
    driver, member = regex_group()
    settle(driver, [member], 1)
    driver.topics.put("calm", 2)
    driver.shard.on_topics_changed(["calm"])
    driver.wait(4)
    member.beat()
    member.beat()
    assert len(member.partitions) == 8
    driver.wait(2)
    member.beat()
    driver.wait(2)
    member.beat()
    assert len(member.partitions) == 10


def test_an_invalid_expression_is_refused() -> None:
    """With what is wrong about it."""
    driver = ShardDriver()
    answer = Member(driver, "m0", None, regex="(").ask()
    assert answer is not None
    assert answer.error is ErrorCode.INVALID_REGULAR_EXPRESSION
    assert "missing closing )" in (answer.error_message or "")
    assert "g" not in driver.shard.groups


def test_a_second_member_with_the_same_expression_needs_no_resolving() -> None:
    """What is known is used."""
    driver, member = regex_group()
    settle(driver, [member], 1)
    second = Member(driver, "m1", None, regex="cal.*")
    second.beat()
    settle(driver, [member, second])
    assert [len(each.partitions) for each in (member, second)] == [4, 4]
    assert group_of(driver).by_regex == {"calls": 1}


def test_what_nobody_subscribes_to_is_forgotten() -> None:
    """An expression goes with its last member, by leave or by another subscription; a fail-over knows as much."""
    driver, member = regex_group()
    settle(driver, [member], 1)
    second = Member(driver, "m1", None, regex="oth.*")
    second.beat()
    settle(driver, [member, second])
    assert sorted(group_of(driver).resolved) == ["cal.*", "oth.*"]
    second.leave()
    assert list(group_of(driver).resolved) == ["cal.*"]
    driver.wait(11)
    member.topics, member.regex = ("other",), ""
    member.beat(full=True)
    settle(driver, [member])
    driver.fail_over()
    group = group_of(driver)
    assert (group.resolved, group.regexes, group.by_regex, group.by_name) == ({}, {}, {}, {"other": 1})
    settle(driver, [member])
    assert {tp.topic for tp in member.partitions} == {"other"}


def test_names_and_an_expression_together() -> None:
    """A member has the topics of both."""
    driver = ShardDriver()
    driver.wait(20)
    member = Member(driver, "m0", ("other",), regex="cal.*")
    member.beat()
    settle(driver, [member])
    assert {tp.topic for tp in member.partitions} == {"calls", "other"}
