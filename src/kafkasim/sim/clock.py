"""Virtual time and seeded chance for user code that knows nothing of a simulation.

Inputs:   a scheduler's tasks, install().
Effects:  while there are tasks or an installation, the functions that read the clock, make random values, or start and
          synchronize threads (`threads`) are replaced, also where a module has imported them by name; afterwards every
          name is what it was.
Rule 1:   virtual inside a task, and in the thread that has installed a clock; real everywhere else.
Rule 2:   what user code gets are real objects: ``datetime.now()`` returns a plain datetime, only the class is lent.
Rule 3:   kafkasim, the standard library (but for what it looks up in its modules) and test runners keep the real names.
Rule 4:   this is one of three modules that may know the wall clock and threads.
Differs:  naive local times follow the time zone of the machine, so that ``datetime.now().timestamp()`` is right;
          ``type(x) is datetime`` in user code is false while patched; default arguments and closures keep what they
          have captured.
"""

from __future__ import annotations

import copyreg
import datetime as datetime_module
import random as random_module  # to patch it, never to draw from it
import sys
import time as time_module
import uuid as uuid_module
from _thread import get_ident  # ``threading.get_ident`` is replaced, too
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any, cast

from kafkasim.sim import threads
from kafkasim.sim.choices import Choices
from kafkasim.sim.tasks import Scheduler

EPOCH_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when virtual time begins."""

UPTIME_US = 3_600_000_000
"""What monotonic clocks show at the beginning: the machine has been up for an hour."""

_KEEP_REAL = frozenset(
    {"kafkasim", "_pytest", "pytest", "pluggy", "hypothesis", "greenlet", "simpy", "pydevd", "xdist"}
)

_Datetime = datetime_module.datetime
_Date = datetime_module.date
_real_sleep = time_module.sleep
_real_localtime = time_module.localtime
_real_gmtime = time_module.gmtime
_real_seed = random_module.Random.seed
_START = _Datetime(1970, 1, 1, tzinfo=datetime_module.UTC)


class VirtualClock:
    """One simulation's time and chance, lent to user code.

    Attach it for the time of the simulation: patches are in place while its scheduler has tasks, and as long as it
    is installed (``with clock:`` or ``with clock.install():``), when plain code in this thread sees them, too.
    """

    def __init__(self, scheduler: Scheduler, choices: Choices, epoch_us: int = EPOCH_US) -> None:
        self.scheduler = scheduler
        self.choices = choices
        self.epoch_us = epoch_us
        self.installed = 0
        self.thread_id = 0
        self._attached = False
        scheduler.on_first_task.append(self._attach)
        scheduler.on_last_task.append(self._detach)
        if scheduler.tasks:
            self._attach()

    def __enter__(self) -> VirtualClock:
        self.thread_id = get_ident()
        self.installed += 1
        _patches.acquire(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.installed -= 1
        _patches.release(self)

    @contextmanager
    def install(self) -> Iterator[VirtualClock]:
        """The same as ``with clock:``."""
        with self:
            yield self

    def _attach(self) -> None:
        if not self._attached:
            self._attached = True
            _patches.acquire(self)

    def _detach(self) -> None:
        if self._attached:
            self._attached = False
            _patches.release(self)

    # -- what user code sees ------------------------------------------------------------------

    def read_us(self) -> int:
        """Microseconds since 1970, as a reading that user code pays for."""
        self.scheduler.tick_clock()
        task = self.scheduler.current()
        offset_us = 0 if task is None else task.host.clock_offset_us
        return self.epoch_us + self.scheduler.kernel.now_us + offset_us

    def read_uptime_us(self) -> int:
        """Microseconds of a monotonic clock, paid for likewise."""
        self.scheduler.tick_clock()
        return UPTIME_US + self.scheduler.kernel.now_us

    def sleep(self, seconds: float) -> None:
        """``time.sleep`` in virtual time."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        duration_us = round(seconds * 1e6)
        if duration_us == 0:
            self.scheduler.tick(fruitless=True)
        self.scheduler.sleep_us(duration_us)


