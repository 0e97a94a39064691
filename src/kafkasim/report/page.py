"""A run as one HTML page: servers, replicas, owners, lag and the order view on one clock, with a click for causes.

Inputs:   a story.      Effects: a file, whole or absent, that opens without a network. Needs the extra ``viz``.
Rule 1:   the page says its verdict in words before it shows anything.
Rule 2:   every mark carries the text that a click shows; dragging zooms all rows together, a double click shows all again.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kafkasim.plot.files import plotly_graphs
from kafkasim.report.bands import PartitionStory
from kafkasim.report.groups import GroupStory
from kafkasim.report.story import Story
from kafkasim.sim.files import write_whole

#: Colours that people with the common kinds of colour blindness can tell apart (Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED, _YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
)  # fmt: skip
_GREY = "#999999"
_MEMBERS = (_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED, _YELLOW, "#6BA8D0", "#F2CC80", "#73C9B1", "#E3B8D0")
_STATES = {
    "running": _GREEN, "paused": _YELLOW, "stopping": _SKY, "stopped": _GREY, "crashed": _RED, "no power": "#000000",
}  # fmt: skip
_ROLES = {"leader": _BLUE, "in sync": _SKY, "eligible": _ORANGE}
_ROW_PX, _GAP_PX, _CURVE_PX, _ORDER_PX, _MARGIN_PX = 22, 46, 140, 320, 80
_BAR = 0.8


def write_page(story: Story, path: str | Path) -> None:
    """Write the page. ImportError names the extra where Plotly is not installed."""
    write_whole(Path(path), page_html(story))


def page_html(story: Story) -> str:
    """The whole page as text."""
    chart = page_figure(story).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="timeline",
        config={"responsive": True, "displaylogo": False},
        post_script=_ON_CLICK,
    )
    return _PAGE.format(title=html.escape(story.title), style=_STYLE, head=_head(story), chart=chart, foot=_foot(story))


def page_figure(story: Story) -> Any:
    """The Plotly figure of the page, for notebooks."""
    graphs = plotly_graphs()
    from plotly.subplots import make_subplots

    panels: list[_Panel] = [_servers(graphs, story)]
    if any(group.lag for group in story.groups):
        panels.append(_lag(graphs, story.groups))
    shown: set[str] = set()
    panels += [_partition(graphs, partition, shown) for partition in story.partitions]
    for group in story.groups:
        if group.owners:
            panels.append(_owners(graphs, group))
    if story.order:
        panels.append(_order(graphs, story))
    total_px = sum(panel.height_px for panel in panels)
    height = total_px + _GAP_PX * (len(panels) - 1) + _MARGIN_PX
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        row_heights=[panel.height_px / total_px for panel in panels],
        vertical_spacing=_GAP_PX / height if len(panels) > 1 else 0.0,
        subplot_titles=[panel.title for panel in panels],
    )
    for row, panel in enumerate(panels, start=1):
        for trace in panel.traces:
            figure.add_trace(trace, row=row, col=1)
        if panel.names:
            figure.update_yaxes(
                tickmode="array",
                tickvals=list(range(len(panel.names))),
                ticktext=panel.names,
                range=[len(panel.names) - 0.5, -0.5],
                row=row,
                col=1,
            )
        else:
            figure.update_yaxes(title=panel.axis, rangemode="tozero", row=row, col=1)
    for fault in story.faults:
        figure.add_vline(x=fault.at_s, line={"width": 1, "dash": "dot", "color": _RED}, row="all", col=1)
    figure.update_xaxes(range=[0, story.end_s])
    figure.update_xaxes(title="virtual seconds", row=len(panels), col=1)
    figure.update_layout(
        barmode="overlay",
        template="plotly_white",
        height=height,
        margin={"l": 120, "r": 20, "t": 40, "b": 40},
        hovermode="closest",
        dragmode="zoom",
        legend={"tracegroupgap": 8},
    )
    return figure


class _Panel:
    """One row of the figure: bars over ``names``, or curves over an axis."""

    def __init__(
        self, title: str, traces: list[Any], height_px: int, names: Sequence[str] = (), axis: str = ""
    ) -> None:
        self.title = title
        self.traces = traces
        self.height_px = height_px
        self.names = list(names)
        self.axis = axis


def _servers(graphs: Any, story: Story) -> _Panel:
    nodes = list(story.servers)
    rows = {node: index for index, node in enumerate(nodes)}
    traces = []
    for state, colour in _STATES.items():
        bars = [
            (rows[node], span.from_s, span.to_s, f"node {node} {span.state}, {span.from_s:.6f} to {span.to_s:.6f} s")
            for node, spans in story.servers.items()
            for span in spans
            if span.state == state
        ]
        if bars:
            traces.append(_bars(graphs, state, colour, bars, group="servers", width=_BAR * 0.6))
    active = [
        (rows[node], from_s, to_s, f"node {node} is the active controller, {from_s:.6f} to {to_s:.6f} s")
        for node, from_s, to_s in story.controllers
        if node in rows
    ]
    if active:
        traces.append(_bars(graphs, "active controller", "#444444", active, group="servers", width=0.12))
    if story.faults:
        traces.append(
            graphs.Scatter(
                x=[fault.at_s for fault in story.faults],
                y=[-0.35] * len(story.faults),
                mode="markers",
                marker={"symbol": "triangle-down", "size": 11, "color": _RED},
                name="fault",
                legendgroup="servers",
                customdata=[f"{fault.at_s:.6f} s: {fault.text}\n{fault.why}".strip() for fault in story.faults],
                hovertext=[fault.text for fault in story.faults],
                hoverinfo="x+text",
            )
        )
    return _Panel("servers and faults", traces, max(3, len(nodes)) * _ROW_PX, [f"node {node}" for node in nodes])


def _partition(graphs: Any, partition: PartitionStory, shown: set[str]) -> _Panel:
    """``shown``: roles that the legend has already."""
    rows = {replica: index for index, replica in enumerate(partition.replicas)}
    traces = []
    for role, colour in _ROLES.items():
        bars = [
            (
                rows[span.replica],
                span.from_s,
                span.to_s,
                _role_text(partition, span.replica, role, span.from_s, span.to_s),
            )
            for span in partition.spans
            if span.role == role
        ]
        if bars:
            traces.append(_bars(graphs, role, colour, bars, group=f"replicas {role}", in_legend=role not in shown))
            shown.add(role)
    traces.append(
        graphs.Scatter(
            x=[change.at_s for change in partition.changes],
            y=[len(rows) - 0.55] * len(partition.changes),
            mode="markers",
            marker={"symbol": "diamond", "size": 8, "color": "#444444"},
            name="change",
            showlegend=False,
            cliponaxis=False,
            customdata=[change.why or f"{change.at_s:.6f} s: {change.text}" for change in partition.changes],
            hovertext=[change.text for change in partition.changes],
            hoverinfo="x+text",
        )
    )
    names = [f"replica {replica}" for replica in partition.replicas]
    title = f"{html.escape(partition.name)}: leader, ISR and ELR"
    return _Panel(title, traces, max(3, len(names)) * _ROW_PX, names)


def _role_text(partition: PartitionStory, replica: int, role: str, from_s: float, to_s: float) -> str:
    """What a click on a band shows: the state, and the chain of the change that began it."""
    text = f"{partition.name} replica {replica}: {role}, {from_s:.6f} to {to_s:.6f} s"
    began = next((change for change in reversed(partition.changes) if change.at_s <= from_s), None)
    return f"{text}\n{began.why or began.text}" if began is not None else text


def _owners(graphs: Any, group: GroupStory) -> _Panel:
    partitions = list(dict.fromkeys(span.partition for span in group.owners))
    rows = {partition: index for index, partition in enumerate(partitions)}
    members = sorted({span.member for span in group.owners})
    traces = []
    for index, member in enumerate(members):
        bars = [
            (
                rows[span.partition],
                span.from_s,
                span.to_s,
                f"{group.name}: {member} has {span.partition}, {span.from_s:.6f} to {span.to_s:.6f} s",
            )
            for span in group.owners
            if span.member == member
        ]
        traces.append(_bars(graphs, member, _MEMBERS[index % len(_MEMBERS)], bars, group=f"group {group.name}"))
    title = f"group {html.escape(group.name)}: who owns what"
    return _Panel(
        title, traces, max(3, len(partitions)) * (_ROW_PX if len(partitions) <= 8 else _ROW_PX // 2), partitions
    )


def _lag(graphs: Any, groups: Sequence[GroupStory]) -> _Panel:
    traces = [
        graphs.Scatter(
            x=[at_s for at_s, _ in group.lag],
            y=[records for _, records in group.lag],
            mode="lines",
            line={"shape": "hv", "width": 1.4, "color": _MEMBERS[index % len(_MEMBERS)]},
            name=f"lag of {group.name}",
            legendgroup="lag",
            customdata=[f"{at_s:.6f} s: {group.name} is {records} records behind" for at_s, records in group.lag],
            hovertemplate="%{x:.3f} s: %{y} records behind<extra>" + html.escape(group.name) + "</extra>",
        )
        for index, group in enumerate(groups)
        if group.lag
    ]
    return _Panel("how far each group is behind", traces, _CURVE_PX, axis="records")


def _order(graphs: Any, story: Story) -> _Panel:
    observers = list(dict.fromkeys(sighting.observer for sighting in story.order))
    traces = []
    for index, observer in enumerate(observers):
        seen = [sighting for sighting in story.order if sighting.observer == observer]
        # A vertical stroke from the first offset to the last of each sighting; None ends a stroke.
        xs = [value for sighting in seen for value in (sighting.at_s, sighting.at_s, None)]
        ys = [value for sighting in seen for value in (sighting.first, sighting.last, None)]
        texts = [value for sighting in seen for value in (sighting.text, sighting.text, "")]
        traces.append(
            graphs.Scatter(
                x=xs,
                y=ys,
                mode="lines+markers",
                line={"width": 2, "color": _MEMBERS[index % len(_MEMBERS)]},
                marker={"size": 5, "symbol": index % 8},
                name=observer,
                legendgroup="order",
                customdata=texts,
                hovertext=texts,
                hoverinfo="text",
            )
        )
    return _Panel(f"{html.escape(story.order_of)}: who saw which offset", traces, _ORDER_PX, axis="offset")


def _bars(
    graphs: Any,
    name: str,
    colour: str,
    bars: Sequence[tuple[int, float, float, str]],
    *,
    group: str,
    width: float = _BAR,
    in_legend: bool = True,
) -> Any:
    return graphs.Bar(
        y=[row for row, *_ in bars],
        x=[to_s - from_s for _, from_s, to_s, _ in bars],
        base=[from_s for _, from_s, *_ in bars],
        orientation="h",
        width=width,
        name=name,
        legendgroup=group,
        showlegend=in_legend,
        marker={"color": colour, "line": {"width": 0}},
        customdata=[text for *_, text in bars],
        hovertext=[text.partition("\n")[0] for *_, text in bars],
        hoverinfo="text",
    )


# --- words around the picture -----------------------------------------------------------------------------------------


def _head(story: Story) -> str:
    parts = [f"<h1>{html.escape(story.title)}</h1>"]
    if story.verdict:
        kind = "broken" if story.broken else "kept"
        parts.append(f'<p id="verdict" class="{kind}">{html.escape(story.verdict)}</p>')
    parts.append(_list("broken", story.broken) + _list("allowed by the settings", story.allowed))
    facts = f"seed {story.seed}, {story.end_s:.3f} virtual seconds, fingerprint {story.fingerprint}"
    parts.append(f"<p>{html.escape(facts)}</p>")
    if story.replay:
        parts.append(f"<p>run it again: <code>{html.escape(story.replay)}</code></p>")
    return "\n".join(parts)


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>"


def _foot(story: Story) -> str:
    return _list("left out of this page", story.left_out)


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #222; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: .6rem 0 .2rem; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
#verdict { font-weight: 600; } #verdict.broken { color: #a33600; } #verdict.kept { color: #006b4e; }
#cause { position: sticky; bottom: 0; max-height: 40vh; overflow: auto; margin: 0; padding: .6rem .8rem;
  background: #f6f6f4; border-top: 2px solid #444; white-space: pre-wrap; font-size: 13px; }
"""
#: Shows the text of what was clicked; Plotly puts the id of its element in.
_ON_CLICK = """
document.getElementById('{plot_id}').on('plotly_click', function (event) {
  var text = event.points[0].customdata;
  if (text) { document.getElementById('cause').textContent = text; }
});
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>{style}</style></head>
<body>
<header>{head}</header>
{chart}
<pre id="cause">Drag over the picture to zoom, double-click to see all of it; click on anything for its cause.</pre>
<footer>{foot}</footer>
</body></html>
"""
