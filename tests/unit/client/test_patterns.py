"""Patterns of a subscription, against what glibc's regcomp() and regexec() say of them."""

from __future__ import annotations

import pytest

from kafkasim.core.client.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^orders-.*", "orders-1", "my-orders-1"),
        ("^orders-\\d", "orders-d", "orders-1"),
        ("^a+?$", "aa", "b"),
        ("^a+?b", "b", "c"),
        ("^(a|bc){2}$", "abc", "a"),
        ("^a{,2}$", "", "aaa"),
        ("^a)", "a)", "a"),
        ("^[]a]$", "]", "b"),
        ("^[^]a]$", "b", "]"),
        ("^[\\d]$", "\\", "1"),
        ("^[[:digit:]_-]+$", "1-2_3", "a"),
        ("^[a-c[.x.][=y=]]$", "y", "z"),
        ("^(a)\\1$", "aa", "ab"),
        ("^\\<a\\>", "a-b", "ab"),
        ("^a\\.b$", "a.b", "aXb"),
        ("^a|b$", "xb", "xa"),
        ("^()$", "", "a"),
    ],
)
def test_a_pattern_matches_what_it_does_in_c(pattern: str, matching: str, other: str) -> None:
    """The language is that of POSIX extended regular expressions with GNU's escapes."""
    compiled = compile_pattern(pattern)
    assert compiled.search(matching)
    assert not compiled.search(other)


REFUSED = """
    ^(a  ^(?!x)a  ^(?:a)  ^(a\\1)  ^(*a)  ^[a  ^a{2  ^a{  ^a{}  ^a{2,1}  ^a{32768}  ^*  ^+  ^{1}  ^a|*  ^\\  ^\\1  ^\\b*
    ^[b-a]  ^[a-c-e]  ^[a--]  ^[[:foo:]]  ^[[.xy.]]  ^[[:alpha:]-z]  ^[[:alpha:
"""


@pytest.mark.parametrize("pattern", REFUSED.split())
def test_what_c_refuses_is_refused(pattern: str) -> None:
    """Python's own syntax among it."""
    with pytest.raises(ValueError, match=r"."):
        compile_pattern(pattern)
