"""The invariants that histories are held against: their names, what each promises, and the settings that promise it.

Rule 1:   whatever an oracle reports is listed here, and the other way round: ``docs/invariants.md`` is made of it, and a test holds it.
Rule 2:   ``rank`` orders a report: what servers did wrong stands above what clients saw of it, and that above what became of effects.
"""

from __future__ import annotations

import attrs

#: Ranks: what the servers did, what groups and clients did, what became of records, what became of the work on them.
SERVERS, CLIENTS, RECORDS, WORK, LAST = 0, 1, 2, 3, 9

ALWAYS = "always"
DURABLE = "`acks=all`, `min.insync.replicas` 2 or more, no unclean elections, losses within the budget"
VOTERS = "no voter has lost its disk"
METRIC = "a metric: nothing is promised"


@attrs.frozen
class Invariant:
    """``id`` is the catalogue's; ``needs`` what has to be set, or promised, for a breach to be one; ``sees`` black box, or white."""

    id: str
    name: str
    promise: str
    needs: str
    module: str
    rank: int
    sees: str = "history"


_LOG, _ORDER, _READ = "log_oracles", "producer_order", "consumer_oracles"
_REPLICATION, _METADATA, _EFFECTS = "replication_oracle", "metadata_oracle", "effects"
_QUORUM = "quorum_oracle"
_WHITE = "servers"


def _white(id: str, name: str, promise: str, needs: str, module: str) -> Invariant:
    return Invariant(id, name, promise, needs, module, SERVERS, _WHITE)


