"""Levels of the cluster's features: what a new cluster has, and what an administrator may make of them.

Mirrors:  FeatureControlManager, QuorumFeatures, ActivationRecordsGenerator.recordsForEmptyLog (KIP-584, KIP-966, KIP-1022).
Rule 1:   all updates of a request are made, or none.
Rule 2:   the ELR is switched on together with what it stands on: one ``min.insync.replicas`` for the whole cluster.
Differs:  only the ELR's level changes anything; ``metadata.version`` has one level, that of 4.3.
"""

from __future__ import annotations

from kafkasim.core.controller.configs import MIN_ISR, elr_safety_records
from kafkasim.core.controller.state import ELR_FEATURE, ControllerImage
from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    SAFE_DOWNGRADE,
    UNSAFE_DOWNGRADE,
    UPGRADE,
    FeatureUpdate,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import ConfigRecord, FeatureLevelRecord, MetadataRecord

#: What a freshly formatted 4.3 cluster has (metadata.version 30 is 4.3-IV0).
FEATURES = (
    ("metadata.version", 30),
    (ELR_FEATURE, 1),
    ("group.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
)
_LOWEST = {"metadata.version": 30}

Records = list[MetadataRecord]


def levels(elr_level: int) -> tuple[tuple[str, int], ...]:
    """Those of a new cluster, but for the ELR."""
    return tuple((name, elr_level if name == ELR_FEATURE else level) for name, level in FEATURES)


def bootstrap_records(image: ControllerImage, features: tuple[tuple[str, int], ...]) -> Records:
    """The first records of an empty log; with ELR on, the minimum ISR becomes metadata."""
    records: Records = [FeatureLevelRecord(name, level) for name, level in features]
    if dict(features).get(ELR_FEATURE, 0) >= 1:
        records.append(ConfigRecord(BROKER_RESOURCE, "", MIN_ISR, str(image.broker_int(MIN_ISR))))
    return records


def update_features(image: ControllerImage, request: UpdateFeaturesRequest) -> tuple[Records, UpdateFeaturesResponse]:
    records: Records = []
    for update in request.updates:
        problem = _problem(image, update)
        if problem is not None:
            text = f"Invalid update version {update.level} for feature {update.name}. {problem}"
            return [], UpdateFeaturesResponse(
                ErrorCode.INVALID_UPDATE_VERSION,
                f"The update failed for all features since the following feature had an error: {text}",
            )
        if update.name != "metadata.version":
            records.append(FeatureLevelRecord(update.name, update.level))
    if any(update.name == ELR_FEATURE and update.level > 0 for update in request.updates):
        records = elr_safety_records(image) + records
    return [] if request.validate_only else records, UpdateFeaturesResponse(ErrorCode.NONE)


def _problem(image: ControllerImage, update: FeatureUpdate) -> str | None:
    if update.upgrade_type not in (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE):
        return "The controller does not support the given upgrade type."
    if update.level < 0:
        return "A feature version cannot be less than 0."
    supported = dict(FEATURES)
    if update.name not in supported:
        return f"Local controller {image.node_id} does not support this feature."
    low, high = _LOWEST.get(update.name, 0), supported[update.name]
    if not low <= update.level <= high:
        return f"Local controller {image.node_id} only supports versions {low}-{high}"
    current = image.features.get(update.name, 0)
    if update.level < current and update.upgrade_type == UPGRADE:
        return (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
            "downgrade."
        )
    if update.level > current and update.upgrade_type != UPGRADE:
        return "Can't downgrade to a newer version."
    return None
