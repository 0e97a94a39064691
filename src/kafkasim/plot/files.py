"""Pictures as files, whole or not at all.

Effects:  a file beside the wanted one, renamed when it is complete.
Rule 1:   what a picture needs and is not installed is named with the extra that brings it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any


def plotly_graphs() -> ModuleType:
    """``plotly.graph_objects``; ImportError names the extra."""
    try:
        import plotly.graph_objects as graphs
    except ImportError as problem:
        raise ImportError("pictures need Plotly: pip install 'kafkasim[viz]'") from problem
    return graphs  # type: ignore[no-any-return]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, or leave what was there. Raises OSError as ``open`` does."""
    payload = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
