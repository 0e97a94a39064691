"""Benchmarks: figures are ratios taken in one run, and no test depends on a timing."""
