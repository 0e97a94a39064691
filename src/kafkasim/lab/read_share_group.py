"""Read one [[share_groups]] of a design: what a share group can be, and what only a consumer group has, with a word about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.core.model.client_config import SHARE_CONSUMER
from kafkasim.core.model.server_config import BROKER_CONFIGS, GROUP_CONFIGS
from kafkasim.lab.design import ACKNOWLEDGEMENT_MODES, POISONS, SHARE_COMMITS, ShareGroupDesign
from kafkasim.lab.reading import Table, shown

if TYPE_CHECKING:
    from kafkasim.lab.read_design import Reader

_SHARE_CONFIGS = {name: key for name, key in GROUP_CONFIGS.items() if name.startswith("share.")}
#: What somebody may say who thinks of a consumer group, and the answer.
_NOT_OF_SHARE_GROUPS = {
    "instance_ids": "share groups have no static members",
    "batch_wait": "a poll returns one fetch: say fetch.min.bytes and fetch.wait.max.ms in [share_groups.consumer]",
}
_SAID_OTHERWISE = {"share.acknowledgement.mode": "acknowledgement_mode", "max.poll.records": "batch"}


def read_share_group(reader: Reader, table: Table) -> ShareGroupDesign:
    """A checked share group; DesignError for a mistake."""
    from kafkasim.lab.read_design import read_promise

    for key, why in _NOT_OF_SHARE_GROUPS.items():
        if key in table:
            raise table.error(key, f"{table.name(key)}: {why}")
    name = table.text("name")
    members = _members(reader, table)
    topics = table.texts("topics")
    for topic in topics:
        if topic.startswith("^"):
            text = f"{table.name('topics')} = {shown(topic)}: a share group takes names, no regular expressions"
            raise table.error("topics", text)
        reader.topic_name(table, "topics", topic)
    handler = table.text("handler", None)
    if handler is not None and not all(handler.partition(":")):
        raise table.bad("handler", '"module:function"')
    dead_letter_topic = table.text("dead_letter_topic", None)
    if dead_letter_topic is not None:
        reader.topic_name(table, "dead_letter_topic", dead_letter_topic)
    poison = table.choice("poison", POISONS, "accept")
    mode = table.choice("acknowledgement_mode", ACKNOWLEDGEMENT_MODES, "implicit" if poison == "accept" else "explicit")
    _check_poison(table, poison, mode, handler)
    group = ShareGroupDesign(
        name=name,
        topics=topics,
        members=members,
        processing=reader.read_processing(table),
        handler=handler,
        acknowledgement_mode=mode,
        commit=table.choice("commit", SHARE_COMMITS, "poll"),
        batch=table.whole("batch", 500, low=1, high=1_000_000),
        poison=poison,
        releases=table.whole("releases", None, low=1),
        dead_letter_topic=dead_letter_topic,
        config=_group_config(reader, table),
        consumer_config=_consumer_config(reader, table, name),
        promises=read_promise(table.table("promises")),
    )
    table.finish()
    return group


def _members(reader: Reader, table: Table) -> int:
    most = _broker_int(reader, "group.share.max.size")
    members: int = table.whole("members", 1, low=1)
    if members > most:
        raise table.bad("members", f"at most {most} members (group.share.max.size; [cluster.config] may raise it)")
    return members


def _broker_int(reader: Reader, key: str) -> int:
    return int(reader.cluster.config.get(key) or BROKER_CONFIGS[key].default or 0)


def _check_poison(table: Table, poison: str, mode: str, handler: str | None) -> None:
    if poison != "accept" and mode == "implicit":
        text = f"{table.name('poison')} = {shown(poison)}: implicit acknowledgement accepts every record"
        raise table.error("poison", f'{text}; say acknowledgement_mode = "explicit"')
    if "releases" in table and poison != "release":
        raise table.error("releases", f'{table.name("releases")}: only with poison = "release"')
    if "dead_letter_topic" in table and poison == "accept":
        text = (
            f'{table.name("dead_letter_topic")}: say poison = "reject" or "release" to tell what becomes of the record'
        )
        raise table.error("dead_letter_topic", text)


def _group_config(reader: Reader, table: Table) -> dict[str, str]:
    """The group's configs, within the bounds that the brokers set."""
    config: dict[str, str] = reader.server_config(table, _SHARE_CONFIGS, "share group")
    for name, text in config.items():
        bounds = []
        for end in ("min", "max"):
            key = f"group.share.{end}.{name.removeprefix('share.')}"
            if key in BROKER_CONFIGS:
                bounds.append((end, key, _broker_int(reader, key)))
        for end, key, bound in bounds:
            if (int(text) < bound) if end == "min" else (int(text) > bound):
                word = "at least" if end == "min" else "at most"
                problem = f"{name} = {text}: expected {word} {bound} ({key}, which [cluster.config] may change)"
                raise table.option_error("config", name, problem)
    return config


def _consumer_config(reader: Reader, table: Table, name: str) -> dict[str, Any]:
    for setting in table.options("consumer"):
        if setting in _SAID_OTHERWISE:
            text = f"{setting}: say it by {_SAID_OTHERWISE[setting]!r} of the share group"
            raise table.option_error("consumer", setting, text)
        if setting == "auto.offset.reset":
            text = f"{setting}: a share group has it as share.auto.offset.reset in [share_groups.config]"
            raise table.option_error("consumer", setting, text)
    return reader.client_config(table, "consumer", name, SHARE_CONSUMER)