def _active() -> VirtualClock | None:
    """The clock that the calling code lives under."""
    clocks = _patches.clocks
    thread_id = get_ident()
    for clock in clocks:
        scheduler = clock.scheduler
        if scheduler.current() is not None and scheduler.thread_id == thread_id:
            return clock
    for clock in clocks:
        if clock.installed and clock.thread_id == thread_id:
            return clock
    return None


def _active_scheduler() -> Scheduler | None:
    clock = _active()
    return None if clock is None else clock.scheduler


# -- replacements: time -----------------------------------------------------------------------


def _sleep(seconds: float, /) -> None:
    clock = _active()
    if clock is None:
        _real_sleep(seconds)
    else:
        clock.sleep(seconds)


def _reading(real: Callable[[], Any], virtual: Callable[[VirtualClock], Any]) -> Callable[[], Any]:
    def read() -> Any:
        clock = _active()
        return real() if clock is None else virtual(clock)

    return _like(read, real)


def _with_time(real: Callable[..., Any], position: int, make: Callable[[float], Any]) -> Any:
    """A function of ``time`` whose last argument defaults to now."""

    def call(*args: Any) -> Any:
        if len(args) == position or (len(args) == position + 1 and args[position] is None):
            clock = _active()
            if clock is not None:
                return real(*args[:position], make(clock.read_us() / 1e6))
        return real(*args)

    return _like(call, real)


def _seconds(now: float) -> float:
    return now


# -- replacements: datetime -------------------------------------------------------------------


class _LentMeta(type):
    """Makes a lent class stand for the real one in isinstance and issubclass."""

    _real: type

    def __instancecheck__(cls, instance: object) -> bool:
        if "_real" in cls.__dict__:
            return isinstance(instance, cls._real)
        return type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if "_real" in cls.__dict__:
            return issubclass(subclass, cls._real)
        return type.__subclasscheck__(cls, subclass)


def _moment(clock: VirtualClock, tz: datetime_module.tzinfo | None) -> _Datetime:
    moment = _START + datetime_module.timedelta(microseconds=clock.read_us())
    return moment.astimezone().replace(tzinfo=None) if tz is None else moment.astimezone(tz)


