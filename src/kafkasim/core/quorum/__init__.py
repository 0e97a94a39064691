"""Floor 2: the quorum that replicates the metadata log: its log, its elections, its replicas."""
