"""What a cut loses is sent again, when Linux would send it again, and handed over once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sim.peers import Peer, World

from kafkasim.sim.network import Link, Verdict

MS = 1000
SECOND = 1_000_000
SLACK = 10 * MS
"""Latencies and round trips are far below this; the times of retransmission are far apart."""


@pytest.fixture
def world() -> World:
    return World().connected()


def requests(peer: Peer) -> list[tuple[int, str]]:
    """What reached a peer, and when."""
    return [(entry[0], entry[2]) for entry in peer.log if entry[1] == "request"]


def responses(peer: Peer) -> list[tuple[int, str]]:
    return [(entry[0], entry[2]) for entry in peer.log if entry[1] == "response"]


def seen_after_us(world: World, heal_after_us: int, *, messages: int) -> int:
    """How long after its sending what was sent into a cut arrives, if the cut heals then."""
    start_us = world.kernel.now_us
    world.network.partition(1, 2)
    for number in range(messages):
        world.a.ask(2, f"m{number}")
    world.run(heal_after_us)
    world.network.heal(1, 2)
    world.run(300 * SECOND)
    assert [name for _, name in requests(world.b)] == [f"m{number}" for number in range(messages)]
    assert len(responses(world.a)) == messages
    assert not world.kernel.pending()
    return requests(world.b)[0][0] - start_us


@pytest.mark.parametrize(
    ("healed_ms", "arrives_ms"),
    [(0.01, 200), (1, 200), (199, 200), (205, 400), (450, 800), (900, 1600), (1700, 3200), (14_000, 25_600)],
)
def test_a_message_is_sent_again_after_doubling_times(world: World, healed_ms: float, arrives_ms: int) -> None:
    """One message: probed after 0.2 s, then sent again after 0.4, 0.8, 1.6 s, as Linux does it."""
    seen_us = seen_after_us(world, round(healed_ms * MS), messages=1)
    assert arrives_ms * MS <= seen_us <= arrives_ms * MS * 1.01


@pytest.mark.parametrize(("healed_ms", "arrives_ms"), [(1, 200), (205, 600), (650, 1400), (1500, 3000), (3100, 6200)])
def test_several_messages_are_sent_again_together(world: World, healed_ms: int, arrives_ms: int) -> None:
    """Several messages: no single one is probed, so 0.2, 0.6, 1.4, 3.0, 6.2 s; all come at once, in order."""
    seen_us = seen_after_us(world, healed_ms * MS, messages=3)
    assert arrives_ms * MS <= seen_us <= arrives_ms * MS * 1.01


def test_what_is_on_its_way_when_the_cut_begins_comes_again(world: World) -> None:
    """A message in flight is lost by a cut that is there when it would arrive."""
    start_us = world.kernel.now_us
    world.a.ask(2, "in flight")
    world.network.partition([1], [2, 3])
    world.run(MS)
    assert world.network.dropped == 1
    world.network.heal_all()
    world.run(SECOND)
    (entry,) = requests(world.b)
    assert entry[0] - start_us == 200 * MS + 300  # The time-out, with a round trip of 200 us, and a latency.


def test_a_cut_shorter_than_a_latency_loses_what_was_sent_into_it(world: World) -> None:
    """A cut that has healed by the time when a message would arrive has lost it all the same."""
    world.network.partition(1, 2)
    world.a.ask(2, "during")
    world.network.heal(1, 2)
    world.run(100 * MS)
    assert requests(world.b) == []
    world.run(200 * MS)
    assert [name for _, name in requests(world.b)] == ["during"]


def test_a_response_comes_again(world: World) -> None:
    """The answering direction has its own times: the request is not done twice."""
    world.b.answers = False
    world.a.ask(2, "asked")
    world.run()
    world.network.partition(1, 2)
    start_us = world.kernel.now_us
    world.b.answer()
    world.run(SECOND)
    assert world.a.log == []
    world.network.heal(1, 2)
    world.run(SECOND)
    ((arrived_us, name),) = responses(world.a)
    assert name == "re: asked"
    assert 1600 * MS < arrived_us - start_us < 1610 * MS
    assert len(requests(world.b)) == 1


def test_what_arrives_behind_a_hole_waits_and_hastens_it(world: World) -> None:
    """A later message that gets through makes the sender send the lost one at once, and is handed over behind it."""
    world.network.partition(1, 2)
    world.a.ask(2, "lost")
    world.run(MS)
    world.network.heal(1, 2)
    start_us = world.kernel.now_us
    world.a.ask(2, "behind")
    world.run()
    assert requests(world.b) == [(start_us + 300, "lost"), (start_us + 300, "behind")]
    assert not world.kernel.pending()


def test_after_a_time_out_what_is_behind_waits_for_the_next(world: World) -> None:
    """Once it has timed out, a sender sends nothing new before its retransmission is acknowledged."""
    start_us = world.kernel.now_us
    world.network.partition(1, 2)
    world.a.ask(2, "lost")
    world.run(900 * MS)
    world.network.heal(1, 2)
    world.a.ask(2, "behind")
    world.run(600 * MS)
    assert requests(world.b) == []
    world.run(SECOND)
    assert [name for _, name in requests(world.b)] == ["lost", "behind"]
    assert 0 <= requests(world.b)[0][0] - start_us - 1600 * MS < SLACK


def test_data_without_acknowledgement_are_done_once(world: World) -> None:
    """One way cut: requests arrive, and are not done again by what their sender sends again; responses come later."""
    start_us = world.kernel.now_us
    world.network.partition(2, 1, one_way=True)
    world.a.ask(2, "heard")
    world.run(2 * SECOND)
    assert [name for _, name in requests(world.b)] == ["heard"]
    assert world.a.log == []
    world.network.heal(2, 1, one_way=True)
    world.run(10 * SECOND)
    assert [name for _, name in requests(world.b)] == ["heard"]
    ((arrived_us, name),) = responses(world.a)
    assert name == "re: heard"
    assert 0 <= arrived_us - start_us - 3200 * MS < SLACK
    assert not world.kernel.pending()


def test_a_sender_without_acknowledgements_sends_nothing_new(world: World) -> None:
    """What is sent before the first time-out gets through the open way; later messages wait for an acknowledgement."""
    start_us = world.kernel.now_us
    world.b.answers = False
    world.network.partition(2, 1, one_way=True)
    for name in ("at once", "soon", "late", "later"):
        world.a.ask(2, name)
        world.run(150 * MS if name == "at once" else 400 * MS)
    world.b.answer(silent=True)
    world.run()
    world.b.answer(silent=True)
    world.run(SECOND)
    assert [name for _, name in requests(world.b)] == ["at once", "soon"]
    world.network.heal(2, 1, one_way=True)
    world.run(10 * SECOND)
    world.b.answer(silent=True)
    world.run()
    assert [name for _, name in requests(world.b)] == ["at once", "soon", "late", "later"]
    assert 0 <= requests(world.b)[2][0] - start_us - 3000 * MS < SLACK


def test_any_message_back_acknowledges(world: World) -> None:
    """A sender that waits goes on as soon as the other side sends anything that gets through."""
    world.b.answers = False
    world.network.partition(2, 1, one_way=True)
    world.a.ask(2, "one")
    world.run(500 * MS)
    world.a.ask(2, "two")
    world.run(MS)
    world.network.heal(2, 1, one_way=True)
    start_us = world.kernel.now_us
    world.b.answer()
    world.run()
    assert responses(world.a) == [(start_us + 100, "re: one")]
    assert requests(world.b)[1:] == [(start_us + 200, "two")]
    world.b.answer()
    world.run(10 * SECOND)
    assert len(responses(world.a)) == 2
    assert not world.kernel.pending()


def test_a_way_that_opens_alone_lets_one_message_through(world: World) -> None:
    """While acknowledgements are cut, one message gets through; the rest comes when that is acknowledged."""
    start_us = world.kernel.now_us
    world.b.answers = False
    world.network.partition(1, 2)
    world.a.ask(2, "one")
    world.a.ask(2, "two")
    world.run(SECOND)
    world.network.heal(1, 2, one_way=True)
    world.run(SECOND)
    world.b.answer(silent=True)
    world.run()
    assert [name for _, name in requests(world.b)] == ["one"]
    world.run(3 * SECOND)
    world.network.heal(2, 1, one_way=True)
    world.run(10 * SECOND)
    assert [name for _, name in requests(world.b)] == ["one", "two"]
    assert 0 <= requests(world.b)[1][0] - start_us - 6200 * MS < SLACK


def test_a_second_cut_does_not_start_the_times_anew(world: World) -> None:
    """Times double until something is acknowledged, however often the cut heals between them."""
    start_us = world.kernel.now_us
    for _ in range(2):  # From 0 to 0.3 s and from 0.35 to 0.5 s: at 0.2 and 0.4 s there is a cut.
        world.network.partition(1, 2)
        if not world.network.dropped:
            world.a.ask(2, "lost")
        world.run(300 * MS if world.kernel.now_us == start_us else 150 * MS)
        world.network.heal(1, 2)
        world.run(50 * MS)
    world.run(SECOND)
    assert 0 <= requests(world.b)[0][0] - start_us - 800 * MS < SLACK


def test_a_sender_gives_up(world: World) -> None:
    """After 15 times (924.8 s) the sender's end dies: it is told, the other side learns when it sends."""
    start_us = world.kernel.now_us
    world.network.partition(1, 2)
    world.a.ask(2, "never")
    world.a.ask(2, "either")
    world.run(924 * SECOND)
    assert world.a.log == []
    world.run(2 * SECOND)
    assert world.a.names() == [("disconnect", 2, "timeout")]
    assert 0 <= world.a.log[0][0] - start_us - 924_600 * MS < SECOND
    world.network.heal(1, 2)
    world.run(1000 * SECOND)
    assert world.b.log == []
    world.a.ask(2, "anew")
    world.run()
    assert world.a.names()[-1] == ("response", "re: anew")
    assert not world.kernel.pending()


