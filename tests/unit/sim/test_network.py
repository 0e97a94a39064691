"""The fabric: order, muting, and what each fault does to whom."""

from __future__ import annotations

import pytest
from tests.unit.sim.peers import CALM, Peer, World

from kafkasim.sim.network import Link, Verdict


@pytest.fixture
def world() -> World:
    return World()


def test_first_request_dials(world: World) -> None:
    """A dial costs one round trip, then requests and responses take their latencies."""
    world.a.ask(2, "hello")
    world.run()
    assert world.b.log == [(100, "connection", 1), (300, "request", "hello")]
    assert world.a.log == [(400, "response", "re: hello")]
    assert (world.network.messages, world.network.dials, world.network.dropped) == (2, 1, 0)
    assert not world.kernel.pending()


def test_fifo_whatever_the_latency() -> None:
    """Drawn latencies do not reorder a connection, in either direction."""
    world = World(Link(latency_us=10, jitter_us=5_000))
    names = [f"r{number}" for number in range(50)]
    for name in names:
        world.a.ask(2, name)
        world.run(50)
    world.run(100_000)
    assert [entry[2] for entry in world.b.log if entry[1] == "request"] == names
    assert [entry[2] for entry in world.a.log] == [f"re: {name}" for name in names]


def test_bandwidth_spaces_messages(world: World) -> None:
    """A megabyte a second: a thousand bytes take a millisecond, one after the other."""
    world.connected()
    start_us = world.kernel.now_us
    world.a.ask(2, "x", size_bytes=1_000)
    world.a.ask(2, "y", size_bytes=1_000)
    world.run()
    assert [entry[0] - start_us for entry in world.b.log] == [1_100, 2_100]


def test_muted_until_replied(world: World) -> None:
    """A server gets a connection's next request only after it has answered the one in process."""
    world.b.answers = False
    world.a.ask(2, "first")
    world.a.ask(2, "second")
    world.c.ask(2, "other")
    world.run()
    assert [entry[2] for entry in world.b.log if entry[1] == "request"] == ["first", "other"]
    world.b.answer(silent=True)
    world.run()
    assert world.b.log[-1][1:] == ("request", "second")
    assert world.a.log == []
    world.b.answers = True
    world.b.answer()
    world.b.answer()
    world.run()
    assert world.c.names() == [("response", "re: other")]
    assert world.a.names() == [("response", "re: second")]


def test_dial_of_nobody_is_refused(world: World) -> None:
    """Where no process listens, the machine refuses after one round trip."""
    world.network.detach(2)
    world.a.ask(2, "hello")
    world.run()
    assert world.a.log == [(200, "disconnect", 2, "refused")]


def test_crash_resets_connections_and_loses_inboxes(world: World) -> None:
    """Peers of a process that died are told after one latency; what it had not handled is gone."""
    world.connected()
    world.b.answers = False
    world.a.ask(2, "first")
    world.a.ask(2, "second")
    world.run(150)
    start_us = world.kernel.now_us
    world.network.detach(2)
    world.run()
    assert world.a.log == [(start_us + 100, "disconnect", 2, "reset")]
    reborn = Peer(world, 2)
    world.a.ask(2, "third")
    world.run()
    assert reborn.names() == [("connection", 1), ("request", "third")]


def test_requester_dies(world: World) -> None:
    """A server is told that its peer is gone, and its late answer goes nowhere."""
    world.connected()
    world.b.answers = False
    world.a.ask(2, "first")
    world.run(150)
    world.network.detach(1)
    world.run()
    world.b.answer()
    world.run()
    assert world.b.names() == [("request", "first"), ("closed",)]
    assert world.a.log == []


def test_power_loss_tells_nobody(world: World) -> None:
    """A machine without power sends no reset and refuses no dial; after its restart it resets old connections."""
    world.connected()
    world.network.detach(2, silent=True)
    world.a.ask(2, "lost")
    world.c.ask(2, "dial")
    world.run(5_000_000)
    assert world.a.log == []
    assert world.c.log == []
    reborn = Peer(world, 2)
    world.a.ask(2, "late")
    world.run(5_000_000)
    assert world.a.names() == [("disconnect", 2, "reset")]
    assert reborn.names() == [("connection", 3), ("request", "dial")]


def test_dial_into_a_partition(world: World) -> None:
    """A dial gets no answer: it is tried again, and given up after the timeout."""
    world.network.partition(1, 2)
    world.a.ask(2, "hello")
    world.c.ask(1, "other")
    world.run(2_000_000)
    assert ("request", "other") in world.a.names()
    world.network.partition(1, 2)
    world.network.heal(1, 2)
    world.run(27_999_000)
    assert ("disconnect", 2, "timeout") not in world.a.names()
    world.run(2_000)
    assert world.a.names()[-1] == ("disconnect", 2, "timeout")
    world.a.ask(2, "patient")
    world.run(2_000_000)
    world.network.heal(1, 2)
    world.run(2_000_000)
    assert world.a.names()[-1] == ("response", "re: patient")


def test_hold_and_release(world: World) -> None:
    """A clogged network loses nothing: on release all arrives, in order, before what is sent later."""
    world.connected()
    world.network.hold(1, 2)
    world.a.ask(2, "one")
    world.a.ask(2, "two")
    world.c.ask(2, "free")
    world.run()
    assert [entry[2] for entry in world.b.log if entry[1] == "request"] == ["free"]
    world.network.release(1, 2)
    world.a.ask(2, "three")
    world.run()
    names = [entry[2] for entry in world.b.log if entry[1] == "request"]
    assert names == ["free", "one", "two", "three"]
    assert world.a.names() == [("response", f"re: {name}") for name in ("one", "two", "three")]


