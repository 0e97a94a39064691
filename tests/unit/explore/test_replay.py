"""Replay files: the same run again, or one line that says why not; whatever is done to the file."""

from __future__ import annotations

import functools
import json
import os
import random
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.explore import replay_file
from kafkasim.explore.causes import Cause
from kafkasim.explore.recipe import Fork, Recipe
from kafkasim.explore.replay import Differs, replay
from kafkasim.explore.replay_file import Replay, record
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_text import plan_from_json, plan_from_toml, plan_to_json, plan_to_toml

#: How many mutations of each kind; 10,000 when CI has a night.
EXAMPLES = int(os.environ.get("KAFKASIM_EXAMPLES", "1500"))
TARGET = Target.of("tests.unit.explore.scenes:commits_first")
_KILL = Plan((Fault("kill", "client", on="OffsetCommit.arrived", for_s=5.0),))


@functools.cache
def _recorded() -> Replay:
    recipe = Recipe(4, _KILL, (Fork(9.0, 3),), sizes={"calls": 3})
    return record(TARGET, recipe, Cause("at-least-once", "…"), ("a note",))


def test_a_run_comes_back_event_by_event(tmp_path: Path) -> None:
    """From its file: choices, fingerprint and findings."""
    file = tmp_path / "deep" / "run.json"
    _recorded().save(file)
    loaded = Replay.load(file)
    assert loaded == _recorded()
    again = replay(loaded)
    assert again.is_same
    assert "at-least-once" in again.trial.broken
    assert again.trial.fingerprint == loaded.fingerprint
    assert replay(loaded, loose=True).trial.fingerprint == loaded.fingerprint


def test_the_first_choice_that_differs_is_named_with_its_label(tmp_path: Path) -> None:
    """When the code has changed since; the same seed and plan can be run all the same."""
    scene = tmp_path / "scene.py"
    code = """
        import kafkasim

        def scene(cluster):
            cluster.create_topic("calls")
            cluster.produce("calls", ["1", "2"])
    """
    scene.write_text(textwrap.dedent(code))
    recorded = record(Target.of(f"{scene}:scene"), Recipe(1))
    assert replay(recorded).is_same
    changed = attrs.evolve(recorded, tape=[*recorded.tape[:400], *recorded.tape[401:]])
    with pytest.raises(Differs, match=r"use \d+ of '[a-z.]+'.*--loose"):
        replay(changed)
    longer = attrs.evolve(recorded, tape=[*recorded.tape, recorded.tape[-1]])
    with pytest.raises(Differs, match="the run ended before its tape"):
        replay(longer)
    scene.write_text(textwrap.dedent(code).replace('"2"', '"2", "3"'))
    scenario_for.__globals__["_cache"].clear()
    for name in [name for name in __import__("sys").modules if name.endswith("_scene")]:
        del __import__("sys").modules[name]
    with pytest.raises(Differs, match="its source has changed since"):
        replay(recorded)
    assert replay(recorded, loose=True).trial.ok


def test_the_same_choices_with_another_run_are_told_by_the_span_of_time() -> None:
    """Fingerprints, and the checkpoints between which they part."""
    recorded = _recorded()
    first, *others = recorded.checkpoints
    other = attrs.evolve(recorded, fingerprint="0" * 16, checkpoints=((first[0], "00000000"), *others))
    with pytest.raises(Differs, match=r"fingerprint .* they part between 0\.000000 s and"):
        replay(other)
    judged = attrs.evolve(recorded, findings=())
    with pytest.raises(Differs, match="judged otherwise: 2 findings, recorded 0"):
        replay(judged)


def test_files_of_other_versions_and_targets_are_refused() -> None:
    """Before anything runs."""
    with pytest.raises(ConfigurationError, match=r"recorded by kafkasim 9\.9"):
        replay(attrs.evolve(_recorded(), version="9.9"))
    with pytest.raises(ConfigurationError, match="model 0"):
        replay(attrs.evolve(_recorded(), model=0))
    with pytest.raises(ConfigurationError, match="No module named"):
        replay(attrs.evolve(_recorded(), target="no_such_module:scene"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is no JSON"),
        ("import os", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "no replay file"),
        ('{"seed": 3, "plan": {"faults": []}}', "no replay file"),
        ('{"kafkasim replay": 2}', "format 2, this kafkasim reads 1"),
        ('{"kafkasim replay": 1, "digest": "x"}', "was changed or damaged"),
    ],
)
def test_foreign_files_are_refused_in_one_line(text: str, message: str) -> None:
    """Never a traceback."""
    with pytest.raises(ConfigurationError, match=message) as problem:
        Replay.from_text(text, "x.json")
    assert str(problem.value).startswith("x.json: ")
    assert "\n" not in str(problem.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    """By the system's own words."""
    with pytest.raises(ConfigurationError, match="No such file"):
        Replay.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="no text"):
        Replay.load(tmp_path / "binary")