INVARIANTS: tuple[Invariant, ...] = (
    # --- servers, watched from inside a simulated cluster
    _white(
        "B1", "leader-completeness", "who is elected cleanly holds everything that was committed", DURABLE, _REPLICATION
    ),
    _white("B2", "log-matching", "replicas agree up to their high watermarks", DURABLE, _REPLICATION),
    _white(
        "B3",
        "candidate-completeness",
        "whoever may be elected cleanly holds everything committed",
        DURABLE,
        _REPLICATION,
    ),
    _white(
        "B4",
        "quorum-superset",
        "a leader that is not deposed commits nothing without all of ISR and ELR, however late it hears who they are (KIP-497)",
        ALWAYS,
        _REPLICATION,
    ),
    _white(
        "B5",
        "repeatable-read",
        "what a consumer is given had been committed, and stays where it is",
        DURABLE,
        "told",
    ),
    _white("B6", "one-writer-per-epoch", "one broker writes in a leader epoch", ALWAYS, _REPLICATION),
    _white(
        "B7",
        "global-survival",
        "every committed record is on a replica: on its disk or in its page cache",
        DURABLE,
        _REPLICATION,
    ),
    _white(
        "B8",
        "watermark-sanity",
        "log start <= high watermark <= log end, and no follower is ahead",
        ALWAYS,
        _REPLICATION,
    ),
    _white("B9", "fenced-not-in-isr", "a fenced or stopping broker is in no ISR (KIP-841)", ALWAYS, _METADATA),
    _white("B9", "leader-in-isr", "a leader is in its ISR", ALWAYS, _METADATA),
    _white(
        "B10",
        "recovery-quorum",
        "a partition without leader knows its last leader, and only then (KIP-966)",
        ALWAYS,
        _METADATA,
    ),
    _white(
        "B10", "isr-and-elr", "ISR and ELR have no member in common, and the ISR has replicas only", ALWAYS, _METADATA
    ),
    _white(
        "B11",
        "convergence",
        "once all is healed, replicas equal their leader, and the ISR is full",
        "nothing has happened for twice the longest timers; with all logs compared: `audit`, by hand",
        "rest",
    ),
    _white(
        "P11",
        "weak-ack",
        "what is acknowledged at `acks=all` was committed, by as many replicas as `min.insync.replicas` asks for",
        DURABLE,
        "told",
    ),
    _white("K1", "controller-epoch", "controller epochs rise, and each has one controller", ALWAYS, _REPLICATION),
    _white("K1", "epoch-monotony", "epochs of the metadata log and of brokers never fall", ALWAYS, _METADATA),
    _white("K2", "majority", "a majority of the voters holds what is committed to the metadata log", VOTERS, _QUORUM),
    _white(
        "K4",
        "quorum-watermark",
        "the high watermarks of the quorum rise, and none is beyond what was committed",
        VOTERS,
        _QUORUM,
    ),
    _white("K5", "snapshot-at-start", "a metadata log that was cut has a snapshot up to its start", VOTERS, _QUORUM),
    _white("K6", "leader-snapshot", "a leader of the quorum loads no snapshot", VOTERS, _QUORUM),
    _white(
        "K8",
        "progress",
        "a controller is active",
        "nothing has happened for twice the longest timers",
        "rest",
    ),
    _white("K7", "metadata-match", "what was committed to the metadata log never changes", ALWAYS, _METADATA),
    # --- producers and logs
    Invariant("P1", "acked-loss", "an acknowledged record is in the log", DURABLE, _LOG, RECORDS),
    Invariant(
        "P1b",
        "lost-write",
        "where no log is known: an acknowledged record that readers have passed was read by one",
        DURABLE,
        "lost_writes",
        RECORDS,
    ),
    Invariant(
        "B12",
        "compaction-truth",
        "a compacted log holds what was acknowledged last for each key, or something later; a tombstone for `delete.retention.ms`",
        DURABLE,
        "compaction",
        RECORDS,
    ),
    Invariant(
        "B13",
        "list-offsets-monotone",
        "the end of a partition, as one client is told it, never goes back (KIP-207)",
        "no unclean elections, losses within the budget; who answers is not deposed",
        "ends",
        RECORDS,
    ),
    Invariant("P2", "failed-visible", "a record that definitely failed is nowhere", ALWAYS, _ORDER, RECORDS),
    Invariant(
        "P3", "log-duplicate", "no record is in the log twice", "`enable.idempotence`, one producer", _LOG, RECORDS
    ),
    Invariant(
        "P4",
        "send-reorder",
        "one producer's records of a partition are in the log as they were produced",
        "`enable.idempotence`, or `max.in.flight.requests.per.connection=1`",
        _ORDER,
        RECORDS,
    ),
    Invariant(
        "P5",
        "seq-gap",
        "the sequence numbers of a producer epoch follow one another in the log",
        f"`enable.idempotence`; {DURABLE}",
        _ORDER,
        RECORDS,
    ),
    Invariant(
        "P6", "inconsistent-offset", "an offset holds one record, for everybody and for good", DURABLE, _READ, RECORDS
    ),
    Invariant(
        "P7",
        "realtime-order",
        "what was produced after something was acknowledged comes after it in the log",
        DURABLE,
        _ORDER,
        RECORDS,
    ),
    Invariant(
        "P8", "unknown-fate", "records whose producer does not know: how many are in the log", METRIC, _ORDER, LAST
    ),
    Invariant(
        "P9",
        "key-split",
        "the records of a key are in one partition of a topic",
        "`ordered_by_key`, promised by a group",
        _ORDER,
        CLIENTS,
    ),
    Invariant(
        "P10",
        "send-termination",
        "a producer knows the end of every record within `delivery.timeout.ms`",
        ALWAYS,
        _ORDER,
        RECORDS,
    ),
    # --- readers
    Invariant(
        "R1", "poll-back", "a consumer that keeps a partition is never given an earlier record", ALWAYS, _READ, RECORDS
    ),
    Invariant("R2", "poll-skip", "a consumer that keeps a partition skips no record", ALWAYS, _READ, RECORDS),
    Invariant(
        "R3",
        "position-jump",
        "a reader whose records were truncated does not go on in what replaced them as if nothing had happened",
        "a client that knows leader epochs (KIP-320)",
        "positions",
        CLIENTS,
    ),
    Invariant("R4", "unseen", "a group is given every acknowledged record", "`drained`, promised", _EFFECTS, WORK),
    Invariant("R5", "staleness", "how long acknowledged records waited to be read", METRIC, "positions", LAST),
    Invariant(
        "G9",
        "truncation-silence",
        "no consumer waits behind the end of a log that was cut without having been told",
        "a client that knows leader epochs (KIP-320)",
        "positions",
        CLIENTS,
    ),
    # --- groups, and the work on records
    Invariant(
        "G1", "double-owner", "one member at a time owns a partition, zombies aside", ALWAYS, "ownership", CLIENTS
    ),
    _white("G2", "zombie-commit", "no commit is accepted of a member that the group left behind", ALWAYS, "commits"),
    _white(
        "G6",
        "legal-assignment",
        "a coordinator gives a partition to one member, and takes no epoch back; once at rest a group has given out all of them",
        ALWAYS,
        "ownership",
    ),
    Invariant(
        "G7", "rebalance-bound", "how long a group took to its new assignment", METRIC, "ownership", LAST, _WHITE
    ),
    Invariant(
        "G8",
        "offset-amnesia",
        "a coordinator knows what it accepted",
        "offsets have not expired, and nobody set or deleted them; losses of `__consumer_offsets` within the budget",
        "commits",
        SERVERS,
        "servers; where they note nothing, history",
    ),
    Invariant(
        "G3",
        "commit-ahead",
        "nothing is committed before its work is done",
        "`at_least_once`, promised",
        _EFFECTS,
        CLIENTS,
    ),
    Invariant(
        "K9",
        "disruption",
        "how many controllers were deposed though nothing had happened to them",
        METRIC,
        "disruptions",
        LAST,
        _WHITE,
    ),
    Invariant("Q6", "reorder", "how many pairs of a share group's deliveries came out of order", METRIC, "share", LAST),
    Invariant("G4", "commit-regress", "committed offsets do not go back", "a remark: Kafka accepts it", _EFFECTS, LAST),
    Invariant("G5", "redelivery", "how many deliveries of a group were not the first", METRIC, "positions", LAST),
    Invariant(
        "E1", "at-least-once", "every acknowledged record is worked on", "`at_least_once`, promised", _EFFECTS, WORK
    ),
    Invariant("E2", "at-most-once", "no record is worked on twice", "`at_most_once`, promised", _EFFECTS, WORK),
    Invariant(
        "E3",
        "effectively-once",
        "every record takes effect exactly once",
        "`effectively_once`, promised",
        _EFFECTS,
        WORK,
    ),
    Invariant(
        "E4",
        "key-order",
        "first effects of a key come in the order of its records",
        "`ordered_by_key`, promised",
        _EFFECTS,
        WORK,
    ),
    Invariant(
        "E4",
        "stale-overwrite",
        "nothing older takes effect over something newer",
        "`ordered_by_key`, promised",
        _EFFECTS,
        WORK,
    ),
    Invariant(
        "E7", "recovery", "a group does not stand still longer than promised", "`recovery_s`, promised", _EFFECTS, WORK
    ),
    Invariant("E9", "lag", "a group is not further behind than promised", "`max_lag`, promised", _EFFECTS, WORK),
    Invariant(
        "E5",
        "conservation",
        "each acknowledged record is in one place: how many are where; a table and the topics that mirror it hold the same",
        "`mirrors`, promised by topics; else a metric",
        "branches",
        WORK,
    ),
    Invariant(
        "E6",
        "branch-convergence",
        "groups that were given everything worked on the same records; topics hold the same",
        "`drained`, promised by each; `same_records`, promised by topics",
        "branches",
        WORK,
    ),
    Invariant(
        "E8",
        "head-of-line-stall",
        "the head of a partition moves while records wait behind it",
        "`recovery_s`, promised",
        "branches",
        WORK,
    ),
    # --- share groups
    Invariant("Q1", "accept-then-redeliver", "what was accepted is not given out again", ALWAYS, "share", CLIENTS),
    Invariant("Q2", "lock-overlap", "one member at a time holds a record", ALWAYS, "share_states", SERVERS, _WHITE),
    Invariant(
        "Q2b", "effect-overlap", "one member at a time works on a record", "a remark: locks run out", "share", LAST
    ),
    Invariant(
        "Q3",
        "over-delivery",
        "no delivery count is above the limit",
        "the limit was not lowered",
        "share_states",
        SERVERS,
        _WHITE,
    ),
    Invariant(
        "Q4", "archived-unprocessed", "nothing is archived without work", "`no_archived`, promised", "share", WORK
    ),
    Invariant(
        "Q5", "stuck", "what is available is given out before later records", ALWAYS, "share_states", SERVERS, _WHITE
    ),
    Invariant(
        "Q7", "legal-state", "records change their state as KIP-932 says", ALWAYS, "share_states", SERVERS, _WHITE
    ),
    Invariant(
        "G3",
        "accept-ahead",
        "nothing is accepted before its work is done",
        "`at_least_once`, promised",
        "share",
        CLIENTS,
    ),
)

BY_NAME = {invariant.name: invariant for invariant in INVARIANTS}
BY_ID = {invariant.id: invariant for invariant in reversed(INVARIANTS)}
