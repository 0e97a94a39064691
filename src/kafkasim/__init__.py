"""A deterministic, replicated Kafka inside one Python process."""
