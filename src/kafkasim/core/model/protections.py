"""The protections that Kafka gained one by one, each of which can be taken away again (``features=`` of a cluster).

Mirrors:  the KIPs and issues named below; Kafka 4.3 has all of them and no switch for any but the last two.
Rule 1:   True is Kafka 4.3. A protection that is off brings back the behaviour, and the bugs, from before its KIP.
Rule 2:   each is asked in one place, when a component picks its strategy; no machine reads them while it works.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.define(slots=True, frozen=True)
class Protections:
    """What stands between a cluster and the bugs of older Kafkas; by default everything does."""

    #: KIP-101. Off: a follower cuts its log at its own high watermark, and so can drop what was acknowledged or keep what diverges.
    epoch_truncation: bool = True
    #: KIP-279. Off: a leader that never saw the requested epoch tells where the next one began, as if it had seen it, instead of
    #: naming the largest epoch that it knows below it; logs can diverge after fast elections.
    epoch_answer_below: bool = True
    #: KIP-320. Off: nobody checks the leader epoch of a fetch, so a zombie follower or leader is taken for a live one.
    fetch_epoch_check: bool = True
    #: KIP-320. Off: a follower cuts its log as told by its leader of whatever epoch, even one that is about to cut its own.
    truncation_epoch_check: bool = True
    #: KIP-320. Off: metadata and redirections carry no leader epoch, so that consumers cannot ask whether their position survived.
    leader_epoch_in_metadata: bool = True
    #: KAFKA-14372. Off: the leader sends consumers to a replica of their rack though it is not in sync, and as far behind as can be.
    in_sync_read_replica: bool = True
    #: KIP-392. Off: a follower gives consumers all that it has, though its leader may not have committed it, and may never do so.
    committed_follower_reads: bool = True
    #: KIP-207. Off: a new leader tells its high watermark as the end of the log, though it may be behind what the last one told.
    settled_end_offset: bool = True
    #: KAFKA-7128. Off: a replica may join the ISR at a new leader's high watermark, which may lag behind what was acknowledged.
    epoch_start_check: bool = True
    #: KIP-497. Off: the high watermark counts the committed ISR alone, and a replica that just asked to join, which the
    #: controller may elect, can miss what was acknowledged.
    maximal_isr: bool = True
    #: KIP-497. Off: the controller takes an AlterPartition whatever partition epoch it was made in.
    partition_epoch_check: bool = True
    #: KIP-841. Off: a fenced broker, or one that is shutting down, may be in the ISR.
    fenced_broker_check: bool = True
    #: KIP-903. Off: a replica joins the ISR though it was restarted, perhaps empty, since it fetched.
    broker_epoch_check: bool = True
    #: KIP-455. Off: a reassignment lets replicas go before those that replace them are in the ISR, and for a while too few hold the data.
    adding_replicas_check: bool = True
    #: KIP-966. Off: no eligible leader replicas; the last replica stays in the ISR, and is trusted, however it died.
    eligible_leader_replicas: bool = True
    #: KIP-966. Off: a replica stays eligible though its broker came back from an unclean shutdown, without its unflushed data.
    unclean_shutdown_detection: bool = True
    #: KAFKA-19476. Off: a record whose lock ran out while its state could not be written is delivered again, beyond the limit.
    share_limit_check: bool = True
    #: KIP-996. Off: a voter that hears nothing begins a new epoch at once, and unseats a leader that the others follow.
    pre_vote: bool = True

    @classmethod
    def of(cls, features: Mapping[str, object] | None) -> Protections:
        """Read ``features=``: a protection's name to False (off) or True. Raises ValueError for anything else."""
        values: dict[str, bool] = {}
        for name, value in (features or {}).items():
            if name not in PROTECTION_NAMES:
                raise ValueError(_unknown(name))
            if not isinstance(value, bool):
                raise ValueError(f"features: {name!r} is {value!r}; expected False (protection off) or True")
            values[name] = value
        return cls(**values)


PROTECTION_NAMES: tuple[str, ...] = tuple(field.name for field in attrs.fields(Protections))

#: Kafka 4.3 as it is.
ALL_PROTECTIONS = Protections()


def _unknown(name: object) -> str:
    import difflib

    close = difflib.get_close_matches(str(name), PROTECTION_NAMES, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"features: unknown protection {name!r}; {hint}known are {', '.join(PROTECTION_NAMES)}"
