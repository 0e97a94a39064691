"""Views of a run that users watch: metrics as time series, and why a partition is as it is. Derived when asked, never sampled."""
