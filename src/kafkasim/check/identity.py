"""When two batches hold the same record: the notion that every oracle of records rests on.

On the simulator a record is its place in the columns that its producer sealed, and every copy of a batch shares them. Around a real
client a batch of one record stands for each record that passed, so columns compare by value there.

Rule 1:   an identity is a hashable value and costs O(1): an oracle looks it up and never compares pairs.
Rule 2:   two different records may be equal by value. An oracle then counts how many were sent, and never takes one look for proof.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kafkasim.core.model.records import RecordBatch


@attrs.define(slots=True)
class Identity:
    """``of`` names the records of a batch; ``is_unique`` is False where two different records may have one name."""

    of: Callable[[RecordBatch], object]
    is_unique: bool


def _columns(batch: RecordBatch) -> object:
    return id(batch.columns)


def _content(batch: RecordBatch) -> object:
    columns = batch.columns
    return columns.keys[0], columns.values[0]


#: Of a simulated cluster: a batch is the same where it shares its columns.
BY_COLUMNS = Identity(_columns, is_unique=True)
#: Of batches of one record, as recorded around a real client: key and value; partition and offset are what oracles look up by.
BY_CONTENT = Identity(_content, is_unique=False)
