"""``kafkasim exec``: unmodified confluent-kafka programs on a simulated cluster, each a process of its own in virtual time.

Rule 1:   a program is run as ``__main__`` with its own arguments; stdin, stdout and stderr are the real ones, its exit status is ours.
Rule 2:   a program is stopped as by SIGTERM: its handler is called if it has set one, else SystemExit is raised where it blocks.
Rule 3:   a traceback shows the program's frames, as the real client (whose frames are in C) would.
Differs:  programs run beside one another share the modules they import, the environment and the current directory.
"""

from __future__ import annotations

import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from kafkasim.cli.run import INTERRUPTED, parse_duration
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster
from kafkasim.lab.reading import hint
from kafkasim.sim.hosts import Host
from kafkasim.sim.outcomes import TaskAbandoned, TaskStopped
from kafkasim.sim.tasks import Task

_GRACE_US = 30_000_000
_HOME = str(Path(__file__).parent.parent)
_CLUSTER_OPTIONS = ("brokers", "controllers", "racks")


def exec_command(
    command: Sequence[str],
    cluster_options: Sequence[str],
    topics: Sequence[str],
    also: Sequence[str],
    duration: str | None,
    seed: int,
) -> int:
    """The exit status: the program's own."""
    options = parse_cluster(cluster_options)
    new_topics = [parse_topic(text) for text in topics]
    duration_us = parse_duration("--for", duration)
    programs = [Program(list(command)), *(Program(shlex.split(text)) for text in also)]
    with Cluster(seed=seed, **options) as cluster:
        cluster.scheduler.watchdog_seconds = 0  # A program may compute, and wait for its stdin, as long as it likes.
        for name, partitions, factor in new_topics:
            cluster.create_topic(name, partitions, factor)
        with _signals() as signals:
            return _Session(cluster, programs, signals).run(duration_us)


# --- Arguments -----------------------------------------------------------------------------------------------------------


def parse_cluster(texts: Sequence[str]) -> dict[str, Any]:
    """``brokers=3,racks=a/b/c`` as arguments of Cluster."""
    options: dict[str, Any] = {}
    for text in (part for whole in texts for part in whole.split(",") if part):
        name, _, value = text.partition("=")
        if name == "racks" and value:
            options[name] = value.split("/")
        elif name in ("brokers", "controllers") and value.isdigit():
            options[name] = int(value)
        else:
            raise ConfigurationError(
                f"--cluster {text}: expected brokers=N, controllers=N or racks=a/b/c{hint(name, _CLUSTER_OPTIONS)}"
            )
    return options


def parse_topic(text: str) -> tuple[str, int, int | None]:
    """``name:partitions[:replicas]``."""
    name, *numbers = text.split(":")
    if not name or len(numbers) > 2 or not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise ConfigurationError(
            f"--topic {text}: expected name:partitions or name:partitions:replicas, such as calls:6:3"
        )
    partitions = int(numbers[0]) if numbers else 1
    return name, partitions, int(numbers[1]) if len(numbers) > 1 else None


# --- Programs ------------------------------------------------------------------------------------------------------------


class Program:
    """One script with its arguments, compiled."""

    def __init__(self, arguments: list[str]) -> None:
        if not arguments:
            raise ConfigurationError("--also: expected a program with its arguments")
        self.arguments = arguments
        self.path = Path(arguments[0])
        self.name = self.path.stem
        self.code = self._compile()
        self.status: int | None = None
        self.task: Task | None = None
        self.handlers: dict[int, Any] = {}
        self._own = list(arguments), ModuleType("__main__")
        self._module = self._own[1]

    def enter(self, run: Callable[[Task], None], task: Task) -> None:
        """Let the task run with this program's ``sys.argv`` and ``__main__``, whatever it makes of them, until it blocks."""
        others = sys.argv, sys.modules["__main__"]
        sys.argv, sys.modules["__main__"] = self._own
        try:
            run(task)
        finally:
            self._own = sys.argv, sys.modules["__main__"]
            sys.argv, sys.modules["__main__"] = others

    def _compile(self) -> CodeType:
        try:
            source = self.path.read_bytes()
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: {problem.strerror}") from None
        try:
            return compile(source, str(self.path), "exec", dont_inherit=True)
        except SyntaxError:
            traceback.print_exc(limit=0)
            raise SystemExit(1) from None

    def run(self) -> None:
        """The body of the program's task; never raises but to end the whole run."""
        names = self._module.__dict__
        names.update(__file__=str(self.path), __builtins__=__builtins__)
        sys.path.insert(0, str(self.path.parent.resolve()))
        try:
            exec(self.code, names)
            self.status = 0
        except TaskStopped:
            self.status = 0
        except TaskAbandoned:
            raise
        except SystemExit as end:
            self.status = exit_status(end)
        except KeyboardInterrupt as problem:
            self.status = INTERRUPTED
            print_traceback(problem)
        except BaseException as problem:
            self.status = 1
            print_traceback(problem)


