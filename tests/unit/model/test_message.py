"""``@message`` and ``@slotted``: classes as attrs would make them, whose constructors are compiled when first called."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any, ClassVar

import attrs
import pytest

from kafkasim.core.model.message import aside, fresh, message, slotted


@message
class Point:
    x: int
    name: str = "origin"


@message
class Noted:
    KIND: ClassVar[int] = 7

    text: str
    seen: Any = aside(init=False)


@slotted
class Counter:
    name: str
    count: int = 0


@attrs.define(slots=True)
class Written:
    point: Point


def test_a_message_shows_its_fields() -> None:
    """A failing comparison of messages can be read."""
    assert repr(Point(1)) == "Point(x=1, name='origin')"
    assert repr(Written(Point(2, "a"))) == "Written(point=Point(x=2, name='a'))"


def test_messages_are_equal_by_their_fields() -> None:
    """Two messages that say the same are the same to whoever compares them."""
    assert Point(1) == Point(1)
    assert Point(1) != Point(2)


def test_a_message_of_its_own_words_keeps_them() -> None:
    """A class that says how it is shown is shown so."""

    @message
    class Secret:
        value: str

        def __repr__(self) -> str:
            return "Secret(...)"

    assert repr(Secret("a")) == "Secret(...)"


def test_a_constructor_takes_positions_names_and_defaults_from_the_first_call_on() -> None:
    """The first instance is made like every later one, and what is missing or unknown is said."""

    @message
    class Fresh:
        x: int
        name: str = "origin"

    assert (Fresh(1).x, Fresh(1).name, Fresh(name="a", x=2)) == (1, "origin", Fresh(2, "a"))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Fresh()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        Fresh(1, y=2)  # type: ignore[call-arg]
    assert list(inspect.signature(Fresh).parameters) == ["x", "name"]


def test_a_field_aside_is_no_argument_and_is_not_compared() -> None:
    """What somebody keeps with a message does not make it another message."""
    one, other = Noted("a"), Noted("a")
    assert one.seen is None
    object.__setattr__(one, "seen", [1])
    assert one == other
    assert repr(one) == "Noted(text='a')"
    assert Noted.KIND == 7


def test_a_slotted_object_changes_and_is_equal_only_to_itself() -> None:
    """What a machine keeps has an identity, and no field that was not declared."""
    counter = Counter("a")
    counter.count += 1
    assert counter.count == 1
    assert counter != Counter("a", 1)
    assert {counter: "kept"}[counter] == "kept"
    with pytest.raises(AttributeError):
        counter.total = 1  # type: ignore[attr-defined]


def test_a_fresh_default_is_each_instance_s_own() -> None:
    """A list that nobody gave is shared with nobody, and one that was given is kept."""

    @slotted
    class Basket:
        name: str
        items: list[str] = fresh(factory=list)

    one, other, given = Basket("a"), Basket("b"), ["kept"]
    one.items.append("x")
    assert (one.items, other.items) == (["x"], [])
    assert Basket("c", given).items is given
    assert attrs.evolve(Basket("d"), items=given).items is given  # type: ignore[misc]


def test_attrs_reads_messages_as_its_own() -> None:
    """Code that walks the fields of attrs classes walks those of messages."""
    point: Any = Point(1)
    assert [field.name for field in attrs.fields(Point)] == ["x", "name"]
    assert attrs.fields(Point).name.default == "origin"
    assert attrs.evolve(point, name="b") == Point(1, "b")
    assert attrs.asdict(point) == {"x": 1, "name": "origin"}


def test_messages_are_copied_and_pickled_by_their_fields() -> None:
    """Histories cross processes, frozen or not."""
    assert copy.deepcopy(Point(1)) == pickle.loads(pickle.dumps(Point(1))) == Point(1)
