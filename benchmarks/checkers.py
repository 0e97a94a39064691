"""How fast histories are judged: records a second over all black-box checkers together, one core, a clean history.

python -m benchmarks.checkers [--records 1000000] [--profile]

The history: four producers, 12 partitions, batches of 100 records, two groups that are given everything in slices of whole batches and
commit after each, a promise to be drained each. Then the same with what user code tells of each record of the first group, which
promises at least once and order by key: that it is done; that it was started, and is done, as sinks tell it; and the same by workers
that go through a batch by key, so that offsets are not in order.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from typing import Any

from benchmarks.measure import machine
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.check.run import check_history
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import DONE, STARTED, Acked, Assigned, Committed, Delivered, Effected, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of

BATCH = 100
PARTITIONS = 12
PRODUCERS = 4
GROUPS = ("billing", "audit")
GOAL_RECORDS_PER_S = 1_000_000


#: What is told of each record, and how far apart in a batch are those that are told of one after the other.
EFFECTS: dict[str, tuple[tuple[str, ...], int]] = {
    "all black-box checkers": ((), 1),
    "with an effect for each record": ((DONE,), 1),
    "with two effects for each record, as sinks tell them": ((STARTED, DONE), 1),
    "with an effect for each record, key by key": ((DONE,), 50),
}


def clean_history(
    records: int, phases: tuple[str, ...] = (), stride: int = 1
) -> tuple[list[HistoryEvent], dict[TopicPartition, LogView]]:
    tps = [TopicPartition("calls", number) for number in range(PARTITIONS)]
    logs: dict[TopicPartition, list[RecordBatch]] = {tp: [] for tp in tps}
    events: list[HistoryEvent] = [Assigned(0, f"c-{group}", group, tuple(tps), group, 1) for group in GROUPS]
    sequences: dict[tuple[int, TopicPartition], int] = {}
    numbers = [0] * PRODUCERS
    for turn in range(records // BATCH):
        writer, tp, now_us = turn % PRODUCERS, tps[turn // PRODUCERS % PARTITIONS], turn * 1000
        batch = batch_of([b"%d" % turn] * BATCH, [b"%d-%d" % (tp.partition, number % 50) for number in range(BATCH)])
        placed = batch.placed(len(logs[tp]) * BATCH, 1)
        placed.producer_id, placed.producer_epoch = writer, 0
        placed.base_sequence = sequences.get((writer, tp), 0)
        sequences[writer, tp] = placed.base_sequence + BATCH
        logs[tp].append(placed)
        numbers[writer] += 1
        more = (numbers[writer], now_us, now_us + 400, 120_000_000, 2, 5)
        error = ErrorCode.NONE
        events.append(
            Acked(now_us + 500, f"p{writer}", tp, batch, 0, BATCH, error, placed.base_offset, -1, True, *more)
        )
        for group in GROUPS:
            events.append(Delivered(now_us + 600, f"c-{group}", group, tp, placed, 0, BATCH))
            if phases and group == GROUPS[0]:
                keys = placed.columns.keys
                order = [index for first in range(stride) for index in range(first, BATCH, stride)]
                events.extend(
                    Effected(
                        now_us + 700, f"c-{group}", group, "table", tp, placed.base_offset + index, keys[index], phase
                    )
                    for index in order
                    for phase in phases
                )
            events.append(Committed(now_us + 800, f"c-{group}", group, ((tp, placed.next_offset, error),)))
    return events, {tp: LogView(batches, 0, 2, 3) for tp, batches in logs.items()}


def promises(*, with_effects: bool) -> list[Guarantee]:
    worked: dict[str, Any] = {"at_least_once": True, "ordered_by_key": True} if with_effects else {}
    return [
        Guarantee(group, ("calls",), drained=True, recovery_s=60.0, **(worked if group == GROUPS[0] else {}))
        for group in GROUPS
    ]


def judge(records: int, phases: tuple[str, ...], stride: int) -> tuple[Report, float]:
    events, logs = clean_history(records, phases, stride)
    started = time.process_time()
    report = check_history(events, logs, guarantees=promises(with_effects=bool(phases)))
    return report, time.process_time() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--profile", action="store_true")
    options = arguments.parse_args()
    print(machine())
    for what, (phases, stride) in EFFECTS.items():
        count = options.records // (2 if phases else 1)
        report, seconds = judge(count, phases, stride)
        assert report.ok, report
        print(
            f"{what}: {count:,} records in {seconds:.2f} s of processor time, {count / seconds:,.0f} a second (goal {GOAL_RECORDS_PER_S:,})"
        )
    if options.profile:
        events, logs = clean_history(options.records)
        with cProfile.Profile() as profile:
            check_history(events, logs, guarantees=promises(with_effects=False))
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
