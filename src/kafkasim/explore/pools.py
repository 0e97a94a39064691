"""Where trials run: here, in processes of this machine, or wherever an executor takes them.

Inputs:   jobs.      Effects: their outcomes, in the order in which they end.
Rule 1:   a worker that is lost loses no trial: what it had in hand is run again. A trial that takes every worker with it is told as that.
Rule 2:   which worker runs what has no influence on an outcome, so nothing here needs to be repeatable.
"""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from typing import Any, Protocol

from kafkasim.errors import ConfigurationError
from kafkasim.explore.jobs import Job, Outcome, lost, run_job

#: After so many losses of the whole pool its trials run one at a time, to find the one that takes it down.
_LOSSES = 2


class Pool(Protocol):
    """Takes jobs and gives outcomes. ``room``: how many more jobs it would like to have now."""

    @property
    def room(self) -> int: ...
    @property
    def busy(self) -> bool: ...
    def put(self, job: Job) -> None: ...
    def take(self) -> list[Outcome]: ...
    def close(self) -> None: ...


class Here:
    """This process: a job runs when its outcome is taken."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    @property
    def room(self) -> int:
        return 1 - len(self._jobs)

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def put(self, job: Job) -> None:
        self._jobs.append(job)

    def take(self) -> list[Outcome]:
        return [run_job(self._jobs.pop(0))]

    def close(self) -> None:
        self._jobs.clear()


class OnExecutor:
    """Somebody's executor; it is left open. Where it breaks for good, what is left runs in this process."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor = executor
        self._most = 2 * workers
        self._running: dict[Future[Any], Job] = {}
        self._tries: dict[int, int] = {}
        self._at_home: list[Job] = []

    @property
    def room(self) -> int:
        return self._most - len(self._running) - len(self._at_home)

    @property
    def busy(self) -> bool:
        return bool(self._running or self._at_home)

    def put(self, job: Job) -> None:
        try:
            self._running[self._executor.submit(run_job, job)] = job
        except (BrokenExecutor, RuntimeError):
            self._at_home.append(job)

    def take(self) -> list[Outcome]:
        if self._at_home:
            return [run_job(self._at_home.pop(0))]
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        outcomes = []
        for future in done:
            job = self._running.pop(future)
            outcome = self._outcome(future, job)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _outcome(self, future: Future[Any], job: Job) -> Outcome | None:
        """None: it has to run again, and is on its way."""
        try:
            outcome = future.result()
        except ConfigurationError:
            raise
        except (BrokenExecutor, CancelledError):
            self._at_home.append(job)
        except Exception as problem:
            tries = self._tries[job.number] = self._tries.get(job.number, 0) + 1
            if tries > _LOSSES:
                raise ConfigurationError(
                    f"the executor cannot run trials: {type(problem).__name__}: {problem}; its workers need kafkasim and "
                    "everything that the target imports"
                ) from problem
            self.put(job)
        else:
            assert isinstance(outcome, Outcome), f"{outcome!r} is no outcome"
            return outcome
        return None

    def close(self) -> None:
        for future in self._running:
            future.cancel()
        self._running.clear()
        self._at_home.clear()


class Processes:
    """Processes of this machine, started afresh (spawn): they share nothing but the files that both can read."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._running: dict[Future[Outcome], Job] = {}
        self._again: list[Job] = []
        self._losses = 0
        self._executor = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_begin)

    @property
    def room(self) -> int:
        if self._losses > _LOSSES:
            return 0  # First what is left is run one by one.
        return 2 * self._jobs - len(self._running) - len(self._again)

    @property
    def busy(self) -> bool:
        return bool(self._running or self._again)

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return list(self._executor._processes or ())

    def put(self, job: Job) -> None:
        try:
            self._running[self._executor.submit(run_job, job)] = job
        except BrokenExecutor:
            self._again.append(job)

    def take(self) -> list[Outcome]:
        if self._running:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        else:
            return self._after_a_loss()
        outcomes = []
        is_broken = False
        for future in done:
            job = self._running.pop(future)
            try:
                outcomes.append(future.result())
            except BrokenExecutor:
                is_broken = True
                self._again.append(job)
        if is_broken:
            self._lose()
        return outcomes

    def _lose(self) -> None:
        """A worker died, and with it the pool: what it had in hand comes again."""
        self._losses += 1
        for future, job in list(self._running.items()):
            if future.done() and not future.cancelled() and future.exception() is None:
                continue  # Taken next time.
            del self._running[future]
            self._again.append(job)
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._new()
        if self._losses <= _LOSSES:
            again, self._again = self._again, []
            for job in again:
                self.put(job)

    def _after_a_loss(self) -> list[Outcome]:
        """One at a time: whoever takes a worker down now does it alone."""
        job = self._again.pop(0)
        if not self._again:
            self._losses = 0
        try:
            return [self._executor.submit(run_job, job).result()]
        except BrokenExecutor:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = self._new()
            return [lost(job)]

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """In a worker: Ctrl-C is for the process that the person looks at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pool_for(jobs: int, executor: Executor | None, workers: int | None) -> Pool:
    """An executor goes before a number of processes; one process is this one."""
    if executor is not None:
        return OnExecutor(executor, workers or getattr(executor, "_max_workers", None) or 4)
    return Here() if jobs == 1 else Processes(jobs)