def test_a_server_gives_up(world: World) -> None:
    """A server that cannot get rid of an answer closes; the requester is reset when it sends again."""
    world.b.answers = False
    world.a.ask(2, "asked")
    world.run()
    world.network.partition(1, 2)
    world.b.answer()
    world.run(930 * SECOND)
    assert world.b.names()[-1] == ("closed",)
    world.network.heal(1, 2)
    world.run(SECOND)
    assert world.a.log == []
    world.a.ask(2, "late")
    world.run(SECOND)
    assert world.a.names() == [("disconnect", 2, "reset")]


def test_what_was_sent_before_a_close_is_still_done(world: World) -> None:
    """A requester that gave up on an answer has sent its request: the server does it once the cut has healed."""
    world.network.partition(1, 2)
    world.a.ask(2, "old")
    world.run(30 * SECOND)
    world.network.close(1, 2, 0)
    world.network.heal(1, 2)
    world.a.ask(2, "anew")
    world.run(30 * SECOND)
    assert [name for _, name in requests(world.b)] == ["anew", "old"]
    assert world.b.names()[-1] == ("closed",)
    assert responses(world.a)[0][1] == "re: anew"
    assert len(responses(world.a)) == 1
    assert not world.kernel.pending()


def test_an_end_that_has_closed_gives_up_sooner(world: World) -> None:
    """What a closed end has not got rid of after 102 s is gone, and the server keeps a connection that nobody uses."""
    world.network.partition(1, 2)
    world.a.ask(2, "old")
    world.run(SECOND)
    world.network.close(1, 2, 0)
    world.run(103 * SECOND)
    assert not world.kernel.pending()
    world.network.heal(1, 2)
    world.run(1000 * SECOND)
    assert world.b.log == []


