"""The pure core: Kafka's components as state machines that know no clock, no randomness and no I/O."""
