"""What a cluster is told about its servers, checked: who they are, who votes, and what their properties files say.

Rule 1:   bad input raises ConfigurationError, which names the argument, its value and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafkasim.core.model.protections import Protections
from kafkasim.core.model.server_config import BROKER_CONFIGS
from kafkasim.core.node.server import ServerIdentity
from kafkasim.errors import ConfigurationError


def config_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def static_config(brokers: int, config: Mapping[str, object] | None) -> dict[str, str]:
    replicas = str(min(3, max(brokers, 1)))
    static = {
        "offsets.topic.replication.factor": replicas,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": str(min(2, max(brokers, 1))),
    }
    for name, value in (config or {}).items():
        key = BROKER_CONFIGS.get(name)
        if key is None:
            import difflib  # Only to tell of a mistake.

            close = difflib.get_close_matches(name, BROKER_CONFIGS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else "; docs/fidelity.md lists the keys that are modelled"
            raise ConfigurationError(f"unknown broker config {name!r}{hint}")
        text = config_text(value)
        try:
            key.parse(text)
        except ValueError as problem:
            raise ConfigurationError(str(problem)) from None
        static[name] = text
    return static


def protections_of(features: Mapping[str, object] | None) -> Protections:
    try:
        return Protections.of(features)
    except ValueError as problem:
        raise ConfigurationError(str(problem)) from None


def identities(
    brokers: int,
    controllers: int | Sequence[int] | None,
    racks: Sequence[str | None] | None,
    static: dict[str, str],
    cluster_name: str,
    protections: Protections,
) -> list[ServerIdentity]:
    """Who is a broker, who votes. Broker ids start at 1; an int of controllers adds nodes behind the brokers."""
    if brokers < 1:
        raise ConfigurationError(f"brokers={brokers}: a cluster has at least one")
    broker_ids = list(range(1, brokers + 1))
    if racks is not None and len(racks) != brokers:
        raise ConfigurationError(f"racks names {len(racks)} racks for {brokers} brokers: expected one for each")
    if controllers is None:
        voters = broker_ids
    elif isinstance(controllers, int):
        if controllers < 1:
            raise ConfigurationError(f"controllers={controllers}: a quorum has at least one voter")
        voters = list(range(brokers + 1, brokers + controllers + 1))
    else:
        voters = list(controllers)
        unknown = [voter for voter in voters if voter not in broker_ids]
        if unknown or not voters or len(set(voters)) != len(voters):
            raise ConfigurationError(f"controllers={voters}: expected distinct broker ids out of {broker_ids}")
    return [
        ServerIdentity(
            node_id=node_id,
            host=f"broker-{node_id}.{cluster_name}",
            port=9092,
            rack=racks[node_id - 1] if racks is not None and node_id in broker_ids else None,
            is_broker=node_id in broker_ids,
            voters=tuple(voters),
            cluster_id="kafkasim-AAAAAAAAAAAAA",
            static_config=static,
            protections=protections,
        )
        for node_id in dict.fromkeys([*broker_ids, *voters])
    ]