def test_farewell_outlives_a_partition(world: World) -> None:
    """A farewell that was lost is sent again, so that a server keeps no dead connection for ever."""
    world.network.partition(1, 2)
    world.network.close(1, 2, 0)
    world.run(2 * SECOND)
    assert world.b.log == []
    world.network.heal(1, 2)
    world.run(10 * SECOND)
    assert world.b.names() == [("closed",)]
    assert not world.kernel.pending()


def test_a_server_closes_behind_its_answers(world: World) -> None:
    """The end of a server's stream comes again too, behind the answer that was lost before it."""
    world.b.answers = False
    world.a.ask(2, "asked")
    world.run()
    connection_id = world.b.in_process[0][0]
    world.network.partition(1, 2)
    world.b.answer()
    world.network.disconnect(connection_id)
    world.run(SECOND)
    assert world.a.log == []
    world.network.heal(1, 2)
    world.run(10 * SECOND)
    assert world.a.names() == [("response", "re: asked"), ("disconnect", 2, "closed")]
    assert not world.kernel.pending()


def test_a_server_that_died_behind_a_cut_resets_what_comes_again(world: World) -> None:
    """Its own reset was lost; the next retransmission after the cut meets a machine that knows nothing."""
    start_us = world.kernel.now_us
    world.network.partition(1, 2)
    world.a.ask(2, "lost")
    world.run(100 * MS)
    world.network.detach(2)
    world.run(150 * MS)
    Peer(world, 2)
    world.network.heal(1, 2)
    world.run(SECOND)
    assert world.a.names() == [("disconnect", 2, "reset")]
    assert 0 <= world.a.log[0][0] - start_us - 400 * MS < SLACK
    assert not world.kernel.pending()


