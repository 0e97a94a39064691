"""Share groups at the partition leader and at the share coordinator: what is acquired, acknowledged, archived, and kept."""
