"""Who owns each partition over time, and the lag under it: a Gantt chart for each alternative, on one clock.

Inputs:   panels of plain values; the events of the scenario.      Effects: none; a Plotly figure.
Rule 1:   a member has one colour in all panels; a gap in a row is a partition that nobody owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kafkasim.plot.files import plotly_graphs

#: Colours that people with the common kinds of colour blindness can tell apart (Okabe and Ito), then paler ones of the same hues.
_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"),
    *("#6BA8D0", "#F2CC80", "#73C9B1", "#E3B8D0", "#A6D8F3", "#EBA36B", "#F7F0A0"),
)
_LAG_SHARE = 0.28
_BAR_WIDTH = 0.86
_MOST_TICKS = 24


@attrs.frozen
class Panel:
    """``ownerships``: (partition, member, from seconds, to seconds); ``lag``: (seconds, records)."""

    title: str
    ownerships: Sequence[tuple[int, str, float, float]]
    lag: Sequence[tuple[float, int]]


def ownership_figure(panels: Sequence[Panel], events: Sequence[tuple[float, str]], duration_s: float) -> Any:
    """A column for each panel, ownership above lag; ``events`` are marked in all of them."""
    graphs = plotly_graphs()
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=len(panels),
        shared_xaxes="all",
        shared_yaxes="rows",
        row_heights=[1 - _LAG_SHARE, _LAG_SHARE],
        vertical_spacing=0.06,
        horizontal_spacing=0.02,
        column_titles=[panel.title for panel in panels],
    )
    members = sorted({member for panel in panels for _, member, *_ in panel.ownerships}, key=_natural)
    colours = {member: _COLOURS[index % len(_COLOURS)] for index, member in enumerate(members)}
    shown: set[str] = set()
    for column, panel in enumerate(panels, start=1):
        for member in members:
            spans = [
                (partition, max(from_s, 0.0), min(to_s, duration_s))
                for partition, owner, from_s, to_s in panel.ownerships
                if owner == member and to_s > 0 and from_s < duration_s
            ]
            if spans:
                bars = _bars(graphs, member, colours[member], spans, in_legend=member not in shown)
                figure.add_trace(bars, row=1, col=column)
                shown.add(member)
        lag = graphs.Scatter(
            x=[at_s for at_s, _ in panel.lag],
            y=[records for _, records in panel.lag],
            mode="lines",
            line={"shape": "hv", "width": 1.2, "color": "#444444"},
            name="lag",
            showlegend=False,
            hovertemplate="%{x:.1f} s: %{y} records behind<extra></extra>",
        )
        figure.add_trace(lag, row=2, col=column)
    for at_s, what in events:
        line = {"width": 1, "dash": "dot", "color": "#999999"}
        figure.add_vline(x=at_s, line=line, row=1, col="all")
        figure.add_vline(
            x=at_s, line=line, row=2, col="all",
            annotation={"text": what, "textangle": -90, "font": {"size": 10, "color": "#666666"}}, annotation_position="top right",
        )  # fmt: skip
    figure.update_layout(barmode="overlay", template="plotly_white", legend_title="member", height=760)
    figure.update_xaxes(range=[0, duration_s])
    figure.update_xaxes(title="seconds", row=2)
    rows = max((partition for panel in panels for partition, *_ in panel.ownerships), default=0) + 1
    figure.update_yaxes(range=[rows - 0.5, -0.5], row=1)
    figure.update_yaxes(title="partition", dtick=1 if rows <= _MOST_TICKS else None, row=1, col=1)
    highest = max((records for panel in panels for _, records in panel.lag), default=0)
    figure.update_yaxes(range=[0, max(1.0, highest * 1.05)], row=2)
    figure.update_yaxes(title="records behind", row=2, col=1)
    return figure


def _bars(graphs: Any, member: str, colour: str, spans: Sequence[tuple[int, float, float]], *, in_legend: bool) -> Any:
    return graphs.Bar(
        y=[partition for partition, *_ in spans],
        x=[to_s - from_s for _, from_s, to_s in spans],
        base=[from_s for _, from_s, _ in spans],
        customdata=[[from_s, to_s] for _, from_s, to_s in spans],
        orientation="h",
        width=_BAR_WIDTH,
        name=member,
        legendgroup=member,
        showlegend=in_legend,
        marker={"color": colour, "line": {"width": 0}},
        hovertemplate=f"{member} owns partition %{{y}}<br>%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}} s<extra></extra>",
    )


def _natural(name: str) -> tuple[str, int]:
    """m2 before m10."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0)
