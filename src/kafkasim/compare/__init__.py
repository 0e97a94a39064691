"""Comparisons: one scenario, run once for each alternative, under the same seed.

``rebalance`` compares rebalance protocols. Values in, values out: a comparison prints as a table, gives its figures as attributes and
JSON, and draws itself where the extra ``viz`` is installed.
"""

from kafkasim.compare.rebalancing import PROTOCOLS, rebalance
from kafkasim.compare.result import Comparison, Moment, Run
from kafkasim.compare.scenario import Event, Scenario, SlowMember

__all__ = ["PROTOCOLS", "Comparison", "Event", "Moment", "Run", "Scenario", "SlowMember", "rebalance"]