def test_a_requester_that_died_behind_a_cut_resets_the_answer(world: World) -> None:
    """The answer comes again to a machine that knows nothing of it, and the server learns."""
    world.b.answers = False
    world.a.ask(2, "asked")
    world.run()
    world.network.partition(1, 2)
    world.b.answer()
    world.run()
    world.network.detach(1, silent=True)
    Peer(world, 1)
    world.run(SECOND)
    assert ("closed",) not in world.b.names()
    world.network.heal(1, 2)
    world.run(SECOND)
    assert world.b.names()[-1] == ("closed",)
    assert not world.kernel.pending()


def test_a_machine_that_comes_back_resets_what_comes_again(world: World) -> None:
    """Without power nobody answers: what was sent meanwhile comes again, and is reset once the machine is up."""
    start_us = world.kernel.now_us
    world.network.detach(2, silent=True)
    world.a.ask(2, "lost")
    world.run(5 * SECOND)
    assert world.a.log == []
    reborn = Peer(world, 2)
    world.run(5 * SECOND)
    assert world.a.names() == [("disconnect", 2, "reset")]
    assert 0 <= world.a.log[0][0] - start_us - 6400 * MS < SLACK
    assert reborn.log == []


def test_a_requester_without_power_sends_nothing_again(world: World) -> None:
    """What only the memory of a dead machine had is gone."""
    world.network.partition(1, 2)
    world.a.ask(2, "lost")
    world.run(SECOND)
    world.network.detach(1, silent=True)
    world.network.heal(1, 2)
    world.run(100 * SECOND)
    assert world.b.log == []
    assert not world.kernel.pending()


def test_a_hold_over_what_comes_again_keeps_the_order(world: World) -> None:
    """Held behind a cut, cut behind a hold: on release all arrives in the order of its sending."""
    names = [f"m{number}" for number in range(6)]
    network = world.network
    network.hold(1, 2)
    world.a.ask(2, names[0])
    world.run()
    network.partition(1, 2)
    world.a.ask(2, names[1])
    world.run()
    network.heal(1, 2)
    world.a.ask(2, names[2])
    world.run(SECOND)
    network.partition(1, 2)
    network.release(1, 2)
    world.a.ask(2, names[3])
    world.run(100 * MS)
    network.hold(1, 2)
    network.heal(1, 2)
    world.a.ask(2, names[4])
    world.run(5 * SECOND)
    assert requests(world.b) == []
    world.a.ask(2, names[5])
    world.run()
    network.release(1, 2)
    world.run(5 * SECOND)
    assert [name for _, name in requests(world.b)] == names
    assert [name for _, name in responses(world.a)] == [f"re: {name}" for name in names]
    assert not world.kernel.pending()


