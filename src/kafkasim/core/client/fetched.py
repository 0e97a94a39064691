"""Which batches of a fetch answer an application may see.

Mirrors:  rdkafka_msgset_reader.c (control batches, aborted transactions of a read_committed consumer).
Rule 1:   work is per batch; a batch is seen whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.model.messages import AbortedTransaction
from kafkasim.core.model.records import RecordBatch


def visible_batches(
    batches: Sequence[RecordBatch], aborted: Sequence[AbortedTransaction]
) -> tuple[list[RecordBatch], int]:
    """Data batches that were not aborted, and what all of them weigh."""
    if aborted:
        return _committed_batches(batches, aborted)
    size_bytes = 0
    has_control = False
    for batch in batches:
        size_bytes += batch.size_bytes
        if batch.is_control:
            has_control = True
    if has_control:
        return [batch for batch in batches if not batch.is_control], size_bytes
    return list(batches), size_bytes


def _committed_batches(
    batches: Sequence[RecordBatch], aborted: Sequence[AbortedTransaction]
) -> tuple[list[RecordBatch], int]:
    waiting = sorted(aborted, key=lambda transaction: transaction.first_offset, reverse=True)
    open_aborted: dict[int, None] = {}
    visible: list[RecordBatch] = []
    size_bytes = 0
    for batch in batches:
        size_bytes += batch.size_bytes
        while waiting and waiting[-1].first_offset <= batch.last_offset:
            open_aborted[waiting.pop().producer_id] = None
        if batch.is_control:
            # The first marker behind an aborted transaction's records is its abort.
            open_aborted.pop(batch.producer_id, None)
        elif not (batch.is_transactional and batch.producer_id in open_aborted):
            visible.append(batch)
    return visible, size_bytes
