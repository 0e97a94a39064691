"""Sets of indexes as ranges."""

from hypothesis import given
from hypothesis import strategies as st

from kafkasim.lab.ranges import Ranges, added, missing, pairs, size

RANGE = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(RANGE, min_size=1, max_size=12), RANGE)
def test_ranges_are_sets(added_ranges: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    """Adding, counting what was known, and asking what is missing agree with plain sets."""
    ranges: Ranges = ()
    known: set[int] = set()
    for start, stop in added_ranges:
        ranges, overlap = added(ranges, start, stop)
        assert overlap == len(known & set(range(start, stop)))
        known |= set(range(start, stop))
    assert size(ranges) == len(known)
    assert list(ranges) == sorted(ranges)
    assert {index for low, high in pairs(ranges) for index in range(low, high)} == known
    gaps = {index for low, high in missing(ranges, *asked) for index in range(low, high)}
    assert gaps == set(range(*asked)) - known
