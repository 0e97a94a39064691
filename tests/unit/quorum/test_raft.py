"""Replicas of the metadata log together: elections, replication, resignation, restarts."""

from __future__ import annotations

from tests.unit.quorum.network import MS, Call, QuorumNetwork

from kafkasim.core.client.requests import Requests
from kafkasim.core.model.cluster_messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    QuorumFetchRequest,
    QuorumFetchResponse,
    VoteRequest,
    VoteResponse,
)
from kafkasim.core.model.effects import NEVER_US, Effect, Reply, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE
from kafkasim.core.model.metadata import LeaderChangeRecord, MetadataBatch, NoOpRecord
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.raft import RaftReplica


class Alone:
    """One replica without a network: requests go in by hand, answers are read from the outbox."""

    def __init__(
        self,
        state: QuorumStateFile | None = None,
        voters: tuple[int, ...] = (1, 2, 3),
        epochs_in_log: tuple[int, ...] = (),
    ) -> None:
        self.outbox: list[Effect] = []
        self.requests = Requests(self.outbox)
        self.log = MetadataLog()
        for epoch in epochs_in_log:
            self.log.append(MetadataBatch(self.log.log_end, epoch, (NoOpRecord(),)))
        self.state = state or QuorumStateFile()
        self.replica = RaftReplica(
            1,
            voters,
            self.log,
            self.state,
            outbox=self.outbox,
            requests=self.requests,
            draw=lambda _label, _bound: 0,
            now_us=0,
        )

    def ask(self, request: object, peer: int = 2, now_us: int = 0) -> object:
        """The answer to ``request``, or None if it is held."""
        self.outbox.clear()
        self.replica.on_request(Call(peer, 7, peer, request), now_us)
        replies = [effect for effect in self.outbox if isinstance(effect, Reply)]
        assert all((reply.connection_id, reply.correlation_id) == (peer, 7) for reply in replies)
        return replies[0].response if replies else None

    def grant(self, peer: int) -> None:
        """Let ``peer`` grant the vote that it was asked for."""
        (sent,) = [
            e for e in self.outbox if isinstance(e, Send) and e.to == peer and isinstance(e.request, VoteRequest)
        ]
        self.outbox.clear()
        response = VoteResponse(ErrorCode.NONE, NO_NODE, self.replica.epoch, True)
        self.requests.on_response(sent.correlation_id, response, 0)


def settled(voters: tuple[int, ...] = (1, 2, 3), observers: tuple[int, ...] = ()) -> QuorumNetwork:
    """A network with a leader whom everybody follows."""
    network = QuorumNetwork(voters, observers)
    network.run_until(lambda: network.leader() is not None)
    network.run_for(600)
    leader = network.leader()
    assert leader is not None
    assert all(r.leader_id == leader.node_id for r in network.alive())
    return network


def leader_of(network: QuorumNetwork) -> RaftReplica:
    leader = network.leader()
    assert leader is not None
    return leader


# --- Elections -------------------------------------------------------------------------------------------------


def test_a_single_voter_leads_and_commits_at_once() -> None:
    """Without others there is nobody to ask: the leader's first record is committed before any input."""
    alone = Alone(voters=(1,))
    replica = alone.replica
    assert (replica.role, replica.epoch, replica.leader_id) == ("leader", 1, 1)
    (head,) = replica.take_committed()
    assert head == MetadataBatch(0, 1, (LeaderChangeRecord(1, (1,)),), 0)
    assert replica.append((NoOpRecord(), NoOpRecord()), 5000) == 1
    assert [(b.base_offset, b.append_time_ms) for b in replica.take_committed()] == [(1, 5)]
    assert replica.take_committed() == []
    assert replica.deadline_us == NEVER_US
    assert [role for role, _ in replica.take_role_changes()] == ["unattached", "candidate", "leader"]
    assert replica.take_role_changes() == []


def test_a_new_quorum_elects_the_first_to_time_out() -> None:
    """Fresh voters wait, agree by pre-vote and by vote, and the epoch starts with a LeaderChangeRecord."""
    network = settled()
    leader = leader_of(network)
    assert leader.node_id == 1
    assert leader.epoch == 1
    assert network.committed[0].records == (LeaderChangeRecord(1, (1, 2, 3)),)
    assert leader.high_watermark == 1
    assert leader.epoch_start_offset == 0
    assert [r.role for r in network.alive()] == ["leader", "follower", "follower"]
    votes = [request for _, _, _, request in network.sent if isinstance(request, VoteRequest)]
    assert [vote.pre_vote for vote in votes] == [True, True, False, False]
    assert {vote.candidate_epoch for vote in votes if vote.pre_vote} == {0}


