"""Stands in for the package `concurrent` inside the client's Python layer.

Rule 1:   its only submodule of use is `futures`, which is ours.
"""

from __future__ import annotations

from kafkasim.confluent_kafka import futures as futures
