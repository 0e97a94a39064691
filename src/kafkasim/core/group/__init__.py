"""Floor 2: group coordination: classic groups, committed offsets, and the records that keep both."""
