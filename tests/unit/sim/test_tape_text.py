"""Tapes as text: the same after a round trip, and an error for anything else."""

from __future__ import annotations

import base64
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkasim.errors import ConfigurationError
from kafkasim.sim.choices import Choice, Choices
from kafkasim.sim.tape_text import tape_from_values, tape_to_values

_DRAWS = st.tuples(st.sampled_from(["a", "net.latency", "ü"]), st.integers(1, 1 << 130), st.integers(0, 1 << 130))


@given(st.lists(_DRAWS, max_size=30))
def test_a_tape_is_the_same_after_its_text(drawn: list[tuple[str, int, int]]) -> None:
    """Labels, uses, bounds and values, in order."""
    uses: dict[str, int] = {}
    tape = []
    for label, bound, value in drawn:
        uses[label] = uses.get(label, 0) + 1
        tape.append(Choice(label, uses[label], bound, value % bound))
    assert tape_from_values(json.loads(json.dumps(tape_to_values(tape)))) == tape


def test_a_tape_is_small() -> None:
    """Little more than the entropy that was drawn."""
    choices = Choices(1, record=True)
    for _ in range(10_000):
        choices.draw("net.latency", 301)
    assert choices.tape is not None
    assert len(tape_to_values(choices.tape)["packed"]) < 20_000


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "a tape is a table"),
        ({"packed": "", "labels": [1]}, "labels"),
        ({"packed": "!", "labels": []}, "cannot be unpacked"),
        ({"packed": "AAAA", "labels": []}, "cannot be unpacked"),
        ({"packed": _packed(b"\x01\x05\x03"), "labels": []}, "uses label 0 of 0"),
        ({"packed": _packed(b"\x01\x05"), "labels": ["a"]}, "in the middle of a draw"),
        ({"packed": _packed(b"\x01\x05\x05"), "labels": ["a"]}, "draws 5 below 5"),
        ({"packed": _packed(b"\x80"), "labels": ["a"]}, "in the middle of a number"),
        ({"packed": _packed(b"\x80" * 9999), "labels": ["a"]}, "a number that no draw has"),
        ({"packed": _packed(b"\x01\x05\x03"), "labels": ["a"], "draws": 2}, "holds 1 draws"),
    ],
)
def test_what_is_no_tape_is_refused(values: object, message: str) -> None:
    """Clearly, never from inside."""
    with pytest.raises(ConfigurationError, match=message):
        tape_from_values(values)


def test_any_mutation_is_refused_or_read() -> None:
    """Bytes changed at random: a tape or a clear error."""
    choices = Choices(1, record=True)
    for index in range(200):
        choices.draw(f"label {index % 3}", 5 + index)
    assert choices.tape is not None
    text = json.dumps(tape_to_values(choices.tape))
    dice = random.Random(5)
    refused = 0
    for _ in range(500):
        letters = list(text)
        for _ in range(1 + dice.randrange(3)):
            letters[dice.randrange(len(letters))] = chr(32 + dice.randrange(95))
        try:
            tape_from_values(json.loads("".join(letters)))
        except (ConfigurationError, ValueError):
            refused += 1
    assert refused > 400
