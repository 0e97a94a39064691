"""What tests use: the pytest plugin, and later Hypothesis strategies."""
