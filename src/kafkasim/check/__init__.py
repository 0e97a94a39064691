"""Oracles: they judge the history of a run, and the logs it left, and know nothing of how the machines work."""
