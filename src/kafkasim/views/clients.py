"""Clients as views call them: by their process and name, with the time at which they ended."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Clients:
    """``processes``: the name of the task that a client belongs to, if it has one; ``ends_us``: of those that were closed or killed."""

    processes: Mapping[str, str]
    ends_us: Mapping[str, int]

    def label(self, client: str) -> str:
        """``billing-1 (rdkafka#consumer-1)``."""
        process = self.processes.get(client)
        return client if process is None else f"{process} ({client})"

    def ended_us(self, client: str) -> int | None:
        return self.ends_us.get(client)
