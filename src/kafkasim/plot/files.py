"""Pictures as files, whole or not at all.

Rule 1:   what a picture needs and is not installed is named with the extra that brings it.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from kafkasim.sim.files import write_whole


def plotly_graphs() -> ModuleType:
    """``plotly.graph_objects``; ImportError names the extra."""
    try:
        import plotly.graph_objects as graphs
    except ImportError as problem:
        raise ImportError("pictures need Plotly: pip install 'kafkasim[viz]'") from problem
    return graphs  # type: ignore[no-any-return]


def write_html(figure: Any, path: Path) -> None:
    """One page with Plotly's script in it, so that it opens without a network."""
    write_whole(path, figure.to_html(include_plotlyjs=True, full_html=True))


def write_png(figure: Any, path: Path, *, width: int = 1400, height: int = 900) -> None:
    """A PNG by kaleido, which needs a Chrome of its own; ImportError or RuntimeError say what is missing."""
    try:
        import kaleido  # noqa: F401
    except ImportError as problem:
        raise ImportError("a PNG needs kaleido: pip install kaleido (to_html needs nothing more)") from problem
    try:
        picture = figure.to_image(format="png", width=width, height=height)
    except Exception as problem:
        raise RuntimeError(f"kaleido could not draw the PNG: {problem} (to_html needs nothing more)") from problem
    write_whole(path, picture)
