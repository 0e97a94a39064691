"""Share sessions of one broker: which partitions a member fetches here, and which request is the next of its session.

Mirrors:  ShareSessionCache, ShareSession, ShareSessionContext, SharePartitionManager.newContext (KIP-932).
Rule 1:   epoch 0 opens a session (and closes the one before it), every request adds one, -1 closes; any other is refused.
Rule 2:   a session dies with the connection that opened it.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted
from kafkasim.core.model.share_messages import FINAL_SESSION_EPOCH, INITIAL_SESSION_EPOCH, TopicIdPartition

_INT_MAX = 2_147_483_647


@slotted
class ShareSession:
    group_id: str
    member_id: str
    connection_id: int
    #: The partitions in the order in which they were named; values are not used.
    partitions: dict[TopicIdPartition, None]
    epoch: int = 1


class ShareSessions:
    """Keyed by (group id, member id)."""

    __slots__ = ("_by_connection", "_groups", "_max_sessions", "_members", "_sessions")

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[tuple[str, str], ShareSession] = {}
        self._by_connection: dict[int, dict[tuple[str, str], None]] = {}
        self._members: dict[str, int] = {}
        #: Connection -> the groups that had a session over it, whether it is still open or not.
        self._groups: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, group_id: str, member_id: str) -> ShareSession | None:
        return self._sessions.get((group_id, member_id))

    def member_count(self, group_id: str) -> int:
        return self._members.get(group_id, 0)

    def on_fetch(
        self,
        group_id: str,
        member_id: str,
        epoch: int,
        connection_id: int,
        added: Iterable[TopicIdPartition],
        forgotten: Iterable[TopicIdPartition],
        *,
        acknowledges: bool,
    ) -> tuple[ShareSession | None, ErrorCode]:
        """The session that a ShareFetch belongs to, or why there is none."""
        if epoch == INITIAL_SESSION_EPOCH:
            return self._open(group_id, member_id, connection_id, added, acknowledges=acknowledges)
        session, error = self._expect(group_id, member_id, epoch)
        if session is not None and epoch != FINAL_SESSION_EPOCH:
            for tip in added:
                session.partitions.setdefault(tip)
            for tip in forgotten:
                session.partitions.pop(tip, None)
        return session, error

    def on_acknowledge(self, group_id: str, member_id: str, epoch: int) -> tuple[ShareSession | None, ErrorCode]:
        """The session that a ShareAcknowledge belongs to: it cannot open one."""
        if epoch == INITIAL_SESSION_EPOCH:
            return None, ErrorCode.INVALID_SHARE_SESSION_EPOCH
        return self._expect(group_id, member_id, epoch)

    def _open(
        self,
        group_id: str,
        member_id: str,
        connection_id: int,
        added: Iterable[TopicIdPartition],
        *,
        acknowledges: bool,
    ) -> tuple[ShareSession | None, ErrorCode]:
        if acknowledges:
            return None, ErrorCode.INVALID_REQUEST
        self.remove(group_id, member_id)
        if len(self._sessions) >= self._max_sessions:
            return None, ErrorCode.SHARE_SESSION_LIMIT_REACHED
        session = ShareSession(group_id, member_id, connection_id, dict.fromkeys(added))
        key = (group_id, member_id)
        self._sessions[key] = session
        self._by_connection.setdefault(connection_id, {})[key] = None
        self._groups.setdefault(connection_id, {})[group_id] = None
        self._members[group_id] = self._members.get(group_id, 0) + 1
        return session, ErrorCode.NONE

    def _expect(self, group_id: str, member_id: str, epoch: int) -> tuple[ShareSession | None, ErrorCode]:
        session = self._sessions.get((group_id, member_id))
        if session is None:
            return None, ErrorCode.SHARE_SESSION_NOT_FOUND
        if epoch == FINAL_SESSION_EPOCH:
            return session, ErrorCode.NONE
        if session.epoch != epoch:
            return None, ErrorCode.INVALID_SHARE_SESSION_EPOCH
        session.epoch = 1 if epoch == _INT_MAX else epoch + 1
        return session, ErrorCode.NONE

    def remove(self, group_id: str, member_id: str) -> ShareSession | None:
        key = (group_id, member_id)
        session = self._sessions.pop(key, None)
        if session is None:
            return None
        left = self._members[group_id] - 1
        if left:
            self._members[group_id] = left
        else:
            del self._members[group_id]
        held = self._by_connection.get(session.connection_id)
        if held is not None:
            held.pop(key, None)
            if not held:
                del self._by_connection[session.connection_id]
        return session

    def of_connection(self, connection_id: int) -> list[ShareSession]:
        """The sessions that were opened over a connection."""
        return [self._sessions[key] for key in self._by_connection.get(connection_id, {})]

    def everybody(self) -> list[ShareSession]:
        return list(self._sessions.values())

    def close_connection(self, connection_id: int) -> list[str]:
        """The connection is gone: the groups that had sessions over it."""
        return list(self._groups.pop(connection_id, {}))
