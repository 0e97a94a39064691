"""A deterministic, replicated Kafka inside one Python process.

``kafkasim.Cluster`` is the simulator, ``kafkasim.connect(url)`` the same handle over either side, ``kafkasim.compare`` runs one scenario
under several alternatives. All are imported when first used, so
that ``import kafkasim`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kafkasim.errors import ConfigurationError, Unsupported
from kafkasim.version import VERSION

if TYPE_CHECKING:
    from kafkasim import compare, faults, sinks
    from kafkasim.connect import connect
    from kafkasim.explore.sometimes import sometimes
    from kafkasim.handle import Cluster
    from kafkasim.testing.seeded import seeded as test

__version__ = VERSION

__all__ = [
    "Cluster",
    "ConfigurationError",
    "Unsupported",
    "__version__",
    "compare",
    "connect",
    "faults",
    "sinks",
    "sometimes",
    "test",
]


def __getattr__(name: str) -> Any:
    if name == "Cluster":
        from kafkasim.handle import Cluster

        return Cluster
    if name == "connect":
        from kafkasim.connect import connect

        return connect
    if name in ("compare", "faults", "sinks"):
        return import_module(f"kafkasim.{name}")
    if name == "sometimes":
        from kafkasim.explore.sometimes import sometimes

        return sometimes
    if name == "test":
        from kafkasim.testing.seeded import seeded

        return seeded
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
