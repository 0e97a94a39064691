"""When each record of a batch is done."""

from itertools import pairwise
from random import Random

import pytest

from kafkasim.lab.design import Processing
from kafkasim.lab.members import Clockwork


def test_constant_times() -> None:
    """Records are done one after another, behind what the batch costs; fractions of a microsecond add up."""
    assert Clockwork(Processing(), Random(1)).done_us(50, 9) == 50
    assert Clockwork(Processing(per_batch_us=7), Random(1)).done_us(50, 9) == 57
    done = Clockwork(Processing(per_record_us=100, per_batch_us=7), Random(1)).done_us(50, 3)
    assert not isinstance(done, int)
    assert list(done) == [157, 257, 357]
    assert Clockwork(Processing(per_record_us=0.5), Random(1)).done_us(0, 4) == [0, 1, 1, 2]


@pytest.mark.parametrize(("distribution", "p99"), [("uniform", 198), ("exponential", 461), ("lognormal", 300)])
def test_drawn_times(distribution: str, p99: float) -> None:
    """Each distribution has the mean and the 99th percentile that it should have."""
    done = Clockwork(Processing(100, distribution=distribution, p99_us=300), Random(1)).done_us(0, 40_000)
    assert not isinstance(done, int)
    spent = sorted(later - earlier for earlier, later in pairwise(done))
    assert sum(spent) / len(spent) == pytest.approx(100, rel=0.03)
    assert spent[int(len(spent) * 0.99)] == pytest.approx(p99, rel=0.05)
