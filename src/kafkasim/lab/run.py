"""Run a design: a cluster, its workloads and groups, its faults, and at the end the verdict.

Rule 1:   the workload's clock starts a second after every group has joined (its members have looked up by then where to start); times
          of faults count from there.
Rule 2:   virtual time passes in short steps outside every task, so that progress can be told and Ctrl-C ends with what is known.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import attrs

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetFetchRequest
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster
from kafkasim.lab.design import Design, FaultDesign, GroupDesign, ShareGroupDesign
from kafkasim.lab.measure import LATENCY_SAMPLES, SAMPLE_US, Sampler, quantile
from kafkasim.lab.members import Group
from kafkasim.lab.process import Process
from kafkasim.lab.result import FaultResult, GroupResult, PartitionResult, Result, WorkloadResult
from kafkasim.lab.share_members import ShareGroup, told_of_shares
from kafkasim.lab.verdict import (
    HARMFUL,
    LogAtEnd,
    back_us,
    judge,
    losses,
    not_in_log,
    processing_text,
    recovery_us,
    share_losses,
)
from kafkasim.lab.workload import Workload, surge_factor
from kafkasim.sim.links import Link

_STEP_US = 1_000_000
_SETTLE_US = 60_000_000
_LOOK_UP_US = 1_000_000


@attrs.define(slots=True)
class Progress:
    """Where a run stands: virtual and wall seconds so far, virtual seconds in all (with the whole drain)."""

    virtual_s: float
    total_s: float
    wall_s: float
    records: int
    delivered: int


def run_design(
    design: Design,
    *,
    seed: int | None = None,
    duration_us: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_end: Callable[[Cluster, Result], None] | None = None,
) -> Result:
    """Run ``design`` (or a shorter or longer part of it) and judge it.

    ``should_stop`` is asked every virtual second: when it says so, what is known by then is judged, and ``complete`` is False.
    ``on_end`` sees the cluster before it is gone: for pictures.
    """
    run = DesignRun(design, seed, duration_us, on_progress, should_stop, on_end)
    # Records by the hundred thousand are no garbage: looking for cycles among them again and again costs a sixth of the run.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return run.run()
    finally:
        if was_enabled:
            gc.enable()


class DesignRun:
    """One run of a design, in steps: ``prepare`` a cluster made with ``options``, let it ``work`` and ``drain``, take the ``result``."""

    def __init__(
        self,
        design: Design,
        seed: int | None = None,
        duration_us: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_end: Callable[[Cluster, Result], None] | None = None,
    ) -> None:
        self._design = design
        self._seed = design.cluster.seed if seed is None else seed
        self._duration_us = duration_us or design.cluster.duration_us
        self._on_progress = on_progress
        self._on_end = on_end
        self._should_stop = should_stop or (lambda: False)
        self._began = monotonic()
        self._start_us = 0
        self._complete = False
        self._link = Link()
        self._faults: list[FaultDesign] = []

    def run(self) -> Result:
        with Cluster(seed=self._seed, **self.options) as cluster:
            self.prepare(cluster)
            self.work()
            self.drain()
            result = self.result()
            if self._on_end is not None:
                self._on_end(cluster, result)
            return result

    @property
    def options(self) -> dict[str, Any]:
        """What the cluster is made with, the seed excepted."""
        settings = self._design.cluster
        return {
            "brokers": settings.brokers,
            "racks": settings.racks,
            "config": settings.config,
            "link": self._link,
        }

    # --- Running -----------------------------------------------------------------------------------------------------

    def prepare(self, cluster: Cluster) -> None:
        """Topics, groups that have joined, and workloads that wait for their start."""
        design = self._design
        self._cluster = cluster
        cluster.scheduler.watchdog_seconds = 0  # Members are ours; a slow machine is no fault of theirs.
        for topic in design.topics:
            cluster.create_topic(topic.name, topic.partitions, topic.replication_factor, topic.config)
        self._workloads = [Workload(cluster, workload) for workload in design.workloads]
        malformed = frozenset(value for workload in self._workloads for value in workload.malformed)
        folder = Path(design.file).parent
        self._groups: list[Group | ShareGroup] = [Group(cluster, group, malformed, folder) for group in design.groups]
        self._groups += [ShareGroup(cluster, group, malformed, folder) for group in design.share_groups]
        self._members = {member.name: member for group in self._groups for member in group.members}
        self._reads = {group.design.name: self._topics_of(group.design) for group in self._groups}
        self._sampler = Sampler(
            cluster,
            [topic.name for topic in design.topics],
            {group.design.name: group.measure for group in self._groups},
            self._reads,
        )
        for group in self._groups:
            group.start(self._partitions_of(group.design))
        if self._groups and not cluster.wait(self._is_settled, _SETTLE_US):
            late = [group.design.name for group in self._groups if not group.is_settled]
            raise ConfigurationError(f"after {_SETTLE_US / 1e6:g} s these groups have no assignment: {', '.join(late)}")
        cluster.scheduler.sleep_us(_LOOK_UP_US)

    def _is_settled(self) -> bool:
        return all(group.is_settled for group in self._groups)

    def _topics_of(self, group: GroupDesign | ShareGroupDesign) -> list[str]:
        from kafkasim.core.client.subscription import TopicMatcher

        matcher = TopicMatcher(list(group.topics))
        return [topic.name for topic in self._design.topics if matcher.matches(topic.name)]

    def _partitions_of(self, group: GroupDesign | ShareGroupDesign) -> list[TopicPartition]:
        return [
            TopicPartition(topic.name, number)
            for topic in self._design.topics
            if topic.name in self._reads[group.name]
            for number in range(topic.partitions)
        ]

    def work(self) -> None:
        """Let the workload pass, with the faults of the design."""
        cluster = self._cluster
        self._start_us = cluster.now_us
        self._sampler.begin()
        for workload in self._workloads:
            workload.begin(self._duration_us)
        for fault in self._design.faults:
            if fault.at_us <= self._duration_us:
                self._faults.append(fault)
                cluster.kernel.call_at(self._start_us + fault.at_us, self._inflict, fault)
        end_us = self._start_us + self._duration_us
        while cluster.now_us < end_us and not self._should_stop():
            self._step(end_us)

    def drain(self) -> None:
        """Let groups work off what is left, as long as the design gives them."""
        cluster = self._cluster
        end_us = self._start_us + self._duration_us + self._design.cluster.drain_us
        while cluster.now_us < end_us and not self._should_stop() and not self._is_drained():
            self._step(end_us)
        self._complete = not self._should_stop()

    def _step(self, end_us: int) -> None:
        cluster = self._cluster
        cluster.scheduler.sleep_us(min(_STEP_US, end_us - cluster.now_us))
        if self._on_progress is not None:
            total_us = self._duration_us + self._design.cluster.drain_us
            self._on_progress(
                Progress(
                    (cluster.now_us - self._start_us) / 1e6,
                    total_us / 1e6,
                    monotonic() - self._began,
                    sum(workload.arrived for workload in self._workloads),
                    sum(group.measure.delivered for group in self._groups),
                )
            )

    def _is_drained(self) -> bool:
        if any(workload.unfinished for workload in self._workloads):
            return False
        return all(self._sampler.lag_of(group.measure) == 0 for group in self._groups)

    def _inflict(self, fault: FaultDesign) -> None:
        cluster = self._cluster
        if fault.member is not None:
            self._cluster.note_fault(0, f"member {fault.member}: {fault.what}")
            _MEMBER_FAULTS[fault.what](self._members[fault.member])
        elif fault.between is not None:
            left, right = fault.between
            if fault.what == "partition":
                cluster.network.partition(left, right, one_way=fault.one_way)
            elif fault.what == "heal":
                cluster.network.heal(left, right, one_way=fault.one_way)
            else:
                cluster.network.slow(left, right, fault.factor, fault.extra_us / 1000)
        elif fault.what == "heal":
            cluster.network.heal()
        else:
            brokers = cluster.broker(fault.broker) if fault.broker is not None else cluster.zone(str(fault.rack))
            if fault.what == "disk_slow":
                brokers.disk.slow(fault.extra_us / 1e6)
            elif fault.what in _DISK_FAULTS:
                getattr(brokers.disk, _DISK_FAULTS[fault.what])()
            else:
                getattr(brokers, "start" if fault.what == "restart" else fault.what)()

    # --- Judging -----------------------------------------------------------------------------------------------------

    def result(self) -> Result:
        """The verdict."""
        cluster = self._cluster
        self._sampler.end()
        virtual_s = (cluster.now_us - self._start_us) / 1e6
        fingerprint = cluster.fingerprint()
        logs = self._logs()
        report = cluster.check()
        faults = [self._fault_result(index, fault) for index, fault in enumerate(self._faults)]
        reports = [report for workload in self._workloads for report in workload.reports]
        gone = not_in_log(reports, logs)
        self._shares = told_of_shares(cluster.history, self._groups)
        groups = [self._group_result(group, logs, gone) for group in self._groups]
        allowed = self._allowed_losses()
        promises = [
            promise
            for group, result in zip(self._groups, groups)
            for promise in judge(result, group.design.promises, faults, allowed)
        ]
        return Result(
            design=self._design.file,
            seed=self._seed,
            virtual_seconds=virtual_s,
            wall_seconds=monotonic() - self._began,
            fingerprint=fingerprint,
            complete=self._complete,
            workloads=[_workload_result(workload) for workload in self._workloads],
            groups=[group for group in groups if group.share is None],
            faults=faults,
            promises=promises,
            partitions=[
                PartitionResult(str(tp), measure.under_replicated_us / 1e6, measure.offline_us / 1e6)
                for tp, measure in self._sampler.partitions.items()
            ],
            checks=dict(report.looked_at),
            broken_checks=[str(finding) for finding in report.findings],
            allowed=[str(finding) for finding in report.allowed],
            model=self._model(),
            share_groups=[group for group in groups if group.share is not None],
        )

    def _logs(self) -> dict[TopicPartition, LogAtEnd]:
        cluster = self._cluster
        logs = {}
        for topic in self._design.topics:
            for number, state in enumerate(cluster.describe_topic(topic.name)):
                tp = TopicPartition(topic.name, number)
                logs[tp] = LogAtEnd(cluster.log(tp), state.log_start_offset or 0, state.high_watermark is not None)
        return logs

    def _group_result(
        self, group: Group | ShareGroup, logs: Mapping[TopicPartition, LogAtEnd], gone: list[DeliveryReport]
    ) -> GroupResult:
        measure, design = group.measure, group.design
        topics = self._reads[design.name]
        share = None
        if isinstance(group, ShareGroup):
            told = self._shares[design.name]
            share = told.result(group.measure)
            loss = share_losses(measure, topics, logs, gone, told.archived, group.starts())
        else:
            in_hand: dict[TopicPartition, int] = {}
            for member in group.members:
                for part in member.in_hand:
                    offset = part.batch.offset_at(part.start)
                    in_hand[part.tp] = min(in_hand.get(part.tp, offset), offset)
            loss = losses(measure, topics, logs, gone, self._committed(design.name), in_hand)
        return GroupResult(
            name=design.name,
            members=design.members,
            delivered=measure.delivered,
            duplicated=measure.duplicated,
            loss=loss,
            dead_lettered=measure.dead_lettered,
            max_lag=measure.max_lag,
            final_lag=self._sampler.lag_of(measure),
            latency_p50_ms=quantile(measure.latency_ms, 0.5),
            latency_p99_ms=quantile(measure.latency_ms, 0.99),
            longest_stall_s=measure.longest_stall_us / 1e6,
            stalled_at_s=max(0, measure.stalled_at_us - self._start_us) / 1e6,
            commits=measure.commits,
            failed_commits=measure.failed_commits,
            rebalances=measure.rebalances,
            errors=dict(measure.errors),
            processing=processing_text(design.processing, design.handler),
            share=share,
        )

    def _committed(self, group: str) -> dict[TopicPartition, int]:
        """What the group has committed; nothing where its coordinator does not answer."""
        try:
            response = self._cluster.ask(
                OffsetFetchRequest(group, None, require_stable=False), ("coordinator", group), timeout=30.0
            )
        except TimeoutError:
            return {}
        return {tp: value.offset for tp, value, error in response.partitions if error is ErrorCode.NONE}

    def _fault_result(self, index: int, fault: FaultDesign) -> FaultResult:
        at_us = self._start_us + fault.at_us
        end_us = self._cluster.now_us + 1
        until_us = end_us
        for later in self._faults[index + 1 :]:
            if later.what in HARMFUL and later.at_us > fault.at_us:
                until_us = self._start_us + later.at_us
                break
        history = self._sampler.replication
        groups: dict[str, float | None] = {}
        if fault.what in HARMFUL:
            for group in self._groups:
                floor = int(2 * self._rate_at(fault.at_us, self._reads[group.design.name]))
                groups[group.design.name] = _seconds(recovery_us(group.measure.lags, at_us, until_us, floor))
        return FaultResult(
            at_s=fault.at_us / 1e6,
            what=fault.what,
            target=fault.target,
            leaders_back_s=_seconds(back_us([(when, offline) for when, _, offline in history], at_us, end_us)),
            isr_whole_s=_seconds(back_us([(when, under) for when, under, _ in history], at_us, end_us)),
            groups=groups,
        )

    def _rate_at(self, at_us: int, topics: list[str]) -> float:
        """Records a second that arrive in these topics."""
        return sum(
            workload.rate_per_second * surge_factor(workload.surge, at_us)
            for workload in self._design.workloads
            if workload.topic in topics
        )

    def _allowed_losses(self) -> str:
        """Why the settings in use let acknowledged records be lost; empty where they do not."""
        for workload in self._workloads:
            acks = workload.config["acks"]
            if acks != -1:
                return f"the settings allow it: acks={acks}"
        for topic in self._design.topics:
            if topic.replication_factor < 2 or int(topic.config.get("min.insync.replicas", 1)) < 2:
                return f"the settings allow it: {topic.name} promises one copy (min.insync.replicas)"
        return ""

    def _model(self) -> dict[str, str]:
        """The parameters beside which every latency is to be read."""
        link = self._link
        milliseconds = (link.latency_us / 1000, (link.latency_us + link.jitter_us) / 1000)
        model = {
            "network latency, one way": f"{milliseconds[0]:g} to {milliseconds[1]:g} ms",
            "network bandwidth": f"{link.bandwidth_bytes_per_s / 1e6:g} MB/s a link",
            "broker work and disk": "no time",
            "lag and replication": f"sampled every {SAMPLE_US / 1e6:g} s",
            "latency": f"about {LATENCY_SAMPLES} records of each batch that a member takes, in whole ms",
        }
        for workload in self._workloads:
            config = workload.config
            model[f"producer {workload.design.name}"] = (
                f"linger {config['linger.ms']:g} ms, acks {config['acks']}, arrivals told every {workload.tick_us / 1000:g} ms"
            )
        for group in self._groups:
            consumer = group.members[0].config
            kind = "share group" if isinstance(group, ShareGroup) else "group"
            model[f"{kind} {group.design.name}"] = (
                f"{processing_text(group.design.processing, group.design.handler)}; batch {group.design.batch:,}, fetch.min.bytes "
                f"{consumer['fetch.min.bytes']}, fetch.wait.max.ms {consumer['fetch.wait.max.ms']}"
            )
        return model


_DISK_FAULTS = {"disk_full": "fill", "disk_fail": "fail", "disk_heal": "heal"}
_MEMBER_FAULTS: dict[str, Callable[[Process], None]] = {
    "crash": Process.crash,
    "shutdown": Process.shutdown,
    "restart": Process.start,
    "pause": Process.pause,
    "resume": Process.resume,
}


def _workload_result(workload: Workload) -> WorkloadResult:
    return WorkloadResult(
        name=workload.design.name,
        topic=workload.design.topic,
        arrived=workload.arrived,
        acked=workload.acked,
        failed=workload.failed,
        unknown=workload.unfinished,
        waited_for_room=workload.waited,
        failures=dict(workload.failures),
        ack_p50_ms=quantile(workload.ack_latency_ms, 0.5),
        ack_p99_ms=quantile(workload.ack_latency_ms, 0.99),
    )


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / 1e6
