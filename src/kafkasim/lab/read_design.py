"""Read a design file: TOML in, a checked ``Design`` out, or the first mistake with its line.

Rule 1:   what can be known to be impossible without running is refused here: unknown names, a replication factor above the brokers,
          a fault at a broker that does not exist, a client setting that librdkafka would refuse.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

from kafkasim.core.model.client_config import ClientConfig, ConfigError
from kafkasim.core.model.client_config_table import CLIENT_CONFIG_KEYS
from kafkasim.core.model.names import topic_name_problem
from kafkasim.core.model.server_config import BROKER_CONFIGS, TOPIC_CONFIGS, ServerConfigKey
from kafkasim.lab.design import (
    ARRIVALS,
    COMMITS,
    DISTRIBUTIONS,
    FAULTS,
    SURGES,
    ClusterDesign,
    Design,
    FaultDesign,
    GroupDesign,
    KeyDesign,
    Processing,
    Promises,
    ShareGroupDesign,
    TopicDesign,
    WorkloadDesign,
)
from kafkasim.lab.read_share_group import read_share_group
from kafkasim.lab.reading import DURATIONS, RATES, DesignError, Table, duration_us, hint, rate_per_second, shown
from kafkasim.lab.toml_lines import lines_of

_MOST_BYTES = 100_000_000
_SURGE_ALLOWED = "a list of [time, factor] in ascending order of time, or one of " + ", ".join(
    f'"{name}"' for name in SURGES
)


def read_design(path: str | FilePath) -> Design:
    """The design in a file; ``DesignError`` for a mistake in it, OSError if it cannot be read."""
    file = FilePath(path)
    return parse_design(file.read_text(encoding="utf-8"), str(path), file.parent)


def parse_design(text: str, name: str = "design.toml", folder: FilePath | None = None) -> Design:
    """The design that ``text`` holds; files that it names are looked for in ``folder``."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise DesignError(name, _line_of(problem, text), f"not valid TOML: {problem}") from None
    return Reader(Table(values, name, lines_of(text)), name, folder or FilePath()).read()


def _line_of(problem: tomllib.TOMLDecodeError, text: str) -> int:
    """tomllib tells the line in its text: "(at line 3, column 7)" or "(at end of document)"."""
    words = str(problem).rpartition("at line ")[2].partition(",")[0]
    return int(words) if words.isdigit() else text.count("\n") + 1