def test_a_filter_that_drops_is_a_cut(world: World) -> None:
    """A part of the traffic that is cut comes again as the whole would."""

    def drops(src: int, dst: int, channel: object, request: object) -> Verdict | None:
        return Verdict.DROP if dst == 2 else None

    world.network.add_filter(drops)
    world.a.ask(2, "lost")
    world.c.ask(1, "free")
    world.run(SECOND)
    assert [name for _, name in requests(world.a)] == ["free"]
    world.network.remove_filter(drops)
    world.run(SECOND)
    assert [name for _, name in requests(world.b)] == ["lost"]


def test_a_dial_comes_again_after_whole_seconds() -> None:
    """A fresh connection asks again after 1, 3 and 7 s."""
    world = World()
    world.network.partition(1, 2)
    world.a.ask(2, "hello")
    world.run(4 * SECOND)
    world.network.heal(1, 2)
    world.run(4 * SECOND)
    ((arrived_us, name),) = requests(world.b)
    assert name == "hello"
    assert 7 * SECOND <= arrived_us <= 7 * SECOND + SLACK


def test_the_first_time_grows_with_the_round_trip() -> None:
    """Over a slow link the time-out is a round trip and 200 ms."""
    world = World(Link(latency_us=100 * MS, jitter_us=0)).connected()
    world.run(SECOND)
    start_us = world.kernel.now_us
    world.a.ask(2, "lost")
    world.network.partition(1, 2)
    world.run(101 * MS)
    world.network.heal(1, 2)
    world.run(SECOND)
    assert requests(world.b)[-1][0] - start_us == 500 * MS


def test_nothing_is_drawn_and_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending again draws no chance; once all is made good, messages pay for no rule."""
    world = World(Link()).connected()
    world.network.partition(1, 2)
    for number in range(3):
        world.a.ask(2, f"m{number}")
    world.run(SECOND)
    drawn: list[str] = []
    monkeypatch.setattr(world.network, "_draw", lambda label, bound: drawn.append(label) or 0)
    world.network.heal(1, 2)
    world.run(10 * SECOND)
    assert drawn == ["net.latency"] * 3  # Of the three answers.
    assert world.network._ruled is False


_PAUSES_US = st.sampled_from([0, 50, 100, 1000, 150 * MS, 250 * MS, 700 * MS, 3 * SECOND])
_DEEDS = st.sampled_from(["send", "send", "send", "cut", "cut forth", "cut back", "heal", "hold", "release", "filter"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_DEEDS, _PAUSES_US), max_size=25))
def test_whatever_the_network_does_all_arrives_once_and_in_order(deeds: list[tuple[str, int]]) -> None:
    """Cuts of each way, holds and filters in any order: when all is whole again nothing is missing, doubled or overtaken."""
    world = World().connected()
    network, sent = world.network, []

    def drops(src: int, dst: int, channel: object, request: object) -> Verdict | None:
        return Verdict.DROP if dst == 1 else None

    for deed, pause_us in deeds:
        if deed == "send":
            sent.append(f"m{len(sent)}")
            world.a.ask(2, sent[-1])
        elif deed == "heal":
            network.heal_all()
        elif deed in ("hold", "release"):
            getattr(network, deed)(1, 2)
        elif deed == "filter":
            network.add_filter(drops)
        else:
            src, dst = (2, 1) if deed == "cut back" else (1, 2)
            network.partition(src, dst, one_way=deed != "cut")
        world.run(pause_us)
    network.heal_all()
    world.run(130 * SECOND)
    assert [name for _, name in requests(world.b)] == sent
    assert [name for _, name in responses(world.a)] == [f"re: {name}" for name in sent]
    assert not world.kernel.pending()
    assert not network._ruled
