"""A share group that reads from the first record, for tests of runs with share groups."""

from __future__ import annotations

from typing import Any

from kafkasim.confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

import kafkasim


def earliest(cluster: kafkasim.Cluster, group: str, **config: object) -> None:
    """Set ``share.auto.offset.reset`` of a group, and other configs of it (``record_lock_duration_ms=15000``)."""
    wanted: dict[str, Any] = {"auto_offset_reset": "earliest", **config}
    entries = [
        ConfigEntry("share." + name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
        for name, value in wanted.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    for future in cluster.admin().incremental_alter_configs([resource]).values():
        future.result()
    cluster.run_for(0.3)
