"""What the configs say about a share group on this broker: its own values over the broker's, clamped to the broker's bounds.

Mirrors:  GroupConfigManager, ShareGroupConfigProvider, GroupConfig.clampToRange.
"""

from __future__ import annotations

from kafkasim.core.controller.image import MetadataImage
from kafkasim.core.group.share_shard import ShareGroupSettings
from kafkasim.core.model.admin_messages import GROUP_RESOURCE
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections
from kafkasim.core.model.server_config import GROUP_CONFIGS
from kafkasim.core.share.partition import ShareSettings


class ShareConfigs:
    __slots__ = ("_image", "_protections")

    def __init__(self, image: MetadataImage, protections: Protections = ALL_PROTECTIONS) -> None:
        self._image = image
        self._protections = protections

    def text(self, group_id: str, name: str) -> str:
        """A config that has no bounds."""
        own = self._image.configs.get((GROUP_RESOURCE, group_id), {}).get(name)
        return own if own is not None else GROUP_CONFIGS[name].default or ""

    def number(self, group_id: str, kind: str) -> int:
        """``share.<kind>`` of the group."""
        number = self._image.broker_int
        own = self._image.configs.get((GROUP_RESOURCE, group_id), {}).get(f"share.{kind}")
        if own is None:
            return number(f"group.share.{kind}")
        return max(number(f"group.share.min.{kind}"), min(int(own), number(f"group.share.max.{kind}")))

    def of_partition(self, group_id: str) -> ShareSettings:
        return ShareSettings(
            self.number(group_id, "delivery.count.limit"),
            self.number(group_id, "partition.max.record.locks"),
            self.number(group_id, "record.lock.duration.ms") * 1000,
            self.text(group_id, "share.renew.acknowledge.enable").lower() == "true",
            self._protections.share_limit_check,
        )

    def of_group(self, group_id: str) -> ShareGroupSettings:
        return ShareGroupSettings(
            self.number(group_id, "session.timeout.ms"),
            self.number(group_id, "heartbeat.interval.ms"),
            self.number(group_id, "assignment.interval.ms"),
            self._image.broker_int("group.share.max.size"),
            self._image.broker_int("group.share.initialize.retry.interval.ms"),
        )
