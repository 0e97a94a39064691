"""Floor 2: what runs inside a client, as librdkafka has it: metadata, accumulator, sender, fetcher, membership, admin."""
