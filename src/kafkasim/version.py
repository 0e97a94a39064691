"""Which kafkasim this is, and which behaviour a seed stands for."""

from __future__ import annotations

VERSION = "0.1.0"
#: Goes up whenever the same seed and plan may give another run than before: replay files of another model are refused.
MODEL = 1