# --- mutations -------------------------------------------------------------------------------------------------------


def _mutated_text(dice: random.Random, text: str) -> str:
    """One to three letters changed, a piece cut out, doubled, or the end cut off."""
    for _ in range(1 + dice.randrange(3)):
        start = dice.randrange(len(text)) if text else 0
        stop = min(len(text), start + dice.choice((1, 1, 2, 9, 200)))
        way = dice.randrange(5)
        if way == 0:
            text = text[:start] + text[stop:]
        elif way == 1:
            text = text[:stop] + text[start:]
        elif way == 2:
            text = text[:start]
        else:
            text = text[:start] + chr(dice.choice((32, 34, 44, 48, 57, 91, 123, 178, 0x1F600))) + text[start + 1 :]
    return text


def _refused_or(check: Callable[[], None]) -> bool:
    """True: it was refused, in one line."""
    told = ""
    try:
        check()
    except ConfigurationError as problem:
        told = str(problem)
    assert "\n" not in told
    assert len(told) < 2000
    return bool(told)


def test_a_mutated_file_is_refused_or_is_the_same() -> None:
    """Its digest tells."""
    text, dice, refused = _recorded().to_text(), random.Random(1), 0

    for _ in range(EXAMPLES):
        mutated = _mutated_text(dice, text)

        def check(mutated: str = mutated) -> None:
            assert Replay.from_text(mutated) == _recorded()

        refused += _refused_or(check)
    assert refused > EXAMPLES * 0.9


_JUNK = (None, True, -1, 0, 3, 1e300, "", "x", "²", "9" * 30, [], [1], {}, {"x": 1}, "12s", "client", "Produce.sent")


def _mutated_values(dice: random.Random, value: Any) -> Any:
    """Somewhere inside, something else."""
    if isinstance(value, dict) and value and dice.randrange(8):
        key = dice.choice(list(value))
        changed = dict(value)
        if dice.randrange(10) == 0:
            del changed[key]
        else:
            changed[key] = _mutated_values(dice, value[key])
        return changed
    if isinstance(value, list) and value and dice.randrange(8):
        index = dice.randrange(len(value))
        return [*value[:index], _mutated_values(dice, value[index]), *value[index + 1 :]]
    if isinstance(value, str) and value and dice.randrange(2):
        return _mutated_text(dice, value)
    return dice.choice(_JUNK)


def _signed(values: dict[str, Any]) -> str:
    values = {key: value for key, value in values.items() if key != "digest"}
    return json.dumps({**values, "digest": replay_file._digest(values)})


def _read(text: str) -> Replay | None:
    try:
        return Replay.from_text(text)
    except ConfigurationError:
        return None


def test_a_forged_file_is_refused_or_read_and_never_gives_another_result_without_a_word() -> None:
    """Mutated inside, with a digest that fits: what can still be read runs as recorded, or is said to differ."""
    values, dice = json.loads(_recorded().to_text()), random.Random(2)
    refused, replayed, equal = 0, 0, 0
    for number in range(EXAMPLES):
        changed = _mutated_values(dice, values)
        forged = _signed(changed) if isinstance(changed, dict) else json.dumps(changed)
        read = _read(forged)
        if read is None:
            refused += 1
            continue
        if number % 15 or read.recipe.sizes.get("calls", 0) > 1000:
            continue
        replayed += 1

        def check(read: Replay = read) -> None:
            again = replay(read)
            assert (again.trial.fingerprint, tuple(again.trial.findings)) == (read.fingerprint, read.findings)

        equal += not _refused_or(check)
    assert refused > EXAMPLES // 4
    assert replayed > equal


_PLAN = Plan(
    (
        Fault("crash", "leader:orders-0", on="Produce.answered", nth=3, for_s=2.5),
        Fault("partition", "broker:1", at_s=3.0, for_s=1.0, against="broker:2", one_way=True),
        Fault("slow", "any", when="behind:orders-0 > 100", factor=20.0),
    )
)


@pytest.mark.parametrize("form", ["json", "toml"])
def test_a_mutated_plan_is_refused_or_is_a_plan(form: str) -> None:
    """Text and values."""
    text = plan_to_json(_PLAN) if form == "json" else plan_to_toml(_PLAN)
    read = plan_from_json if form == "json" else plan_from_toml
    dice, refused = random.Random(3), 0
    values = json.loads(plan_to_json(_PLAN))
    for number in range(EXAMPLES):
        mutated = _mutated_text(dice, text)
        if form == "json" and number % 2:
            mutated = json.dumps(_mutated_values(dice, values))

        def check(mutated: str = mutated) -> None:
            plan = read(mutated)
            assert plan_from_json(plan_to_json(plan)) == plan

        refused += _refused_or(check)
    assert refused > EXAMPLES // 3