def test_reset_tells_both_ends(world: World) -> None:
    """A reset loses what is on its way, and both ends hear of it; a new connection works."""
    world.connected()
    world.a.ask(2, "lost")
    world.network.reset(2, 1)
    world.run()
    assert world.b.names() == [("closed",)]
    assert world.a.names() == [("disconnect", 2, "reset")]
    world.a.ask(2, "anew")
    world.run()
    assert world.a.names()[-1] == ("response", "re: anew")


def test_lost_response_makes_the_requester_doubt(world: World) -> None:
    """The n-th matching response is lost with its connection, though the request was handled."""
    world.connected()
    world.network.lose_response((1, 2, 7), nth=2)
    world.a.ask(2, "first", api_key=7)
    world.a.ask(2, "other", api_key=8)
    world.a.ask(2, "second", api_key=7)
    world.run()
    assert world.b.names() == [("request", n) for n in ("first", "other", "second")] + [("closed",)]
    assert world.a.names() == [
        ("response", "re: first"),
        ("response", "re: other"),
        ("disconnect", 2, "reset"),
    ]
    world.network.lose_response(lambda src, dst, request, response: response == "re: third")
    world.a.ask(2, "third")
    world.run()
    assert world.a.names()[-1] == ("disconnect", 2, "reset")


def test_delays_and_slow_links(world: World) -> None:
    """An API or a link can be slowed, and the rest is not."""
    world.connected()
    world.network.delay_api(1, 5_000)
    world.network.slow(2, 1, factor=3, extra_us=7, one_way=True)
    start_us = world.kernel.now_us
    world.a.ask(2, "x", api_key=1)
    world.run()
    assert world.b.log[0][0] - start_us == 5_100
    assert world.a.log[0][0] - start_us == 5_407
    world.network.delay_api(1, 0)
    world.network.slow(1, 2)
    start_us = world.kernel.now_us
    world.a.ask(2, "y", api_key=1)
    world.run()
    assert world.a.log[-1][0] - start_us == 200


def test_links_by_pair_node_and_default(world: World) -> None:
    """The most special link counts, also for connections that are open."""
    world.connected()
    fast, slow = Link(1, 0), Link(9_000, 0)
    world.network.set_default_link(slow)
    assert world.network.link(1, 2) is slow
    world.network.set_node_link(2, fast)
    assert world.network.link(1, 2) is fast
    assert world.network.link(2, 3) is fast
    world.network.set_link(1, [2, 3], CALM, one_way=True)
    assert world.network.link(1, 2) is CALM
    assert world.network.link(2, 1) is fast
    start_us = world.kernel.now_us
    world.a.ask(2, "x")
    world.run()
    assert world.a.log[-1][0] - start_us == 101


def test_paused_node_keeps_order(world: World) -> None:
    """What arrives at a paused node is handled when it goes on, in the order of arrival."""
    world.connected()
    world.network.pause(2)
    world.a.ask(2, "one")
    world.c.ask(2, "two")
    world.a.ask(2, "three")
    world.run()
    assert world.b.log == []
    start_us = world.kernel.now_us
    world.network.resume(2)
    world.run()
    assert world.b.log == [
        (start_us, "request", "one"),
        (start_us, "connection", 3),
        (start_us, "request", "three"),
        (start_us + 200, "request", "two"),
    ]
    world.network.pause(1)
    world.a.ask(2, "four")
    world.run()
    assert world.a.names()[-1] == ("response", "re: three")
    world.network.resume(1)
    world.network.pause(1)
    world.run()
    assert world.a.names()[-1] == ("response", "re: three")
    world.network.resume(1)
    world.run()
    assert world.a.names()[-1] == ("response", "re: four")


def test_farewell_waits_for_the_answer(world: World) -> None:
    """A muted server reads the requester's farewell when it has answered, and requests before it are handled."""
    world.connected()
    world.b.answers = False
    world.a.ask(2, "first")
    world.a.ask(2, "second")
    world.network.close(1, 2, 0)
    world.run()
    assert world.b.names() == [("request", "first")]
    world.b.answer(silent=True)
    world.run()
    world.b.answer(silent=True)
    world.run()
    assert world.b.names() == [("request", "first"), ("request", "second"), ("closed",)]
    assert world.a.log == []


def test_server_closes(world: World) -> None:
    """A server can close a connection: the requester hears of it."""
    world.b.answers = False
    world.a.ask(2, "first")
    world.run()
    world.network.disconnect(world.b.in_process[0][0])
    world.b.answer()
    world.run()
    assert world.a.names() == [("disconnect", 2, "closed")]


def test_guards_judge_in_order(world: World) -> None:
    """The first guard with a verdict wins."""
    world.connected()

    def passes(src: int, dst: int) -> Verdict | None:
        return Verdict.PASS if dst == 2 else None

    def holds(src: int, dst: int) -> Verdict | None:
        return Verdict.HOLD

    world.network.add_guard(passes)
    world.network.add_guard(holds)
    world.a.ask(2, "x")
    world.run()
    assert world.b.names() == [("request", "x")]
    assert world.a.log == []
    world.network.remove_guard(holds)
    world.run()
    assert world.a.names() == [("response", "re: x")]


def test_loopback_is_never_cut(world: World) -> None:
    """A node that talks to itself does so through no network."""
    world.network.partition([1, 2], [1, 2])
    world.a.ask(1, "self")
    world.run()
    assert world.a.names()[-1] == ("response", "re: self")


def test_same_seed_same_trace() -> None:
    """One seed gives one trace, another seed another."""

    def fingerprint(seed: int) -> str:
        world = World(Link(), seed)
        for number in range(20):
            world.a.ask(2, f"r{number}")
            world.c.ask(2, f"s{number}")
            world.run(333)
        world.network.reset(1, 2)
        world.run()
        return world.trace.fingerprint()

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)