def test_equal_draws_do_not_split_votes_for_ever() -> None:
    """Every draw being the most benign one, five voters still elect a leader with one round."""
    assert leader_of(settled((1, 2, 3, 4, 5))).epoch == 1


def test_pre_votes_are_refused_while_the_leader_lives() -> None:
    """A voter that was cut off cannot disturb the others: it comes back into the old epoch."""
    network = settled()
    network.isolate(3)
    network.run_for(8000)
    assert network.replica(3).role in ("prospective", "follower")
    assert network.replica(3).epoch == 1
    network.heal()
    network.run_for(4000)
    assert leader_of(network).node_id == 1
    assert [r.epoch for r in network.alive()] == [1, 1, 1]
    assert network.replica(3).role == "follower"


def test_a_killed_leader_is_replaced_after_the_fetch_timeout() -> None:
    """Followers see refused connections at once and yet wait until their fetch timeout, as measured on Kafka."""
    network = settled()
    network.crash(1)
    crashed_us = network.now_us
    network.run_until(lambda: network.leader() is not None)
    assert 1_400 * MS <= network.now_us - crashed_us <= 5_000 * MS
    assert leader_of(network).epoch == 2
    refused = [at for at, _, to, _ in network.sent if at > crashed_us and to == 1]
    assert len(refused) < 60


def test_a_leader_that_hears_no_majority_resigns() -> None:
    """Check-quorum: cut off from all others a leader steps down within one and a half fetch timeouts."""
    network = settled()
    network.isolate(1)
    cut_us = network.now_us
    network.run_until(lambda: not network.replica(1).is_leader)
    assert 2_400 * MS <= network.now_us - cut_us <= 3_100 * MS
    assert network.replica(1).leader_id == NO_NODE
    network.run_for(3000)
    assert leader_of(network).node_id != 1
    network.heal()
    network.run_for(3000)
    assert network.replica(1).role == "follower"


def test_a_leader_keeps_its_epoch_as_long_as_one_of_two_followers_fetches() -> None:
    """With itself one follower is a majority of three."""
    network = settled()
    network.crash(3)
    network.run_for(20_000)
    assert leader_of(network).node_id == 1
    assert leader_of(network).epoch == 1


def test_one_follower_of_four_is_not_enough() -> None:
    """Of five voters a leader with a single follower is a minority, and resigns although that one fetches."""
    network = settled((1, 2, 3, 4, 5))
    for voter in (3, 4, 5):
        network.crash(voter)
    # A fetch from before the crash may still make a majority with the next one of voter 2.
    network.run_for(3600)
    assert network.leader() is None
    assert network.replica(2).high_watermark == 1


def test_a_resigning_leader_hands_over_within_milliseconds() -> None:
    """EndQuorumEpoch names the successors; the first one stands at once and the resigned leader grants its pre-vote."""
    network = settled()
    resigned_us = network.now_us
    network.input(1, lambda replica, now_us: replica.shutdown(now_us))
    assert network.replica(1).role == "resigned"
    assert not network.replica(1).is_shut_down
    network.run_until(lambda: network.replica(1).is_shut_down)
    assert network.now_us - resigned_us < 20 * MS
    network.run_for(100)
    assert leader_of(network).node_id == 2
    network.crash(1)
    network.run_for(5000)
    assert leader_of(network).node_id == 2


def test_successors_are_ordered_by_their_log() -> None:
    """The voter that lags goes last, so that the handover needs no truncation."""
    network = settled()
    network.crash(2)
    network.append()
    network.run_for(100)
    network.start(2)
    network.isolate(2)
    network.input(1, lambda replica, now_us: replica.resign(now_us))
    network.run_for(100)
    assert leader_of(network).node_id == 3


def test_who_shuts_down_stands_for_no_election() -> None:
    """A stopping follower is free to go, and lets its timers pass."""
    network = settled()
    network.input(2, lambda replica, now_us: replica.shutdown(now_us))
    assert network.replica(2).is_shut_down
    network.crash(1)
    network.crash(3)
    network.run_for(10_000)
    assert network.replica(2).role == "follower"
    assert network.replica(2).epoch == 1


# --- Replication -------------------------------------------------------------------------------------------------


