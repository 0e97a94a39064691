"""``share.auto.offset.reset``: where a share partition starts that nobody has read before.

Mirrors:  org.apache.kafka.coordinator.group.ShareGroupAutoOffsetResetStrategy, java.time.Duration.parse.
"""

from __future__ import annotations

import re

LATEST = "latest"
EARLIEST = "earliest"
BY_DURATION = "by_duration:"

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?=[\d])(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?", re.IGNORECASE)


def duration_ms(text: str) -> int | None:
    """Milliseconds of an ISO-8601 duration of days and less, None if ``text`` is none."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds, fraction = found.groups()
    whole_s = ((int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return whole_s * 1000 + int((fraction or "").ljust(3, "0")[:3])


def share_offset_reset_problem(text: str) -> str | None:
    """What is wrong with a value of ``share.auto.offset.reset``, in Kafka's words."""
    if text in (LATEST, EARLIEST):
        return None
    if text.startswith(BY_DURATION) and duration_ms(text.removeprefix(BY_DURATION)) is not None:
        return None
    return (
        f"Invalid value `{text}` for configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' "
        "or of the format 'by_duration:<PnDTnHnMn.nS>'."
    )
