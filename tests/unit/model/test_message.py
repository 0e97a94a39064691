"""``@message``: values with equality by fields, and a representation as attrs would write it."""

from __future__ import annotations

import attrs

from kafkasim.core.model.message import message


@message
class Point:
    x: int
    name: str = "origin"


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
