"""The cluster handle over real Kafka: brokers of our own on this machine, or a cluster that someone else runs."""
