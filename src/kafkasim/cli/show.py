"""A result for people: tables and a verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kafkasim.lab.result import FaultResult, GroupResult, PartitionResult, Result, ShareResult

_WIDTH_WITHOUT_TERMINAL = 140
_MOST_FINDINGS = 10


def show_result(result: Result, console: Console | None = None) -> None:
    """Print everything to stdout."""
    out = console or Console(highlight=False)
    if console is None and not out.is_terminal:
        out = Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    out.print(
        f"{result.design}: {result.virtual_seconds:,.0f} virtual seconds in {result.wall_seconds:.1f} s, seed {result.seed}, "
        f"fingerprint {result.fingerprint}"
    )
    _show_workloads(result, out)
    if result.every_group:
        out.print(_groups_table(result))
    for group in result.share_groups:
        if group.share is not None:
            out.print(f"{group.name} is a share group: {_share_text(group, group.share)}", markup=False)
    if result.faults:
        _show_faults(result, out)
    _show_partitions(result.partitions, out)
    out.print("\n[bold]Model[/bold] (latencies above are made of these, and mean nothing without them)")
    for name, value in result.model.items():
        out.print(f"  {name}: {value}", markup=False)
    _show_verdict(result, out)


def _show_workloads(result: Result, out: Console) -> None:
    for workload in result.workloads:
        extra = ""
        if workload.failed:
            why = ", ".join(f"{count:,} {name}" for name, count in workload.failures.items())
            extra += f", {workload.failed:,} failed ({why})"
        if workload.unknown:
            extra += f", {workload.unknown:,} without an answer yet"
        if workload.waited_for_room:
            extra += f", {workload.waited_for_room:,} waited for room in the producer's queue"
        out.print(
            f"{workload.name}: {workload.arrived:,} records arrived, {workload.acked:,} acknowledged{extra}; "
            f"acknowledged after p50 {_ms(workload.ack_p50_ms)}, p99 {_ms(workload.ack_p99_ms)}"
        )


def _groups_table(result: Result) -> Table:
    table = Table(title=None, header_style="bold")
    table.add_column("group")
    for name in ("members", "delivered", "lost", "duplicated", "max lag", "final lag"):
        table.add_column(name, justify="right")
    for name in ("p50", "p99", "longest stall", "commits"):
        table.add_column(name, justify="right")
    has_letters = any(group.dead_lettered for group in result.every_group)
    if has_letters:
        table.add_column("dead letters", justify="right")
    for group in result.every_group:
        row: list[str | Text] = [
            Text(group.name),
            f"{group.members}",
            f"{group.delivered:,}",
            Text(f"{group.lost:,}", style="bold red" if group.lost else ""),
            f"{group.duplicated:,}",
            f"{group.max_lag:,}",
            f"{group.final_lag:,}",
            _ms(group.latency_p50_ms),
            _ms(group.latency_p99_ms),
            f"{group.longest_stall_s:.1f} s",
            f"{group.commits:,}" + (f" ({group.failed_commits:,} failed)" if group.failed_commits else ""),
        ]
        if has_letters:
            row.append(f"{group.dead_lettered:,}" if group.dead_lettered else "")
        table.add_row(*row)
    return table


def _share_text(group: GroupResult, share: ShareResult) -> str:
    parts = [f"{share.redelivered:,} deliveries were not the first of their record"]
    for count, text in (
        (share.released, "given back"),
        (share.timed_out, "taken back when their lock ran out"),
        (share.rejected, "rejected"),
        (group.loss.archived, "archived without having been worked on"),
    ):
        if count:
            parts.append(f"{count:,} {text}")
    return ", ".join(parts)


def _show_faults(result: Result, out: Console) -> None:
    out.print("\n[bold]Faults[/bold]")
    for fault in result.faults:
        out.print(f"  {fault.at_s:g} s: {fault.what} of {fault.target}; {_aftermath(fault)}", markup=False)


def _aftermath(fault: FaultResult) -> str:
    parts = []
    if fault.leaders_back_s is None:
        parts.append("partitions without a leader until the end")
    elif fault.leaders_back_s:
        parts.append(f"every partition led again after {fault.leaders_back_s:.1f} s")
    if fault.isr_whole_s is None:
        parts.append("replicas out of sync until the end")
    elif fault.isr_whole_s:
        parts.append(f"all replicas in sync again after {fault.isr_whole_s:.1f} s")
    never = [name for name, took in fault.groups.items() if took is None]
    took = {name: took for name, took in fault.groups.items() if took}
    if never:
        parts.append(f"lag not back to normal: {', '.join(never)}")
    if took:
        slowest = max(took, key=lambda name: took[name])
        parts.append(f"{len(took)} groups fell behind, the slowest ({slowest}) until {took[slowest]:.1f} s after")
    return "; ".join(parts) or "no partition and no group suffered"


def _show_partitions(partitions: list[PartitionResult], out: Console) -> None:
    hurt = [partition for partition in partitions if partition.under_replicated_s or partition.offline_s]
    if not hurt:
        out.print("\nNo partition was under-replicated.")
        return
    worst = max(hurt, key=lambda partition: partition.under_replicated_s)
    offline = [partition for partition in hurt if partition.offline_s]
    text = f"\n{len(hurt)} of {len(partitions)} partitions were under-replicated, {worst.partition} for {worst.under_replicated_s:.1f} s"
    if offline:
        longest = max(offline, key=lambda partition: partition.offline_s)
        text += f"; {len(offline)} had no live leader, {longest.partition} for {longest.offline_s:.1f} s"
    out.print(text + ".", markup=False)


def _show_verdict(result: Result, out: Console) -> None:
    out.print("\n[bold]Promises[/bold]")
    broken = [promise for promise in result.promises if not promise.kept]
    for promise in broken:
        out.print(Text(f"  BROKEN  {promise.group}: {promise.promise}: {promise.reason}", style="red"))
    out.print(f"  {len(result.promises) - len(broken)} of {len(result.promises)} kept")
    looked = ", ".join(f"{number:,} {what}" for what, number in result.checks.items())
    out.print(
        f"  Kafka's own guarantees, over {looked or 'nothing'}: {'hold' if not result.broken_checks else 'BROKEN'}"
    )
    for finding in result.broken_checks[:_MOST_FINDINGS]:
        out.print(Text(f"  BROKEN  {finding}", style="red"))
    for finding in result.allowed[:_MOST_FINDINGS]:
        out.print(Text(f"  allowed by the settings: {finding}"))
    if not result.complete:
        out.print(Text("Interrupted: this is what was known by then.", style="yellow"))
    elif result.ok:
        out.print(Text("The design keeps its promises.", style="bold green"))
    else:
        out.print(Text("The design does not keep its promises.", style="bold red"))


def _ms(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
