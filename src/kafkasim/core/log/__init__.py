"""Floor 1: the log of one partition replica: batches, segments, leader epochs, producer states, retention, compaction."""