class _LentDatetime(_Datetime, metaclass=_LentMeta):
    """``datetime.datetime`` while patched; what it makes are real datetimes."""

    _real = _Datetime

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is _LentDatetime:
            return _Datetime(*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    @classmethod
    def now(cls, tz: datetime_module.tzinfo | None = None) -> Any:
        clock = _active()
        return _own(cls, _Datetime.now(tz) if clock is None else _moment(clock, tz))

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return _own(cls, cls.now(datetime_module.UTC).replace(tzinfo=None))


class _LentDate(_Date, metaclass=_LentMeta):
    """``datetime.date`` while patched."""

    _real = _Date

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is _LentDate:
            return _Date(*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    @classmethod
    def today(cls) -> Any:
        clock = _active()
        today = _Date.today() if clock is None else _moment(clock, None).date()
        return today if cls is _LentDate else cls(today.year, today.month, today.day)


for _lent, _real in ((_LentDatetime, _Datetime), (_LentDate, _Date)):
    # Lent under the real name: that is where pickle finds it, and what error messages should say.
    _lent.__module__, _lent.__qualname__, _lent.__name__ = "datetime", _real.__name__, _real.__name__


def _own(cls: type[_Datetime], moment: _Datetime) -> _Datetime:
    """The moment as an object of the user's own subclass, if it is one."""
    if cls is _LentDatetime:
        return moment
    return cls(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        moment.tzinfo,
        fold=moment.fold,
    )


def _reduce_as(lent: type) -> Callable[[Any], tuple[Any, ...]]:
    """How pickle and copy take a real object apart while its class's name means the lent one.

    They look the class up by its name and insist on finding it: so it has to be the lent class. The stream says
    ``datetime.datetime(...)`` as ever, and can be read with and without the patch.
    """

    def reduce(value: Any) -> tuple[Any, ...]:
        return (lent, *value.__reduce_ex__(4)[1:])

    return reduce


# -- replacements: random and uuid ------------------------------------------------------------


def _drawn(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        clock = _active()
        if clock is None:
            return real(*args, **kwargs)
        return getattr(clock.choices.random_for("user.random"), name)(*args, **kwargs)

    return _like(call, real)


def _seed(self: random_module.Random, a: Any = None, version: int = 2) -> None:
    """``random.Random.seed``, which its constructor calls: without a seed it takes one from the choices."""
    if a is None and not isinstance(self, random_module.SystemRandom):
        clock = _active()
        if clock is not None:
            a = clock.choices.entropy("user.Random")
    _real_seed(self, a, version)


def _uuid4() -> uuid_module.UUID:
    clock = _active()
    if clock is None:
        return _real_uuid4()
    return uuid_module.UUID(bytes=clock.choices.bytes("user.uuid", 16), version=4)


def _uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid_module.UUID:
    clock = _active()
    if clock is None:
        return _real_uuid1(node, clock_seq)
    # RFC 9562: 100 ns ticks since 1582-10-15. The sequence is drawn, so that two in one tick differ.
    ticks = clock.read_us() * 10 + 0x01B21DD213814000
    if clock_seq is None:
        clock_seq = clock.choices.draw("user.uuid", 1 << 14)
    if node is None:
        node = 0x02_00_00_00_00_00 | (clock.choices.seed & 0xFFFFFFFF)
    fields = (
        ticks & 0xFFFFFFFF,
        ticks >> 32 & 0xFFFF,
        ticks >> 48 & 0x0FFF,
        clock_seq >> 8 & 0x3F,
        clock_seq & 0xFF,
        node,
    )
    return uuid_module.UUID(fields=fields, version=1)


_real_uuid1, _real_uuid4 = uuid_module.uuid1, uuid_module.uuid4


def _like(function: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Name a replacement as what it replaces."""
    name = getattr(real, "__name__", "replacement")
    function.__name__ = function.__qualname__ = name
    function.__doc__ = real.__doc__
    return function


# -- installing -------------------------------------------------------------------------------


def _replacements() -> list[tuple[ModuleType, str, Any]]:
    """Everything that is replaced: where it lives, its name, and by what. Made once a process."""
    time = time_module
    found: list[tuple[ModuleType, str, Any]] = [
        (time, "sleep", _like(_sleep, time.sleep)),
        (time, "time", _reading(time.time, lambda clock: clock.read_us() / 1e6)),
        (time, "time_ns", _reading(time.time_ns, lambda clock: clock.read_us() * 1000)),
    ]
    for name in ("monotonic", "perf_counter"):
        real, real_ns = getattr(time, name), getattr(time, name + "_ns")
        read = _reading(real, lambda clock: clock.read_uptime_us() / 1e6)
        read_ns = _reading(real_ns, lambda clock: clock.read_uptime_us() * 1000)
        found += [(time, name, read), (time, name + "_ns", read_ns)]
    found += [
        (time, "localtime", _with_time(time.localtime, 0, _seconds)),
        (time, "gmtime", _with_time(time.gmtime, 0, _seconds)),
        (time, "ctime", _with_time(time.ctime, 0, _seconds)),
        (time, "asctime", _with_time(time.asctime, 0, _real_localtime)),
        (time, "strftime", _with_time(time.strftime, 1, _real_localtime)),
        (datetime_module, "datetime", _LentDatetime),
        (datetime_module, "date", _LentDate),
        (uuid_module, "uuid4", _like(_uuid4, _real_uuid4)),
        (uuid_module, "uuid1", _like(_uuid1, _real_uuid1)),
    ]
    for name in random_module.__all__:
        real = getattr(random_module, name)
        if getattr(real, "__self__", None) is random_module._inst:
            found.append((random_module, name, _drawn(name, real)))
    monotonic = next(lent for module, name, lent in found if name == "monotonic")
    return found + threads.replacements(_active_scheduler, monotonic, _patches.add)


class _Patches:
    """Puts the replacements in place when the first clock needs them, and takes all back after the last."""

    def __init__(self) -> None:
        self.clocks: tuple[VirtualClock, ...] = ()  # The innermost first.
        self._holds: list[VirtualClock] = []
        self._replacements: list[tuple[ModuleType, str, Any]] = []
        self._home: list[tuple[ModuleType, str, Any]] = []
        self._by_real: dict[int, Any] = {}
        self._by_lent: dict[int, Any] = {}
        self._reducers: dict[type, Any] = {}
        self._interesting: dict[int, Any] = {}
        # By module name: the module, its size when it was looked at, and which names held something of ours.
        self._looked_at: dict[str, tuple[ModuleType, int, list[str]]] = {}

    def acquire(self, clock: VirtualClock) -> None:
        self._holds.append(clock)
        self._renew()
        if len(self._holds) == 1:
            self._install()

    def release(self, clock: VirtualClock) -> None:
        self._holds.remove(clock)
        self._renew()
        if not self._holds:
            self._uninstall()

    def _renew(self) -> None:
        self.clocks = tuple(dict.fromkeys(reversed(self._holds)))

    def _install(self) -> None:
        if not self._replacements:
            self._replacements = _replacements()
        self._home.clear()
        self._by_real.clear()
        self._by_lent.clear()
        self._lend(self._replacements)
        self._swap(self._by_real)
        cast(Any, random_module.Random).seed = _seed
        for real, lent in ((_Datetime, _LentDatetime), (_Date, _LentDate)):
            self._reducers[real] = copyreg.dispatch_table.get(real)
            copyreg.pickle(cast(Any, real), cast(Any, _reduce_as(lent)))

    def add(self, replacements: list[tuple[Any, str, Any]]) -> None:
        """Replace more, now and from now on: of a module that was not loaded before."""
        self._replacements += replacements
        self._lend(replacements)

    def _lend(self, replacements: list[tuple[ModuleType, str, Any]]) -> None:
        for module, name, lent in replacements:
            real = getattr(module, name)  # As found: somebody else may have replaced it before.
            self._home.append((module, name, real))
            self._by_real[id(real)] = lent
            self._by_lent[id(lent)] = real
            self._interesting[id(real)] = real
            self._interesting[id(lent)] = lent
        for module, name, lent in replacements:
            setattr(module, name, lent)

    def _uninstall(self) -> None:
        for kind, reducer in self._reducers.items():
            if reducer is None:
                copyreg.dispatch_table.pop(kind, None)
            else:
                copyreg.dispatch_table[kind] = reducer
        self._reducers.clear()
        cast(Any, random_module.Random).seed = _real_seed
        for module, name, real in self._home:
            setattr(module, name, real)
        self._swap(self._by_lent)  # Also in modules that were imported meanwhile.

    def _swap(self, table: dict[int, Any]) -> None:
        """Replace what modules have imported by name: ``from time import sleep``."""
        for module_name, module in list(sys.modules.items()):
            names = self._names_in(module_name, module)
            if not names:
                continue
            namespace = vars(module)
            for name in names:
                value = namespace.get(name)
                other = table.get(id(value))
                if other is not None:
                    namespace[name] = other

    def _names_in(self, module_name: str, module: Any) -> list[str] | None:
        """The names of a module that hold something real or lent of ours; a module is read again when it has grown."""
        if type(module) is not ModuleType:
            return None
        namespace = module.__dict__
        known = self._looked_at.get(module_name)
        if known is not None and known[0] is module and known[1] == len(namespace):
            return known[2]
        names: list[str] = []
        root = module_name.partition(".")[0]
        # ``__main__`` counts as user code: it is in neither list.
        if root not in _KEEP_REAL and root not in sys.stdlib_module_names:
            interesting = self._interesting
            names = [name for name, value in namespace.items() if id(value) in interesting]
        self._looked_at[module_name] = (module, len(namespace), names)
        return names


_patches = _Patches()
