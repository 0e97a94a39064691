"""The simulator: virtual time, one source of choice, the network, and tasks that run user code unmodified."""
