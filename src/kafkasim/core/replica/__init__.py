"""Floor 2: replication of one partition: leader, follower, in-sync replicas, fetch sessions, purgatory."""
