"""The rebalances of a classic group: the join barrier, generations, assignments, sessions.

Mirrors:  org.apache.kafka.coordinator.group.classic.ClassicGroup and GroupMetadataManager.classicGroup*.
Inputs:   on_join, on_sync, on_heartbeat, on_leave, and what ``Timers`` brings back (``on_timer``).    Effects: Answer, Persist.
States:   Empty -> PreparingRebalance -> CompletingRebalance -> Stable; Dead.
Rule 1:   a parked JoinGroup or SyncGroup keeps its member alive; sessions run only while nothing of the member is parked.
Rule 2:   the group is Stable only after its metadata record is committed.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.group.effects import Answer, Token, append_error
from kafkasim.core.group.members import (
    COMPLETING_REBALANCE,
    EMPTY,
    NEW_MEMBER_JOIN_TIMEOUT_US,
    NO_ASSIGNMENT,
    PREPARING_REBALANCE,
    STABLE,
    ClassicMember,
    GroupMembers,
    TimerKey,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    Assignment,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupMember,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    Subscription,
    SyncGroupRequest,
    SyncGroupResponse,
)


class ClassicGroup(GroupMembers):
    """The rebalances of a group: who joins, when the barrier falls, what is handed out."""

    # --- JoinGroup -------------------------------------------------------------------------------------------------

    def on_join(
        self, request: JoinGroupRequest, client_host: str, token: Token, new_id: Callable[[str], str], now_us: int
    ) -> None:
        """``new_id(prefix)`` makes a member id."""
        if not self._accepts(request):
            self._refuse_join(token, request.member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        elif request.member_id == "" and request.group_instance_id is None:
            self._hand_out_member_id(request, token, new_id, now_us)
        elif request.member_id == "":
            self._join_static(request, client_host, token, new_id, now_us)
        else:
            self._join_known(request, client_host, token, now_us)

    def _accepts(self, request: JoinGroupRequest) -> bool:
        if not request.protocol_type or not request.protocols:
            return False
        if not self.members:
            return True
        if request.protocol_type != self.protocol_type:
            return False
        return any(self._supported.get(name) == len(self.members) for name, _ in request.protocols)

    def _has_room(self) -> bool:
        return len(self.members) + len(self._pending) < self._limits.max_size

    def _hand_out_member_id(
        self, request: JoinGroupRequest, token: Token, new_id: Callable[[str], str], now_us: int
    ) -> None:
        if not self._has_room():
            self._refuse_join(token, "", ErrorCode.GROUP_MAX_SIZE_REACHED)
            return
        member_id = new_id(request.client_id)
        self._pending[member_id] = now_us
        self._timers.arm(("session", self.group_id, member_id), now_us + request.session_timeout_ms * 1000)
        self._refuse_join(token, member_id, ErrorCode.MEMBER_ID_REQUIRED)

    def _join_static(
        self,
        request: JoinGroupRequest,
        client_host: str,
        token: Token,
        new_id: Callable[[str], str],
        now_us: int,
    ) -> None:
        assert request.group_instance_id is not None
        member_id = new_id(request.group_instance_id)
        old_id = self._static.get(request.group_instance_id)
        if old_id is not None:
            self._replace_static(request, old_id, member_id, token, now_us)
        elif self._has_room():
            self._add(request, client_host, member_id, token, now_us)
        else:
            self._refuse_join(token, "", ErrorCode.GROUP_MAX_SIZE_REACHED)

    def _replace_static(
        self, request: JoinGroupRequest, old_id: str, member_id: str, token: Token, now_us: int
    ) -> None:
        """A static member came back as a new process: the new id takes over, without a rebalance where nothing changes.

        The group goes on describing it by the client id and the host of the process before.
        """
        member = self.members[old_id]
        was_leader = self.leader_id == old_id
        self._answer_parked(member, ErrorCode.FENCED_INSTANCE_ID)
        self._timers.disarm(("session", self.group_id, old_id))
        old_protocols, old_protocol_name = member.protocols, self.protocol_name
        self.members = {member_id if key == old_id else key: value for key, value in self.members.items()}
        member.member_id = member_id
        assert request.group_instance_id is not None
        self._static[request.group_instance_id] = member_id
        if was_leader:
            self.leader_id = member_id
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.session_timeout_ms = request.session_timeout_ms
        self._take_protocols(member, request.protocols)
        self._refresh_session(member, now_us)
        if self.state == STABLE and self._select_protocol() == old_protocol_name:
            self._persist_static(member, old_id, old_protocols, was_leader, token, now_us)
        elif self.state in (STABLE, COMPLETING_REBALANCE):
            self._park_join(member, token)
            self._prepare_rebalance(now_us)
        elif self.state == PREPARING_REBALANCE:
            self._park_join(member, token)
            self._maybe_complete_join(now_us)
        else:
            raise AssertionError(f"a static member in state {self.state}")

    def _persist_static(
        self,
        member: ClassicMember,
        old_id: str,
        old_protocols: tuple[tuple[str, Subscription], ...],
        was_leader: bool,
        token: Token,
        now_us: int,
    ) -> None:
        def done(error: ErrorCode, now_us: int) -> None:
            if error is not ErrorCode.NONE:
                self._refuse_join(token, member.member_id, append_error(error))
                return
            assert self.protocol_name is not None
            response = JoinGroupResponse(
                ErrorCode.NONE,
                self.generation_id,
                self.protocol_type,
                self.protocol_name,
                self.leader_id or "",
                member.member_id,
                self._member_list() if was_leader else (),
                skip_assignment=was_leader,
            )
            self._effects.append(Answer(token, response))

        self._persist_metadata(self._assignments(), now_us, done)

    def _join_known(self, request: JoinGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        if request.member_id in self._pending:
            del self._pending[request.member_id]
            self._add(request, client_host, request.member_id, token, now_us)
            return
        member, error = self.member_for(request.member_id, request.group_instance_id)
        if member is None:
            self._refuse_join(token, request.member_id, error)
            return
        changed = not member.same_protocols(request.protocols)
        if self.state == PREPARING_REBALANCE:
            self._update(member, request, token)
            self._maybe_complete_join(now_us)
        elif not changed and (
            self.state == COMPLETING_REBALANCE or (self.state == STABLE and member.member_id != self.leader_id)
        ):
            self._effects.append(Answer(token, self._join_response(member)))
        elif self.state in (COMPLETING_REBALANCE, STABLE):
            self._update(member, request, token)
            self._prepare_rebalance(now_us)
        else:
            self._refuse_join(token, request.member_id, ErrorCode.UNKNOWN_MEMBER_ID)

    def _add(self, request: JoinGroupRequest, client_host: str, member_id: str, token: Token, now_us: int) -> None:
        member = ClassicMember(
            member_id,
            request.group_instance_id,
            request.client_id,
            client_host,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
            request.protocols,
            is_new=True,
        )
        if not self.members:
            self.protocol_type = request.protocol_type
        if self.leader_id is None:
            self.leader_id = member_id
        self._enter(member)
        self._timers.arm(("session", self.group_id, member_id), now_us + NEW_MEMBER_JOIN_TIMEOUT_US)
        self._park_join(member, token)
        if self.state == PREPARING_REBALANCE:
            self._new_member_added = True
            self._maybe_complete_join(now_us)
        else:
            self._prepare_rebalance(now_us)

    def _update(self, member: ClassicMember, request: JoinGroupRequest, token: Token) -> None:
        self._take_protocols(member, request.protocols)
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.session_timeout_ms = request.session_timeout_ms
        self._park_join(member, token)

    def _park_join(self, member: ClassicMember, token: Token) -> None:
        if member.join is not None:  # the client gave up on the former one and asks again
            self._refuse_join(member.join, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS)
        else:
            self._joined += 1
        member.join = token

    # --- the rebalance ---------------------------------------------------------------------------------------------

    def _prepare_rebalance(self, now_us: int) -> None:
        initial = self.state == EMPTY
        self._timers.disarm(("sync", self.group_id, ""))
        if self.state == COMPLETING_REBALANCE:
            for member in self.members.values():
                member.assignment = NO_ASSIGNMENT
                self._answer_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, now_us)
        self._become(PREPARING_REBALANCE, now_us)
        if initial:
            delay_us = self._limits.initial_rebalance_delay_ms * 1000
            self._initial_remaining_us = max(self._rebalance_timeout_us() - delay_us, 0)
            self._new_member_added = False
            self._timers.arm(("initial", self.group_id, ""), now_us + delay_us)
        else:
            self._timers.arm(("join", self.group_id, ""), now_us + self._rebalance_timeout_us())
            self._maybe_complete_join(now_us)

    def _rebalance_timeout_us(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0) * 1000

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        kind, _, member_id = key
        if kind == "session":
            self._on_session_expired(member_id, now_us)
        elif kind == "initial" and self.state == PREPARING_REBALANCE:
            self._on_initial_delay_over(now_us)
        elif kind == "join" and self.state == PREPARING_REBALANCE:
            self._complete_join(now_us)
        elif kind == "sync" and self.state in (COMPLETING_REBALANCE, STABLE):
            self._on_sync_expired(now_us)

    def _on_initial_delay_over(self, now_us: int) -> None:
        """More members came in during the last window: wait once more, up to the rebalance timeout."""
        if self._new_member_added and self._initial_remaining_us > 0:
            self._new_member_added = False
            delay_us = min(self._limits.initial_rebalance_delay_ms * 1000, self._initial_remaining_us)
            self._initial_remaining_us = max(self._initial_remaining_us - delay_us, 0)
            self._timers.arm(("initial", self.group_id, ""), now_us + delay_us)
        else:
            self._complete_join(now_us)

    def _maybe_complete_join(self, now_us: int) -> None:
        if ("initial", self.group_id, "") in self._timers or self._pending:
            return
        if self.state == PREPARING_REBALANCE and self._joined == len(self.members):
            self._complete_join(now_us)

    def _complete_join(self, now_us: int) -> None:
        self._timers.disarm(("join", self.group_id, ""))
        self._timers.disarm(("initial", self.group_id, ""))
        missing = [member for member in self.members.values() if member.join is None]
        for member in missing:
            if member.group_instance_id is None:
                self._forget(member)
        if self.members and not self._joined:
            self._timers.arm(("join", self.group_id, ""), now_us + self._rebalance_timeout_us())
            return
        self.generation_id += 1
        self._synced.clear()
        if not self.members:
            self._become_empty(now_us)
            return
        self._elect_joined_leader()
        self.protocol_name = self._select_protocol()
        self._become(COMPLETING_REBALANCE, now_us)
        self._timers.arm(("sync", self.group_id, ""), now_us + self._rebalance_timeout_us())
        for member in self.members.values():
            if member.join is not None:
                self._effects.append(Answer(member.join, self._join_response(member)))
                member.join = None
                self._joined -= 1
                member.is_new = False
                self._refresh_session(member, now_us)

    def _become_empty(self, now_us: int) -> None:
        self._become(EMPTY, now_us)
        self.protocol_name = None
        self.leader_id = None
        self._persist_metadata({}, now_us, lambda error, now_us: None)

    def _elect_joined_leader(self) -> None:
        leader = self.members.get(self.leader_id or "")
        if leader is None or leader.join is None:
            self.leader_id = next(member.member_id for member in self.members.values() if member.join is not None)

    def _select_protocol(self) -> str:
        """Each member votes for the first of its protocols that all members support."""
        count = len(self.members)
        first = next(iter(self.members.values()))
        candidates = [name for name, _ in first.protocols if self._supported[name] == count]
        assert candidates, self.group_id
        votes: dict[str, int] = dict.fromkeys(candidates, 0)
        for member in self.members.values():
            votes[next(name for name, _ in member.protocols if name in votes)] += 1
        return max(votes, key=lambda name: votes[name])

    def _member_list(self) -> tuple[JoinGroupMember, ...]:
        return tuple(
            JoinGroupMember(member.member_id, member.group_instance_id, member.subscription(self.protocol_name))
            for member in self.members.values()
        )

    def _join_response(self, member: ClassicMember) -> JoinGroupResponse:
        return JoinGroupResponse(
            ErrorCode.NONE,
            self.generation_id,
            self.protocol_type,
            self.protocol_name,
            self.leader_id or "",
            member.member_id,
            self._member_list() if member.member_id == self.leader_id else (),
        )

    def take_over(self, generation_id: int, members: list[ClassicMember], now_us: int) -> None:
        """Be what a consumer group leaves behind: these members, stable in this generation."""
        self.generation_id = generation_id
        self.protocol_type = "consumer"
        for member in members:
            self._enter(member)
        self.leader_id = members[0].member_id
        self.protocol_name = self._select_protocol()
        self._become(STABLE, now_us)

    def resume(self, now_us: int, *, rebalance: bool) -> None:
        """From now on the members' sessions run, and they rebalance if they must."""
        for member in self.members.values():
            self._refresh_session(member, now_us)
        if rebalance:
            self._prepare_rebalance(now_us)

    # --- SyncGroup -------------------------------------------------------------------------------------------------

    def on_sync(self, request: SyncGroupRequest, token: Token, now_us: int) -> None:
        member, error = self.member_for(request.member_id, request.group_instance_id)
        if member is not None:
            error = self._sync_problem(request)
        if member is None or error is not ErrorCode.NONE:
            self._effects.append(Answer(token, SyncGroupResponse(error)))
        elif self.state == STABLE:
            self._note_sync(member)
            member.sync = token
            self._answer_sync(member, ErrorCode.NONE, now_us)
        else:
            self._park_sync(member, request, token, now_us)

    def _sync_problem(self, request: SyncGroupRequest) -> ErrorCode:
        if self.state == EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if request.generation_id != self.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        if request.protocol_type not in (None, self.protocol_type):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name not in (None, self.protocol_name):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if self.state == PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _park_sync(self, member: ClassicMember, request: SyncGroupRequest, token: Token, now_us: int) -> None:
        if member.sync is not None:
            self._answer_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, now_us)
        member.sync = token
        self._note_sync(member)
        if member.member_id == self.leader_id:
            given = dict(request.assignments)
            assignments = {member_id: given.get(member_id, NO_ASSIGNMENT) for member_id in self.members}
            generation_id = self.generation_id
            self._persist_metadata(
                assignments, now_us, lambda error, now_us: self._on_assigned(assignments, generation_id, error, now_us)
            )

    def _on_assigned(
        self, assignments: dict[str, Assignment], generation_id: int, error: ErrorCode, now_us: int
    ) -> None:
        if self.state != COMPLETING_REBALANCE or generation_id != self.generation_id:
            return  # another rebalance began meanwhile; its own records follow
        if error is not ErrorCode.NONE:
            for member in self.members.values():
                member.assignment = NO_ASSIGNMENT
                self._answer_sync(member, append_error(error), now_us)
            self._prepare_rebalance(now_us)
            return
        self._become(STABLE, now_us)
        for member in self.members.values():
            member.assignment = assignments.get(member.member_id, NO_ASSIGNMENT)
            self._answer_sync(member, ErrorCode.NONE, now_us)

    def _note_sync(self, member: ClassicMember) -> None:
        """A member that never syncs does not count, even if the group is stable without it."""
        self._synced[member.member_id] = None
        if all(member_id in self._synced for member_id in self.members):
            self._timers.disarm(("sync", self.group_id, ""))

    def _on_sync_expired(self, now_us: int) -> None:
        missing = [member for member in self.members.values() if member.member_id not in self._synced]
        for member in missing:
            self._forget(member)
        if missing:
            self._prepare_rebalance(now_us)

    def _answer_sync(self, member: ClassicMember, error: ErrorCode, now_us: int) -> None:
        if member.sync is None:
            return
        assignment = member.assignment if error is ErrorCode.NONE else NO_ASSIGNMENT
        response = SyncGroupResponse(error, assignment, self.protocol_type, self.protocol_name)
        self._effects.append(Answer(member.sync, response))
        member.sync = None
        self._refresh_session(member, now_us)

    # --- Heartbeat, LeaveGroup, sessions ---------------------------------------------------------------------------

    def on_heartbeat(self, request: HeartbeatRequest, token: Token, now_us: int) -> None:
        self._effects.append(Answer(token, HeartbeatResponse(self._heartbeat(request, now_us))))

    def _heartbeat(self, request: HeartbeatRequest, now_us: int) -> ErrorCode:
        member, error = self.member_for(request.member_id, request.group_instance_id)
        if member is None:
            return error
        if self.state == EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if request.generation_id != self.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        self._refresh_session(member, now_us)
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state == PREPARING_REBALANCE else ErrorCode.NONE

    def refresh(self, member_id: str, now_us: int) -> None:
        """An accepted commit is a sign of life too."""
        member = self.members.get(member_id)
        if member is not None:
            self._refresh_session(member, now_us)

    def _on_session_expired(self, member_id: str, now_us: int) -> None:
        if self._pending.pop(member_id, None) is not None:
            self._maybe_complete_join(now_us)
            return
        member = self.members.get(member_id)
        if member is None:
            return
        if (member.join is not None and not member.is_new) or member.sync is not None:
            self._refresh_session(member, now_us)
            return
        self._remove(member, now_us)

    def on_leave(self, request: LeaveGroupRequest, token: Token, now_us: int) -> None:
        results = tuple((identity, self._leave(identity, now_us)) for identity in request.members)
        self._effects.append(Answer(token, LeaveGroupResponse(ErrorCode.NONE, results)))

    def _leave(self, identity: MemberIdentity, now_us: int) -> ErrorCode:
        if identity.member_id == "" and identity.group_instance_id is not None:
            member_id = self._static.get(identity.group_instance_id)
            if member_id is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            self._remove(self.members[member_id], now_us)
            return ErrorCode.NONE
        if self._pending.pop(identity.member_id, None) is not None:
            self._timers.disarm(("session", self.group_id, identity.member_id))
            self._maybe_complete_join(now_us)
            return ErrorCode.NONE
        member, error = self.member_for(identity.member_id, identity.group_instance_id)
        if member is not None:
            self._remove(member, now_us)
        return error

    def _remove(self, member: ClassicMember, now_us: int) -> None:
        """A member is gone: the others rebalance, or the barrier may be complete without it."""
        self._forget(member)
        if self.state in (STABLE, COMPLETING_REBALANCE):
            self._prepare_rebalance(now_us)
        elif self.state == PREPARING_REBALANCE:
            if not self.members:
                self._timers.disarm(("initial", self.group_id, ""))
            self._maybe_complete_join(now_us)