def test_a_batch_commits_after_one_round_trip_and_everybody_hears_of_it() -> None:
    """Held fetches bring the batch at once, the next fetches commit it, and are answered with the high watermark."""
    network = settled(observers=(9,))
    offset = network.append(3)
    assert offset == 1
    assert leader_of(network).high_watermark == 1
    network.run_until(lambda: leader_of(network).high_watermark == 4, within_ms=3)
    network.run_until(lambda: all(r.high_watermark == 4 for r in network.alive()), within_ms=4)
    assert network.nodes[9].taken_end == 4
    assert network.replica(9).read_committed(1) == network.committed[1:]


def test_an_idle_quorum_costs_two_fetches_a_second_and_voter() -> None:
    """Held fetches are the only traffic of an idle quorum."""
    network = settled(observers=(9,))
    before = len(network.sent)
    network.run_for(10_000)
    asked = network.sent[before:]
    assert {type(request) for _, _, _, request in asked} == {QuorumFetchRequest}
    assert 57 <= len(asked) <= 60


def test_nothing_commits_without_a_majority() -> None:
    """A leader alone appends, but what it appends is not committed, and is gone after another was elected."""
    network = settled()
    network.isolate(1)
    offset = network.append()
    network.run_for(6000)
    assert network.replica(1).high_watermark == offset
    assert network.nodes[1].log.log_end == offset + 1
    network.append()
    network.heal()
    network.run_for(4000)
    logs = [network.nodes[v].log.read(0, 100) for v in network.voters]
    assert logs[0] == logs[1] == logs[2]
    assert [b.epoch for b in logs[0]] == sorted(b.epoch for b in logs[0])
    assert len([b for b in logs[0] if b.base_offset == offset]) == 1


def test_a_follower_that_diverged_truncates() -> None:
    """Batches of a dead epoch go when the new leader answers with where the logs part."""
    network = settled()
    network.isolate(1)
    for _ in range(3):
        network.append()
    network.crash(1)
    network.run_for(5000)
    network.append(2)
    network.heal()
    network.start(1)
    network.run_for(3000)
    assert network.nodes[1].log.read(0, 100) == network.nodes[2].log.read(0, 100)
    assert network.replica(1).high_watermark == leader_of(network).high_watermark


def test_an_earlier_epochs_batch_is_not_committed_by_count() -> None:
    """A majority holding an old batch does not commit it; a batch of the leader's own epoch does (Raft, figure 8)."""
    alone = Alone(epochs_in_log=(1, 2))
    replica = alone.replica
    assert replica.epoch == 2
    replica.on_deadline(replica.deadline_us)
    assert replica.role == "prospective"
    alone.grant(2)
    assert replica.role == "candidate"
    alone.grant(2)
    assert replica.is_leader
    assert alone.log.log_end == 3
    alone.ask(QuorumFetchRequest(2, replica.epoch, 2, 2))
    assert replica.high_watermark == 0
    alone.ask(QuorumFetchRequest(2, replica.epoch, 3, replica.epoch))
    assert replica.high_watermark == 3


def test_observers_find_the_next_leader_by_hints() -> None:
    """An observer of a dead leader asks the other voters in turn and follows whom they name."""
    network = settled(observers=(8, 9))
    network.crash(1)
    network.run_until(lambda: network.leader() is not None)
    elected_us = network.now_us
    network.run_until(lambda: all(network.replica(o).leader_id == leader_of(network).node_id for o in (8, 9)))
    assert network.now_us - elected_us <= 1_000 * MS
    network.append()
    network.run_for(20)
    assert network.nodes[9].taken_end == leader_of(network).high_watermark
    assert network.replica(9).role == "follower"
    assert not network.replica(9).is_voter


def test_an_observer_never_stands_for_election() -> None:
    """Without any voter observers wait, asking less and less often."""
    network = settled(observers=(9,))
    for voter in (1, 2, 3):
        network.crash(voter)
    network.run_for(10_000)
    before = len(network.sent)
    network.run_for(10_000)
    assert network.replica(9).role == "follower"
    assert len(network.sent) - before <= 31


# --- Restarts ----------------------------------------------------------------------------------------------------


def test_a_restarted_follower_follows_and_takes_all_again() -> None:
    """A new process begins at the start of the log and learns the high watermark from the leader."""
    network = settled()
    network.append()
    network.run_for(100)
    network.crash(2)
    network.start(2)
    assert network.replica(2).role == "follower"
    assert network.replica(2).high_watermark == 0
    network.run_for(700)
    assert network.nodes[2].taken_end == leader_of(network).high_watermark == 2


def test_a_restarted_leader_resigns_from_its_old_epoch() -> None:
    """It may not write into that epoch again, so it comes back as resigned and another epoch begins."""
    network = settled()
    network.crash(1)
    network.start(1)
    assert network.replica(1).role == "resigned"
    network.run_until(lambda: network.leader() is not None)
    assert leader_of(network).epoch > 1


