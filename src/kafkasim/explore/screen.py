"""One screen about one failing run: what was promised, what broke, the plan, who did what, why, and what does not matter.

Inputs:   the cluster at the end of the run, the injection, the trial; what shrinking found.      Effects: lines of text.
Rule 1:   every line is derived from the run; where nothing is known a line is left out.
Rule 2:   the lanes end where the promise broke, have at most twelve rows, and show what concerns the record that the finding names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from kafkasim.check.report import Finding
from kafkasim.core.model.history import DONE, PROCESS_FAULTS, Acked, Committed, Effected, Happened, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.explore.causes import Cause, cause_of
from kafkasim.explore.shrink import Shrunk
from kafkasim.explore.telling import event_text
from kafkasim.explore.trial import RAISED, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection
from kafkasim.sim.user_lines import user_line

MOST_ROWS = 12
#: What `Cluster.check` calls a task that ended with an exception.
TASK_FAILED = "task-failed"
_MOST_STEPS = 6
_WIDTH = 30
_PLACE = re.compile(r"([\w.-]+)-(\d+)[: ]")
_OFFSET = re.compile(r"offsets? (\d+)")
_GROUP = re.compile(r"group ([\w.-]+)")
_FAULTS = (*PROCESS_FAULTS, "disk full", "disk failing")
_TWICE = ("at-most-once", "effectively-once", "log-duplicate")


@attrs.frozen
class Subject:
    """The record that a finding names, as far as it names one."""

    tp: TopicPartition | None
    offset: int | None
    group: str | None

    @classmethod
    def of(cls, finding: Finding) -> Subject:
        place, offset, group = (pattern.search(finding.text) for pattern in (_PLACE, _OFFSET, _GROUP))
        named = None if place is None else TopicPartition(place[1], int(place[2]))
        return cls(
            finding.tp or named,
            None if offset is None else int(offset[1]),
            None if group is None else group[1],
        )


def screen(
    cluster: Cluster,
    injection: Injection,
    trial: Trial,
    cause: Cause | None = None,
    shrunk: Shrunk | None = None,
    replay_line: str = "",
) -> list[str]:
    """Lines, the telling one first. A run that kept its promises has little to say."""
    if trial.ok:
        return [f"ok: {trial.scenario}, seed {trial.seed}, {trial.virtual_s:.3f} virtual seconds; {_count(trial)}"]
    finding = next((one for one in trial.findings if cause is not None and cause_of(one) == cause), trial.findings[0])
    subject = Subject.of(finding)
    events = list(cluster.history)
    made, broken = _made(events, subject), _broken(events, finding, subject)
    name = f"{finding.invariant} ({finding.id})" if finding.id else finding.invariant
    lines = [f"FAIL {name}  {finding.text.splitlines()[0] if finding.text else ''}"]
    others = [name for name in trial.broken if name != finding.invariant]
    if others:
        lines.append(f"also broken: {', '.join(others)}")
    lines += _plan(trial, injection, shrunk)
    breach = _raised(cluster, trial, finding) if broken is None else [event_text(broken)]
    if made is not None or breach:
        lines.append("")
    if made is not None:
        lines.append(f"promise made    {event_text(made)}")
    lines += [f"{'' if at else 'promise broken':<16}{text}" for at, text in enumerate(breach)]
    lines += lanes(events, injection, cluster.broker_ids(), subject, finding.at_us if broken is None else broken.at_us)
    lines += _why(cluster, subject)
    lines += _irrelevant(cluster, trial, shrunk)
    if replay_line:
        lines += ["", f"replay: {replay_line}"]
    return lines


def _count(trial: Trial) -> str:
    return str(trial.report).splitlines()[0]


def _plan(trial: Trial, injection: Injection, shrunk: Shrunk | None) -> list[str]:
    if shrunk is None:
        fired = f"{len(trial.fired)} of {len(trial.plan)} faults fired" if len(trial.plan) else "no faults"
        head = f"seed {trial.seed}, {trial.virtual_s:.3f} virtual seconds, {fired}"
        never = [f"  never: {fault}" for fault in trial.unfired]
        return [head, *(f"  {fired}" for fired in injection.fired), *never]
    lines = [f"shrunk: {shrunk.summary}"]
    lines.append("minimal plan:" if len(trial.plan) else "minimal plan: no faults at all")
    lines += [f"  {fault}" for fault in trial.plan]
    sizes = {**shrunk.sizes_before, **shrunk.recipe.sizes}
    if sizes:
        lines.append("sizes: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    lines += [f"  {one}" for one in shrunk.counterfactuals]
    if len(shrunk.mends) == 1:
        lines.append(f"the single change that lets it pass: {shrunk.mends[0].change}")
    return lines


# --- promise and breach ----------------------------------------------------------------------------------------------


def _made(events: Sequence[HistoryEvent], subject: Subject) -> HistoryEvent | None:
    """The acknowledgement of the record."""
    if subject.tp is None or subject.offset is None:
        return None
    for event in events:
        if isinstance(event, Acked) and event.tp == subject.tp and event.base_offset >= 0:
            first = event.base_offset + event.start
            if first <= subject.offset < event.base_offset + event.stop:
                return event
    return None


def _broken(events: Sequence[HistoryEvent], finding: Finding, subject: Subject) -> HistoryEvent | None:
    """The event after which the promise could not be kept any more."""
    tp, offset = subject.tp, subject.offset
    if tp is None or offset is None:
        return None
    if finding.invariant in ("at-least-once", "commit-ahead"):
        return next(
            (
                event
                for event in events
                if isinstance(event, Committed) and any(place == tp and to > offset for place, to, _ in event.offsets)
            ),
            None,
        )
    if finding.invariant in _TWICE:
        done = [
            event
            for event in events
            if isinstance(event, Effected) and (event.tp, event.offset, event.phase) == (tp, offset, DONE)
        ]
        return done[1] if len(done) > 1 else None
    return next(
        (
            event
            for event in reversed(events)
            if isinstance(event, Happened)
            and event.subject == tp
            and event.kind in ("truncated", "became leader")
            and int(str(dict(event.fields).get("log_end", offset + 1))) <= offset
        ),
        None,
    )


def _raised(cluster: Cluster, trial: Trial, finding: Finding) -> list[str]:
    """Of user code that raised: when, who, what, and the line that somebody can change."""
    who, error, at_us = "the scenario's own code", trial.error, finding.at_us
    if finding.invariant == TASK_FAILED:
        failed = [task for task in cluster.scheduler.failed if f"task {task.name!r} " in finding.text]
        task = next((one for one in failed if one.ended_us == at_us), None)
        if task is None:
            return []
        who, error = f"task {task.name!r}", task.exception
    elif finding.invariant != RAISED:
        return []
    if error is None or at_us is None:
        return []
    line = user_line(error)
    what = f"{at_us / 1e6:.6f} s  {who}: {type(error).__name__}: {error}".splitlines()[0]
    return [what] if line is None else [what, f"at {line}"]


# --- lanes -----------------------------------------------------------------------------------------------------------


def lanes(
    events: Sequence[HistoryEvent],
    injection: Injection,
    servers: Sequence[int],
    subject: Subject,
    until_us: int | None = None,
) -> list[str]:
    """A head and at most twelve rows: servers side by side, faults and clients in the last column."""
    rows: list[tuple[int, int, str, bool]] = []
    for event in events:
        if until_us is not None and event.at_us > until_us:
            break
        if isinstance(event, Happened) and event.node in servers:
            is_fault = event.kind in _FAULTS
            if (
                is_fault
                or (subject.tp is not None and event.subject == subject.tp)
                or event.kind == "controller-active"
            ):
                rows.append((event.at_us, servers.index(event.node), _happened(event), is_fault))
        elif _concerns(event, subject):
            rows.append((event.at_us, len(servers), event_text(event).partition("  ")[2], False))
    for fired in injection.fired:
        at_us = round(fired.at_s * 1e6)
        if until_us is None or at_us <= until_us + 1_000_000:
            rows.append((at_us, len(servers), f"FAULT {fired.fault.what} {', '.join(fired.hit) or 'nobody'}", True))
    rows.sort(key=lambda row: row[0])
    faults = [row for row in rows if row[3]][-MOST_ROWS:]
    others = [row for row in rows if not row[3]]
    room = MOST_ROWS - len(faults)
    chosen = sorted([*faults, *(others[-room:] if room else [])], key=lambda row: row[0])
    if len(chosen) < 2:  # That there is a controller tells nobody anything.
        return []
    used = [column for column in range(len(servers)) if any(row[1] == column for row in chosen)]
    head = (
        f"{'t (s)':>12} "
        + "".join(f"{f'broker {servers[column]}':<{_WIDTH}}" for column in used)
        + "clients and faults"
    )
    return ["", head, *(_row(row, used) for row in chosen)]


def _row(row: tuple[int, int, str, bool], used: list[int]) -> str:
    at_us, column, text, _ = row
    cells = used.index(column) if column in used else len(used)
    return f"{at_us / 1e6:12.6f} " + f"{'.':<{_WIDTH}}" * cells + text


def _happened(event: Happened) -> str:
    fields = dict(event.fields)
    told = [f"{name} {fields[key]}" for key, name in (("leader_epoch", "epoch"), ("log_end", "LEO")) if key in fields]
    isr = fields.get("isr")
    if isinstance(isr, tuple | list):
        told.append(f"ISR {','.join(map(str, isr))}")
    return f"{event.kind.upper() if event.kind in _FAULTS else event.kind} {' '.join(told)}".strip()


def _concerns(event: HistoryEvent, subject: Subject) -> bool:
    tp, offset = subject.tp, subject.offset
    if tp is None or offset is None or isinstance(event, Happened):
        return False
    if isinstance(event, Committed):
        return any(place == tp and to > offset for place, to, _ in event.offsets)
    if isinstance(event, Effected):
        return (event.tp, event.offset) == (tp, offset)
    if isinstance(event, Acked):
        return event.tp == tp and event.base_offset + event.start <= offset < event.base_offset + event.stop
    batch = getattr(event, "batch", None)
    if batch is not None and getattr(event, "tp", None) == tp:
        return bool(batch.offset_at(event.start) <= offset <= batch.offset_at(event.stop - 1))  # type: ignore[union-attr]
    return False


# --- why, and what not -----------------------------------------------------------------------------------------------


def _why(cluster: Cluster, subject: Subject) -> list[str]:
    """The end of the chain of causes, where one is known."""
    if subject.tp is None:
        return []
    place = (subject.tp.topic, subject.tp.partition)
    try:
        if subject.offset is not None:
            told = cluster.why(record=(*place, subject.offset), group=subject.group)
        else:
            told = cluster.why(*place)
    except (KeyError, ValueError, TypeError):
        return []
    return ["", f"cause chain: {told.summary}", *(str(step) for step in told.steps[-_MOST_STEPS:])]


def _irrelevant(cluster: Cluster, trial: Trial, shrunk: Shrunk | None) -> list[str]:
    """What can be other than it is without a change of the verdict, as far as it was tried."""
    parts = []
    if shrunk is not None:
        gone = len(shrunk.before.plan) - len(shrunk.recipe.plan)
        if gone:
            parts.append(f"{gone} other faults")
        if "net.latency" in shrunk.recipe.calm:
            parts.append("latencies")
        sizes = {**shrunk.sizes_before, **shrunk.recipe.sizes}
        parts += [f"{name} above {sizes[name]}" for name, size in shrunk.sizes_before.items() if sizes[name] < size]
        hit = {name for fired in trial.fired for name in fired.hit}
        calm = [str(broker) for broker in cluster.broker_ids() if f"broker {broker}" not in hit]
        if trial.fired and calm and len(calm) < len(cluster.broker_ids()):
            parts.append(f"faults at brokers {', '.join(calm)}")
    return ["", f"irrelevant: {', '.join(parts)}"] if parts else []