class Reader:
    def __init__(self, root: Table, file: str, folder: FilePath) -> None:
        self._root = root
        self._file = file
        self._folder = folder
        self._topics: dict[str, TopicDesign] = {}
        self.cluster = ClusterDesign()

    def read(self) -> Design:
        root = self._root
        self.cluster = self._read_cluster(root.table("cluster"))
        for table in root.tables("topics"):
            topic = self._read_topic(table)
            self._topics[topic.name] = topic
        if not self._topics:
            raise root.error(None, "a design needs at least one [[topics]]")
        workloads = [self._read_workload(table) for table in root.tables("workloads")]
        groups: list[GroupDesign] = []
        for table in root.tables("groups"):
            group = self._read_group(table)
            if any(other.name == group.name for other in groups):
                raise table.error(
                    "name", f"{table.name('name')} = {shown(group.name)}: there is a group of this name already"
                )
            groups.append(group)
        share_groups: list[ShareGroupDesign] = []
        for table in root.tables("share_groups"):
            share_group = read_share_group(self, table)
            for kind, others in (("group", groups), ("share group", share_groups)):
                if any(other.name == share_group.name for other in others):
                    text = f"{table.name('name')} = {shown(share_group.name)}: there is a {kind} of this name already"
                    raise table.error("name", text)
            share_groups.append(share_group)
        every: list[GroupDesign | ShareGroupDesign] = [*groups, *share_groups]
        faults = [self._read_fault(table, every) for table in root.tables("faults")]
        self._read_promises(every)
        root.finish()
        faults.sort(key=lambda fault: fault.at_us)
        return Design(self._file, self.cluster, list(self._topics.values()), workloads, groups, faults, share_groups)

    # --- Cluster and topics ----------------------------------------------------------------------------------------

    def _read_cluster(self, table: Table) -> ClusterDesign:
        brokers = table.whole("brokers", 3, low=1, high=1000)
        racks = table.texts("racks", None)
        if racks is not None and len(racks) != brokers:
            raise table.bad("racks", f"one rack for each of the {brokers} brokers")
        cluster = ClusterDesign(
            brokers=brokers,
            racks=racks,
            seed=table.whole("seed", 0),
            config=self.server_config(table, BROKER_CONFIGS, "broker"),
            duration_us=table.duration("duration", 60_000_000, low_us=1),
            drain_us=table.duration("drain", 30_000_000),
        )
        table.finish()
        return cluster

    def _read_topic(self, table: Table) -> TopicDesign:
        name = table.text("name")
        problem = topic_name_problem(name)
        if problem is not None:
            raise table.error("name", f"{table.name('name')} = {shown(name)}: {problem}")
        if name in self._topics:
            raise table.error("name", f"{table.name('name')} = {shown(name)}: there is a topic of this name already")
        brokers = self.cluster.brokers
        factor = table.whole("replication_factor", min(3, brokers), low=1)
        if factor > brokers:
            raise table.bad("replication_factor", f"at most {brokers}, the number of brokers")
        topic = TopicDesign(
            name=name,
            partitions=table.whole("partitions", 1, low=1, high=1_000_000),
            replication_factor=factor,
            config=self.server_config(table, TOPIC_CONFIGS, "topic"),
        )
        table.finish()
        return topic

    def server_config(self, table: Table, known: Mapping[str, ServerConfigKey], what: str) -> dict[str, Any]:
        config = table.options("config")
        for name, value in config.items():
            key = known.get(name)
            if key is None:
                problem = (
                    f"unknown {what} config {name!r} (= {shown(value)}): docs/fidelity.md lists those that are modelled"
                )
                raise table.option_error("config", name, problem + hint(name, known))
            text = ("true" if value else "false") if isinstance(value, bool) else str(value)
            try:
                key.parse(text)
            except ValueError as problem_found:
                raise table.option_error("config", name, str(problem_found)) from None
            config[name] = text
        return config

    def topic_name(self, table: Table, key: str, name: str) -> str:
        if name not in self._topics:
            known = ", ".join(self._topics)
            raise table.error(
                key,
                f"{table.name(key)} = {shown(name)}: no [[topics]] of this name, there are {known}"
                + hint(name, self._topics),
            )
        return name

    # --- Workloads -------------------------------------------------------------------------------------------------

    def _read_workload(self, table: Table) -> WorkloadDesign:
        topic = self.topic_name(table, "topic", table.text("topic"))
        times = self._read_arrival_times(table)
        if times is None and "rate" not in table:
            raise table.error(None, f"{table.name()}: expected rate ({RATES}) or arrivals_csv")
        if times is not None and "rate" in table:
            raise table.error(
                "rate", f"{table.name('rate')}: arrivals_csv says when records arrive, so there is no rate"
            )
        workload = WorkloadDesign(
            name=table.text("name", topic),
            topic=topic,
            rate_per_second=table.take("rate", rate_per_second, RATES, 0.0),
            surge=table.take("surge", self._surge, _SURGE_ALLOWED, ((0, 1.0),)),
            arrivals=table.choice("arrivals", ARRIVALS, "regular"),
            arrival_times_us=times,
            key=self._read_key(table),
            value_bytes=table.take("value_bytes", _byte_range, "a size in bytes, or [smallest, largest]", (200, 200)),
            malformed_share=table.number("malformed", 0.0, high=1.0),
            headers=self._read_headers(table),
            producers=table.whole("producers", 1, low=1, high=10_000),
            producer_config=self.client_config(table, "producer"),
        )
        table.finish()
        return workload

    def _surge(self, value: Any) -> tuple[tuple[int, float], ...]:
        """(time, factor) points, from a named shape or as listed."""
        duration = self.cluster.duration_us
        if isinstance(value, str):
            if value not in SURGES:
                raise ValueError
            return tuple((round(share * duration), factor) for share, factor in SURGES[value])
        points = []
        for at, factor in value:
            if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 0:
                raise ValueError
            points.append((duration_us(at), float(factor)))
        if not points or any(left[0] > right[0] for left, right in pairwise(points)):
            raise ValueError
        return tuple(points)

    def _read_arrival_times(self, table: Table) -> tuple[int, ...] | None:
        """Seconds from the start, the first column of each row; a first row that is no number is a heading."""
        name = table.text("arrivals_csv", None)
        if name is None:
            return None
        try:
            rows = list(csv.reader((self._folder / name).read_text(encoding="utf-8").splitlines()))
        except OSError as problem:
            raise table.error(
                "arrivals_csv", f"{table.name('arrivals_csv')} = {shown(name)}: {problem.strerror}"
            ) from None
        times: list[int] = []
        for number, row in enumerate(rows, 1):
            if not row or not row[0].strip():
                continue
            try:
                times.append(round(float(row[0]) * 1_000_000))
            except ValueError:
                if number > 1:
                    problem_text = f"{name}:{number}: {shown(row[0])}: expected seconds from the start"
                    raise table.error("arrivals_csv", problem_text) from None
        if any(time < 0 for time in times):
            raise table.error("arrivals_csv", f"{name}: expected no negative times")
        return tuple(sorted(times))

    def _read_key(self, table: Table) -> KeyDesign:
        kind = table.choice("key", ("none", "unique", "pool"), "none")
        prefix = table.text("key_prefix", "key-")
        if kind != "pool":
            for key in ("key_count", "key_skew"):
                if key in table:
                    raise table.error(key, f'{table.name(key)}: only with key = "pool"')
            table.whole("key_count", 0)
            table.number("key_skew", 0.0)
            return KeyDesign(kind, prefix)
        return KeyDesign(
            kind, prefix, table.whole("key_count", low=1, high=10_000_000), table.number("key_skew", 0.0, high=10.0)
        )

    def _read_headers(self, table: Table) -> tuple[tuple[str, str], ...]:
        headers = table.options("headers")
        for name, value in headers.items():
            try:
                str(value).format(id=0, key="", producer=0)
            except (KeyError, IndexError, ValueError):
                problem = f"{name} = {shown(value)}: expected a text in which only {{id}}, {{key}} and {{producer}} stand for something"
                raise table.option_error("headers", name, problem) from None
        return tuple((name, str(value)) for name, value in headers.items())

    def client_config(
        self, table: Table, kind: str, group: str | None = None, made_as: str | None = None
    ) -> dict[str, Any]:
        """Checked as a client (``made_as`` where its kind is not the table's name) would be made with it.

        librdkafka's words for what it refuses.
        """
        config = {
            name: ("true" if value else "false") if isinstance(value, bool) else value
            for name, value in table.options(kind).items()
        }
        for name in config:
            if name not in CLIENT_CONFIG_KEYS:
                problem = f"unknown {kind} config {name!r} (= {shown(config[name])})" + hint(name, CLIENT_CONFIG_KEYS)
                raise table.option_error(kind, name, problem)
            if name in ("bootstrap.servers", "metadata.broker.list", "group.id"):
                raise table.option_error(kind, name, f"{name}: the design says this itself")
        given: dict[str, Any] = {} if group is None else {"group.id": group}
        for name in config:
            given[name] = config[name]
            try:
                ClientConfig.parse(made_as or kind, given)
            except ConfigError as refused:
                if len(given) == len(config) + (group is not None) or "Failed to create" not in refused.text:
                    raise table.option_error(kind, name, refused.text.strip()) from None
        return config

    # --- Groups ----------------------------------------------------------------------------------------------------

    def _read_group(self, table: Table) -> GroupDesign:
        name = table.text("name")
        members = table.whole("members", 1, low=1, high=100_000)
        commit = table.choice("commit", COMMITS, "after")
        consumer = self.client_config(table, "consumer", name)
        for setting in ("enable.auto.commit", "group.instance.id"):
            if setting in consumer:
                better = "commit" if setting == "enable.auto.commit" else "instance_ids"
                raise table.option_error("consumer", setting, f"{setting}: say it by {better!r} of the group")
        handler = table.text("handler", None)
        if handler is not None and not all(handler.partition(":")):
            raise table.bad("handler", '"module:function"')
        topics = table.texts("topics")
        dead_letter_topic = table.text("dead_letter_topic", None)
        for topic in topics:
            if not topic.startswith("^"):
                self.topic_name(table, "topics", topic)
        if dead_letter_topic is not None:
            self.topic_name(table, "dead_letter_topic", dead_letter_topic)
        group = GroupDesign(
            name=name,
            topics=topics,
            members=members,
            processing=self.read_processing(table),
            handler=handler,
            commit=commit,
            batch=table.whole("batch", 500, low=1, high=1_000_000),
            batch_wait_us=table.duration("batch_wait", 0),
            instance_ids=self._read_instance_ids(table, name, members),
            dead_letter_topic=dead_letter_topic,
            consumer_config=consumer,
            promises=read_promise(table.table("promises"), archives=False),
        )
        table.finish()
        return group

    def read_processing(self, table: Table) -> Processing:
        """A time per record, or a table."""
        allowed = f"{DURATIONS} (per record), or a table with per_record, per_batch, distribution, p99"
        as_table = table.take("processing", lambda value: isinstance(value, dict), allowed, False)
        if not as_table:
            return Processing(per_record_us=table.take("processing", _exact_us, allowed, 0.0))
        inner = table.table("processing")
        distribution = inner.choice("distribution", DISTRIBUTIONS, "constant")
        processing = Processing(
            per_record_us=inner.take("per_record", _exact_us, DURATIONS, 0.0),
            per_batch_us=inner.duration("per_batch", 0),
            distribution=distribution,
            p99_us=inner.take("p99", _exact_us, DURATIONS, 0.0),
        )
        if (
            distribution == "lognormal"
            and not processing.per_record_us < processing.p99_us <= 14 * processing.per_record_us
        ):
            raise inner.error(
                "p99", f"{inner.name('p99')}: a lognormal time needs a p99 above its mean (and at most 14 times it)"
            )
        if distribution != "lognormal" and "p99" in inner:
            raise inner.error("p99", f'{inner.name("p99")}: only with distribution = "lognormal"')
        inner.finish()
        return processing

    def _read_instance_ids(self, table: Table, name: str, members: int) -> tuple[str, ...]:
        def convert(value: Any) -> tuple[str, ...]:
            if value is True:
                return tuple(f"{name}-{number + 1}" for number in range(members))
            if value is False:
                return ()
            ids = tuple(str(item) for item in value)
            if len(set(ids)) != members or isinstance(value, str):
                raise ValueError
            return ids

        allowed = f"true, false, or a list of {members} different ids, one for each member"
        ids: tuple[str, ...] = table.take("instance_ids", convert, allowed, ())
        return ids

    # --- Faults and promises ---------------------------------------------------------------------------------------

    def _read_fault(self, table: Table, groups: Sequence[GroupDesign | ShareGroupDesign]) -> FaultDesign:
        what = table.choice("what", FAULTS)
        at_us = table.duration("at")
        cluster = self.cluster
        if at_us > cluster.duration_us + cluster.drain_us:
            total = (cluster.duration_us + cluster.drain_us) / 1e6
            raise table.bad("at", f"a time within the run ({total:g} s with its drain)")
        fault = FaultDesign(
            at_us=at_us,
            what=what,
            broker=table.whole("broker", None, low=1, high=cluster.brokers),
            rack=self._read_rack(table),
            member=table.choice("member", [name for group in groups for name in member_names(group)], None),
            between=table.take(
                "between", self._sides, f"two lists of broker ids (1 to {cluster.brokers}), such as [[1], [2, 3]]", None
            ),
            one_way=table.flag("one_way", False),
            factor=table.number("factor", 1.0, low=1.0),
            extra_us=table.duration("extra", 0),
        )
        self._check_target(table, fault)
        table.finish()
        return fault

    def _read_rack(self, table: Table) -> str | None:
        if "rack" in table and not self.cluster.racks:
            raise table.error("rack", f"{table.name('rack')}: the cluster has no racks: name them in [cluster]")
        rack: str | None = table.choice("rack", self.cluster.racks or (), None)
        return rack

    def _sides(self, value: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        left, right = (tuple(side) if isinstance(side, list) else (side,) for side in value)
        for broker in (*left, *right):
            if not isinstance(broker, int) or not 1 <= broker <= self.cluster.brokers:
                raise ValueError
        return left, right

    def _check_target(self, table: Table, fault: FaultDesign) -> None:
        targets = [key for key in ("broker", "rack", "member") if key in table]
        if fault.what in ("partition", "slow", "heal"):
            if targets:
                raise table.error(
                    targets[0], f"{table.name(targets[0])}: {fault.what!r} is between brokers: say between = [[1], [2]]"
                )
            if fault.between is None and fault.what != "heal":
                raise table.error(
                    "what", f"{table.name('between')} is missing: {fault.what!r} needs two sides, such as [[1], [2, 3]]"
                )
            if (
                fault.what == "slow"
                and fault.factor == 1.0
                and fault.extra_us == 0
                and ("factor" in table or "extra" in table)
            ):
                return  # Said on purpose: back to normal.
            if fault.what == "slow" and "factor" not in table and "extra" not in table:
                raise table.error("what", f"{table.name()}: 'slow' needs factor (of the latency) or extra (a time)")
            return
        if len(targets) != 1:
            raise table.error("what", f"{table.name()}: {fault.what!r} needs one of broker, rack, member")
        if fault.what == "disk_slow" and fault.extra_us <= 0:
            raise table.error("what", f"{table.name()}: 'disk_slow' needs extra, the time that a write takes")
        if fault.member is not None and (fault.what == "power_loss" or fault.what.startswith("disk_")):
            raise table.bad("what", "crash, shutdown, restart, pause or resume for a member")

    def _read_promises(self, groups: Sequence[GroupDesign | ShareGroupDesign]) -> None:
        """[promises] for all groups, share groups too, or [[promises]] each with its ``groups``; a group's own promises win."""
        root = self._root
        is_list = root.take("promises", lambda value: isinstance(value, list), "a table", False)
        tables = root.tables("promises") if is_list else [root.table("promises")]
        names = [group.name for group in groups]
        for table in tables:
            chosen = table.texts("groups", names) if names else []
            for name in chosen:
                if name not in names:
                    raise table.bad("groups", f"groups of this design: {', '.join(names)}{hint(name, names)}", name)
            promises = read_promise(table)
            if promises.no_archived and not any(
                isinstance(group, ShareGroupDesign) and group.name in chosen for group in groups
            ):
                raise table.error("no_archived", f"{table.name('no_archived')}: only share groups archive records")
            for group in groups:
                if group.name in chosen:
                    _fill(group.promises, promises)


def member_names(group: GroupDesign | ShareGroupDesign) -> list[str]:
    """What the members of a group are called."""
    return [f"{group.name}-{number + 1}" for number in range(group.members)]


def read_promise(table: Table, *, archives: bool = True) -> Promises:
    """``archives``: of a group that archives records, which share groups do."""
    promises = Promises(
        at_least_once=table.flag("at_least_once", None),
        no_loss=table.flag("no_loss", None),
        no_duplicates=table.flag("no_duplicates", None),
        no_archived=table.flag("no_archived", None) if archives else None,
        max_lag=table.whole("max_lag", None),
        final_lag=table.whole("final_lag", None),
        latency_p99_us=table.duration("latency_p99", None),
        max_stall_us=table.duration("max_stall", None),
        recovery_us=table.duration("recovery", None),
    )
    table.finish()
    return promises


def _fill(promises: Promises, defaults: Promises) -> None:
    for name in Promises.__slots__:
        if not name.startswith("_") and getattr(promises, name) is None:
            setattr(promises, name, getattr(defaults, name))


def _exact_us(value: object) -> float:
    """Microseconds with a fraction: work on one record may take less than one."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return value * 1e6
    if isinstance(value, str) and value.endswith("us"):
        return float(value[:-2])
    return float(duration_us(value))


def _byte_range(value: Any) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value, value]
    low, high = value
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= _MOST_BYTES):
        raise ValueError
    return low, high
