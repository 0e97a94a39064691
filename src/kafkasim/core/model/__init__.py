"""Floor 0: ids, error codes, record batches, requests and responses, metadata values, config tables, effects."""
