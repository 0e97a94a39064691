"""The requests around one moment as a Mermaid sequence diagram.

Inputs:   a story with exchanges; the moment, and how much of what was before it.      Effects: text; a file, whole or absent.
Rule 1:   only exchanges that carry records, ownership or leadership are drawn: heartbeats, metadata and empty fetches are not.
Rule 2:   at most `MOST_ARROWS` exchanges, the last before the moment; what is older is counted in a note.
"""

from __future__ import annotations

from pathlib import Path

from kafkasim.core.model.ids import FIRST_CLIENT_NODE
from kafkasim.errors import ConfigurationError
from kafkasim.report.story import Mark, Story
from kafkasim.sim.exchanges import Exchange
from kafkasim.sim.files import write_whole

MOST_ARROWS = 40
_TOLD = (
    "Produce",
    "AlterPartition",
    "OffsetCommit",
    "JoinGroup",
    "SyncGroup",
    "LeaveGroup",
    "ConsumerGroupHeartbeat",
    "BrokerRegistration",
    "Vote",
    "BeginQuorumEpoch",
    "OffsetsForLeaderEpoch",
    "ListOffsets",
    "CreateTopics",
    "ElectLeaders",
    "DeleteRecords",
    "InitProducerId",
    "ShareAcknowledge",
)


def write_sequence(story: Story, path: str | Path, *, until_s: float | None = None, apis: tuple[str, ...] = ()) -> None:
    """Write ``sequence_diagram``; a ``.md`` file gets its fence, so that pages which render Markdown show it."""
    text = sequence_diagram(story, until_s=until_s, apis=apis)
    file = Path(path)
    write_whole(file, f"```mermaid\n{text}```\n" if file.suffix == ".md" else text)


def sequence_diagram(story: Story, *, until_s: float | None = None, apis: tuple[str, ...] = ()) -> str:
    """The last exchanges before ``until_s`` (the end of the run), with faults as notes. ``apis``: these alone.

    Raises ConfigurationError for a story without exchanges.
    """
    if story.exchanges is None:
        raise ConfigurationError(
            "this story has no requests to draw: watch the run with kafkasim.sim.exchanges.Exchanges(cluster) from its start"
        )
    until_us = round((story.end_s if until_s is None else until_s) * 1_000_000)
    told = apis or _TOLD
    chosen = [exchange for exchange in story.exchanges.all if exchange.sent_us <= until_us and exchange.api in told]
    left_out, chosen = max(0, len(chosen) - MOST_ARROWS), chosen[-MOST_ARROWS:]
    nodes = sorted({node for exchange in chosen for node in (exchange.requester, exchange.server)})
    lines = ["sequenceDiagram"]
    lines += [f"    participant n{node} as {_name(node)}" for node in nodes]
    if left_out and nodes:
        lines.append(f"    Note over n{nodes[0]}: {left_out} earlier requests are not drawn")
    since_us = chosen[0].sent_us if chosen else 0
    steps = [step for exchange in chosen for step in _steps(exchange, until_us)]
    steps += [_note(fault, nodes) for fault in story.faults if since_us <= fault.at_s * 1e6 <= until_us and nodes]
    lines += [text for _, text in sorted(steps, key=lambda step: step[0])]
    return "\n".join(lines) + "\n"


def _steps(exchange: Exchange, until_us: int) -> list[tuple[int, str]]:
    there, back = f"n{exchange.requester}", f"n{exchange.server}"
    at_s = exchange.sent_us / 1e6
    if exchange.received_us < 0 or exchange.received_us > until_us:
        return [(exchange.sent_us, f"    {there}-x{back}: {exchange.api} {at_s:.6f} s, not received")]
    steps = [(exchange.sent_us, f"    {there}->>{back}: {exchange.api} {at_s:.6f} s")]
    if exchange.is_whole and exchange.arrived_us <= until_us:
        steps.append(
            (exchange.arrived_us, f"    {back}-->>{there}: {exchange.api} answered {exchange.arrived_us / 1e6:.6f} s")
        )
    elif exchange.answered_us >= 0:
        steps.append(
            (
                exchange.answered_us,
                f"    {back}--x{there}: answer to {exchange.api} {exchange.answered_us / 1e6:.6f} s, lost",
            )
        )
    return steps


def _note(fault: Mark, nodes: list[int]) -> tuple[int, str]:
    text = fault.text.replace(";", ",").replace("#", "")
    over = f"n{nodes[0]},n{nodes[-1]}" if len(nodes) > 1 else f"n{nodes[0]}"
    return round(fault.at_s * 1_000_000), f"    Note over {over}: {text} at {fault.at_s:.6f} s"


def _name(node: int) -> str:
    return f"client {node}" if node >= FIRST_CLIENT_NODE else f"broker {node}"
