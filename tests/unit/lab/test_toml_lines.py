"""Where keys of a TOML text stand."""

from kafkasim.lab.toml_lines import lines_of

TEXT = '''# A comment with [brackets] and "quotes".
title = "a # in a text"

[cluster]
config = { "a.b" = 1, c = "}" } # behind it
racks = [
  "a",  # one
  "b]",
]

[[groups]]
name = "first"
[groups.consumer]
"fetch.min.bytes" = 1
linger.ms = 5

[[groups]]
name = """
long
"""
last = \'\'\'it\'s\'\'\'
[[groups.inner]]
x = 1
[[groups.inner]]
x = 2
'''


def test_lines_of_tables_keys_and_entries() -> None:
    """Every table, key and entry of an array has the line on which it begins."""
    lines = lines_of(TEXT)
    assert lines["title",] == 2
    assert lines["cluster",] == 4
    assert lines["cluster", "config", "a.b"] == 5
    assert lines["cluster", "racks"] == 6
    assert lines["cluster", "racks", 1] == 8
    assert lines["groups", 0, "name"] == 12
    assert lines["groups", 0, "consumer", "fetch.min.bytes"] == 14
    assert lines["groups", 0, "consumer", "linger", "ms"] == 15
    assert lines["groups", 1] == 17
    assert lines["groups", 1, "name"] == 18
    assert lines["groups", 1, "last"] == 21
    assert lines["groups", 1, "inner", 1, "x"] == 25


def test_no_text() -> None:
    """An empty text has nothing but its beginning."""
    assert lines_of("") == {(): 1}
