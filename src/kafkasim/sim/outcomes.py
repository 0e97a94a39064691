"""How tasks end other than by returning, and waits that cannot end: the exceptions of `kafkasim.sim.tasks`."""

from __future__ import annotations


class TaskStopped(SystemExit):
    """A task was asked to end, as by SIGTERM: raised where it blocks, so that ``finally`` blocks run."""

    def __init__(self) -> None:
        super().__init__(143)


class TaskKilled(Exception):
    """The result of a task that was killed."""


class TaskAbandoned(BaseException):
    """The simulation is over while the task still runs: it unwinds, and every blocking call in it raises this."""


class Deadlock(Exception):
    """Somebody waits without a timeout, and nothing is left that could end the wait."""