def test_a_vote_survives_a_restart() -> None:
    """A voter that died after voting does not vote for another in the same epoch."""
    alone = Alone()
    first = alone.ask(VoteRequest(2, 4, 0, 0))
    assert isinstance(first, VoteResponse)
    assert first.vote_granted
    assert alone.replica.role == "voted"
    again = Alone(alone.state)
    assert again.replica.role == "voted"
    other = again.ask(VoteRequest(3, 4, 9, 9), peer=3)
    assert isinstance(other, VoteResponse)
    assert not other.vote_granted
    same = again.ask(VoteRequest(2, 4, 0, 0))
    assert isinstance(same, VoteResponse)
    assert same.vote_granted


def test_a_candidate_comes_back_as_a_candidate_of_its_epoch() -> None:
    """Having voted for itself it asks again in the same epoch."""
    state = QuorumStateFile()
    state.write(3, NO_NODE, 1)
    assert (Alone(state).replica.role, Alone(state).replica.epoch) == ("candidate", 3)


# --- Answers by themselves ---------------------------------------------------------------------------------------


def test_fetches_of_other_epochs_are_fenced_with_a_hint() -> None:
    """Older epochs get FENCED_LEADER_EPOCH, newer ones UNKNOWN_LEADER_EPOCH, a non-leader NOT_LEADER_OR_FOLLOWER."""
    state = QuorumStateFile()
    state.write(5, 3, NO_NODE)
    alone = Alone(state)
    answers = [alone.ask(QuorumFetchRequest(2, epoch, 0, 0)) for epoch in (4, 6, 5)]
    errors = [ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.UNKNOWN_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert answers == [QuorumFetchResponse(error, 3, 5) for error in errors]


def test_an_old_leaders_begin_is_fenced_and_a_new_ones_followed() -> None:
    """BeginQuorumEpoch of a higher epoch makes a follower; of a lower one it is refused."""
    state = QuorumStateFile()
    state.write(5, 3, NO_NODE)
    alone = Alone(state)
    assert alone.ask(BeginQuorumEpochRequest(2, 4)) == BeginQuorumEpochResponse(ErrorCode.FENCED_LEADER_EPOCH, 3, 5)
    assert alone.ask(BeginQuorumEpochRequest(2, 6)) == BeginQuorumEpochResponse(ErrorCode.NONE, 2, 6)
    assert (alone.replica.role, alone.state.epoch, alone.state.leader_id) == ("follower", 6, 2)


def test_a_leader_that_loses_its_epoch_frees_the_fetches_it_holds() -> None:
    """Held fetches end with NOT_LEADER_OR_FOLLOWER when a vote of a higher epoch ends the leadership."""
    network = settled()
    epoch = leader_of(network).epoch
    outbox = network.nodes[1].outbox
    network.replica(1).on_request(Call(-1, 1, 3, VoteRequest(3, epoch + 1, 9, 99)), network.now_us)
    answers = [effect.response for effect in outbox if isinstance(effect, Reply)]
    fetches = [answer for answer in answers if isinstance(answer, QuorumFetchResponse)]
    assert [fetch.error for fetch in fetches] == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 2
    assert network.replica(1).role == "voted"


def test_a_held_fetch_whose_connection_is_gone_is_never_answered() -> None:
    """After ``on_closed`` there is nobody to answer."""
    alone = Alone(voters=(1,))
    epoch = alone.replica.epoch
    assert alone.ask(QuorumFetchRequest(9, epoch, 1, epoch, 500, 1), peer=9) is None
    assert alone.replica.deadline_us == 500 * MS
    alone.replica.on_closed(9, 100)
    alone.replica.append((NoOpRecord(),), 200)
    alone.replica.on_deadline(500 * MS)
    assert not [effect for effect in alone.outbox if isinstance(effect, Reply)]
    assert alone.replica.deadline_us == NEVER_US


def test_the_quorum_describes_itself() -> None:
    """The leader tells each replica's log end; others answer that they do not lead."""
    network = settled(observers=(9,))
    described = network.replica(1).describe_quorum(network.now_us)
    assert [(v.replica_id, v.log_end_offset) for v in described.voters] == [(1, 1), (2, 1), (3, 1)]
    assert [(o.replica_id, o.log_end_offset) for o in described.observers] == [(9, 1)]
    answer = Alone().ask(DescribeQuorumRequest())
    assert answer == DescribeQuorumResponse(ErrorCode.NOT_LEADER_OR_FOLLOWER, NO_NODE, 0)