def exit_status(end: SystemExit) -> int:
    """What the interpreter would exit with."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def print_traceback(problem: BaseException) -> None:
    """As the interpreter prints it, without our own frames."""
    sys.stdout.flush()
    told = traceback.TracebackException(type(problem), problem, problem.__traceback__, compact=True)
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        one = pending.pop()
        if one is None:
            continue
        one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith(_HOME)]
        pending += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
    sys.stderr.write("".join(told.format()))


# --- The run -------------------------------------------------------------------------------------------------------------


class _Session:
    """Programs side by side, until the first of them ends."""

    def __init__(self, cluster: Cluster, programs: list[Program], signals: _Signals) -> None:
        self._cluster = cluster
        self._programs = programs
        self._signals = signals

    def run(self, duration_us: int | None) -> int:
        main = self._programs[0]
        saved_path = list(sys.path)
        self._run_task = self._cluster.scheduler.run_task
        # Every switch into a task goes through this one method of the scheduler.
        self._cluster.scheduler.run_task = self._enter  # type: ignore[method-assign]
        try:
            for program in self._programs:
                program.task = self._cluster.spawn(program.run, name=program.name, host=Host(program.name))
            self._signals.begin(self._cluster, self._programs)
            self._wait(lambda: _is_done(main), duration_us)
            if self._signals.interrupts:
                self._interrupt(main)
            for program in self._programs:
                self._stop(program)
            self._wait(lambda: all(_is_done(program) for program in self._programs), _GRACE_US)
        finally:
            sys.path[:] = saved_path
            sys.stdout.flush()
        if self._signals.seen:
            return main.status if main.status not in (None, 0) else INTERRUPTED
        return main.status or 0

    def _enter(self, task: Task) -> None:
        for program in self._programs:
            if program.task is not None and program.task.host is task.host:
                program.enter(self._run_task, task)
                return
        self._run_task(task)

    def _wait(self, predicate: Callable[[], bool], timeout_us: int | None) -> None:
        signals = self._signals
        known = len(signals.interrupts)
        self._cluster.wait(lambda: predicate() or len(signals.interrupts) > known, timeout_us)

    def _interrupt(self, program: Program) -> None:
        """Ctrl-C: KeyboardInterrupt where the program blocks, and time to end in order."""
        if program.task is not None and not program.task.done:
            program.task.interrupt(KeyboardInterrupt())
            self._wait(lambda: _is_done(program), _GRACE_US)

    def _stop(self, program: Program) -> None:
        """SIGTERM."""
        task = program.task
        if task is None or task.done:
            return
        handler = program.handlers.get(signal.SIGTERM)
        if not callable(handler):
            task.stop()
            return
        try:
            handler(int(signal.SIGTERM), None)
        except BaseException as raised:
            task.interrupt(raised)
            return
        if not self._cluster.wait(lambda: task.done, _GRACE_US):
            task.stop()


def _is_done(program: Program) -> bool:
    return program.task is not None and program.task.done


class _Signals:
    """Ctrl-C, and the handlers that programs set."""

    def __init__(self) -> None:
        #: Whether Ctrl-C came at all, and those that the program has yet to be told of.
        self.seen = False
        self.interrupts: list[int] = []
        self._cluster: Cluster | None = None
        self._programs: list[Program] = []
        self.real_signal = signal.signal

    def begin(self, cluster: Cluster, programs: list[Program]) -> None:
        self._cluster, self._programs = cluster, programs

    def on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        if self.interrupts or self._waits_for_input():
            raise KeyboardInterrupt
        self.interrupts.append(number)

    def _waits_for_input(self) -> bool:
        """A program that runs right now may be in a read of the terminal: nothing else would end that."""
        return self._cluster is not None and self._cluster.scheduler.current() is not None

    def signal(self, number: int, handler: Any) -> Any:
        """``signal.signal`` while programs run: each has its own handlers; SIGINT and SIGTERM reach it through us."""
        task = None if self._cluster is None else self._cluster.scheduler.current()
        for program in self._programs:
            if program.task is task and task is not None:
                before = program.handlers.get(number, signal.SIG_DFL)
                program.handlers[number] = handler
                return before
        return self.real_signal(number, handler)


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    try:
        before = signal.signal(signal.SIGINT, signals.on_interrupt)
    except ValueError:  # Not in the main thread.
        yield signals
        return
    module: Any = signal
    module.signal = signals.signal
    try:
        yield signals
    finally:
        module.signal = signals.real_signal
        signal.signal(signal.SIGINT, before)
