"""Floor 2: the metadata image and the controller's decisions: brokers, topics, elections, configs."""
