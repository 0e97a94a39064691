"""Protections that can be taken away: how they are read, and that they reach the nodes."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.core.model.protections import ALL_PROTECTIONS, PROTECTION_NAMES, Protections


def test_without_a_word_everything_is_on() -> None:
    """Nothing said is Kafka 4.3."""
    assert Protections.of(None) == Protections.of({}) == ALL_PROTECTIONS
    assert all(getattr(ALL_PROTECTIONS, name) is True for name in PROTECTION_NAMES)


@pytest.mark.parametrize("name", PROTECTION_NAMES)
def test_one_protection_goes_alone(name: str) -> None:
    """Each can be taken away, and only that one goes."""
    protections = Protections.of({name: False})
    assert [other for other in PROTECTION_NAMES if not getattr(protections, other)] == [name]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (
            {"epoch_truncations": False},
            "did you mean 'epoch_truncation'? known are epoch_truncation, epoch_answer_below",
        ),
        ({"elr": False}, "unknown protection 'elr'; known are epoch_truncation"),
        ({"maximal_isr": "off"}, "'maximal_isr' is 'off'; expected False (protection off) or True"),
        ({"maximal_isr": 0}, "'maximal_isr' is 0; expected False"),
    ],
)
def test_what_cannot_be_read_is_named(features: dict[str, object], text: str) -> None:
    """The error names the thing, the value and the way out."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Protections.of(features)
    assert text in str(caught.value)


def test_features_reach_brokers_and_controllers() -> None:
    """``features=`` of the cluster is one value in every node, by arguments and by URL."""
    url = "sim://?brokers=1&features=maximal_isr:false,broker_epoch_check:true"
    for cluster in (kafkasim.Cluster(brokers=1, features={"maximal_isr": False}), kafkasim.connect(url)):
        with cluster:
            node = cluster._live_nodes()[0]
            assert node.broker is not None
            assert node.controller is not None
            assert node.broker.ctx.protections == node.controller.protections == Protections(maximal_isr=False)


def test_a_url_that_takes_protections_away_is_read_strictly() -> None:
    """A switch is true or false; a real cluster has none."""
    with pytest.raises(ValueError, match="expected name:false, comma-separated, not 'maximal_isr'"):
        kafkasim.connect("sim://?features=maximal_isr")
    with pytest.raises(kafkasim.Unsupported, match="real Kafka has no such switches"):
        kafkasim.connect("kafka://somewhere:9092?features=maximal_isr:false")
